"""The page: from plain values to one HTML document that needs nothing else."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from amalgam.report.content import Content
from amalgam.report.phrases import format_count, format_number, format_share
from amalgam.report.sections.cost import build_cost
from amalgam.report.sections.curves import build_curves
from amalgam.report.sections.groups import build_groups
from amalgam.report.sections.human import build_human
from amalgam.report.sections.mistakes import build_mistakes
from amalgam.report.sections.models import build_models
from amalgam.report.sections.run import build_run
from amalgam.report.sections.sweeps import build_sweeps
from amalgam.report.sections.synthetic import build_synthetic
from amalgam.report.sections.verdict import build_verdict


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    title: str
    values: dict[str, Any]


_SECTIONS: dict[str, tuple[str, Callable[[Content], dict[str, Any] | None]]] = {
    "verdict": ("Verdict", build_verdict),
    "models": ("Models", build_models),
    "curves": ("Curves", build_curves),
    "sweeps": ("Params compared", build_sweeps),
    "mistakes": ("Mistakes", build_mistakes),
    "groups": ("For whom", build_groups),
    "synthetic": ("Synthetic rows", build_synthetic),
    "human": ("Human rows", build_human),
    "cost": ("Cost and time", build_cost),
    "run": ("What was run", build_run),
}


def build_page(content: Content) -> str:
    """Build the report.

    Every text from data or an LLM is escaped. A content security policy lets only this page's own script and style
    run, by hash, and no connection be opened.
    """
    script, style = _read("page.js"), _read("style.css")
    environment = Environment(
        loader=PackageLoader("amalgam.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": format_count, "number": format_number, "share": format_share}
    sections = [
        _Section(name, title, values)
        for name, (title, build) in _SECTIONS.items()
        if (values := build(content)) is not None
    ]
    return environment.get_template("page.html.j2").render(
        content=content,
        sections=sections,
        policy=_write_policy(script, style),
        style=Markup(style),
        script=Markup(script),
    )


def _write_policy(script: str, style: str) -> str:
    rules = ["default-src 'none'", f"script-src {_hash_source(script)}", f"style-src {_hash_source(style)}"]
    return "; ".join([*rules, "img-src data:", "base-uri 'none'", "form-action 'none'"])


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return files("amalgam.report").joinpath(name).read_text(encoding="utf-8")
