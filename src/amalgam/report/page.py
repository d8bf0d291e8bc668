"""Build the page: plain values become one HTML document that needs nothing else."""

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from amalgam.evaluation.predictions import MODEL_NAMES
from amalgam.report import content as texts
from amalgam.report.content import Content
from amalgam.report.models import build_curves, build_groups, build_models, build_verdict
from amalgam.report.rows import SHARE_NAMES, build_mistakes, build_synthetic

# Title and values of each section; its template has the same name. A section without values is left out.
_SECTIONS: dict[str, tuple[str, Callable[[Content], dict[str, Any] | None]]] = {
    "verdict": ("Verdict", build_verdict),
    "models": ("Models", build_models),
    "curves": ("Curves", build_curves),
    "mistakes": ("Mistakes", build_mistakes),
    "groups": ("Subgroups and periods", build_groups),
    "synthetic": ("Synthetic rows", build_synthetic),
    "human": ("Human rows", lambda _: {}),
    "cost": ("Cost and time", lambda _: {}),
    "run": ("What was run", lambda _: {}),
}
_LOADER = PackageLoader("amalgam.report")
_ENVIRONMENT = Environment(
    loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_FILTERS = ("count", "difference", "interval", "number", "share")
_ENVIRONMENT.filters |= {name: getattr(texts, f"format_{name}") for name in _FILTERS}
_ENVIRONMENT.filters |= {"flatten": texts.flatten, "value": texts.write_value}
_ENVIRONMENT.globals |= {"model_names": MODEL_NAMES, "share_names": SHARE_NAMES}


def build_page(content: Content) -> str:
    """Build the report.

    Every text from data or an LLM is escaped. A content security policy allows only this page's own script and style,
    by hash, and no connection.
    """
    script, style = (files("amalgam.report").joinpath(name).read_text("utf-8") for name in ("page.js", "style.css"))
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style))
    sources = [f"{kind}-src 'sha256-{digest}'" for kind, digest in zip(("script", "style"), digests, strict=True)]
    policy = ["default-src 'none'", *sources, "img-src data:", "base-uri 'none'", "form-action 'none'"]
    written = [(name, title, write_section(name, content)) for name, (title, _) in _SECTIONS.items()]
    return _ENVIRONMENT.get_template("page.html.j2").render(
        title=content.title,
        sections=[section for section in written if section[2]],
        policy="; ".join(policy),
        style=Markup(style),
        script=Markup(script),
    )


def write_section(name: str, content: Content) -> Markup:
    """Write one section as HTML, or nothing if the run has no values for it."""
    values = _SECTIONS[name][1](content)
    if values is None:
        return Markup()
    template = _ENVIRONMENT.get_template(f"{name}.html.j2")
    return Markup(template.render(content=content, metrics=content.metrics, params=content.params, values=values))
