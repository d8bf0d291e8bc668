"""The page: from plain values to one HTML document that needs nothing else."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from operator import itemgetter
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from amalgam.report import charts, tables
from amalgam.report.phrases import (
    MODEL_NAMES,
    MODEL_NOTES,
    REASON_NAMES,
    Numbers,
    format_count,
    format_number,
    format_share,
    phrase_verdict,
)

Rows = Sequence[Mapping[str, Any]]

_UNSAFE_IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Content:
    """All that the page says, as the metrics files and tables of the run hold it.

    `labels` maps each label to its definition, in class order. `plots` holds the rows of metrics/plots by name.
    `kept` and `rejected` are the samples of synthetic rows to show; rejected ones have a `reason`.
    """

    title: str
    response: str
    licence: str
    citation: str
    labels: Mapping[str, str]
    params: Numbers
    models: Numbers
    comparisons: Numbers
    data: Numbers
    synthetic: Numbers
    training: Numbers
    speed: Numbers
    plots: Mapping[str, Rows]
    kept: Rows
    rejected: Rows
    base_models: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Figure:
    """A chart, what it shows, and the file with its numbers."""

    caption: str
    spec: charts.Spec
    source: str


def build_page(content: Content, library: str) -> str:
    """Build the report.

    Every text from data or an LLM is escaped. A content security policy lets only this page's own scripts run, by
    hash, and no connection be opened.

    Args:
        content: what the page says.
        library: the JavaScript that defines `vegaEmbed`; see `load_library`.
    """
    scripts = [_close_script(library), _read("page.js")]
    style = _read("style.css")
    environment = Environment(
        loader=PackageLoader("amalgam.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": format_count, "number": format_number, "share": format_share, "json": _escape_json}
    labels = list(content.labels)
    return environment.get_template("template.html.j2").render(
        content=content,
        verdict=phrase_verdict(content.params, content.models, content.comparisons, content.speed),
        reasons=REASON_NAMES,
        results=_tabulate_results(content),
        models={MODEL_NAMES[name]: note for name, note in MODEL_NOTES.items() if name in content.models},
        confusions=[
            tables.tabulate_confusion(content.plots["confusion"], model, labels) for model in ("teacher", "student")
        ],
        human_rows=tables.tabulate_human_rows(content.data, labels),
        curation=tables.tabulate_curation(content.synthetic["synthesis"]),
        kept_by_label=tables.tabulate_kept(content.synthetic["synthesis"]),
        costs=tables.tabulate_cost(content.synthetic, content.training, content.speed),
        params=tables.tabulate_params(content.params),
        base_models={name: tables.flatten_values(values) for name, values in content.base_models.items()},
        gains=_draw_gains(content),
        curves=_draw_curves(content),
        policy=_write_policy(scripts, style),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
    )


def load_library() -> str:
    """Return vega-embed with all that it needs, as one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def pick_rows(rows: Iterable[Mapping[str, Any]], column: str, limit: int) -> list[Mapping[str, Any]]:
    """Pick up to `limit` rows, taking turns between the values of `column`, in their order; streams."""
    turns: Counter[Any] = Counter()
    ranked: list[tuple[int, int, Mapping[str, Any]]] = []
    for place, row in enumerate(rows):
        turns[row[column]] += 1
        if turns[row[column]] <= limit:
            ranked.append((turns[row[column]], place, row))
    chosen = sorted(ranked, key=itemgetter(0, 1))[:limit]
    return [row for _, _, row in sorted(chosen, key=itemgetter(1))]


def _tabulate_results(content: Content) -> list[tables.Table]:
    results = [tables.tabulate_models(content.models, "Human-coded test rows")]
    if "transfer_test" in content.models:
        caption = "Transfer test: human-coded answers to another question than the models were trained on"
        results.append(tables.tabulate_models(content.models["transfer_test"], caption))
    return results


def _draw_gains(content: Content) -> _Figure:
    confidence = format_share(content.params["evaluation"]["confidence"])
    caption = (
        f"Paired differences on the same test rows and seeds, with {confidence} intervals. "
        "Right of zero, the model named first is better."
    )
    return _Figure(caption, charts.draw_gains(content.comparisons), "metrics/comparisons.json")


def _draw_curves(content: Content) -> list[_Figure]:
    roc, calibration, training = (
        [dict(row) for row in content.plots[name]] for name in ("roc", "calibration", "training")
    )
    curves = {label: [row for row in roc if row["label"] == label] for label in content.labels}
    figures = [
        _Figure(f"ROC for “{label}”, mean over seeds.", charts.draw_roc(rows, label), "metrics/plots/roc.csv")
        for label, rows in curves.items()
        if rows
    ]
    caption = (
        "Calibration: how often a prediction of that confidence is right. "
        "On the dotted line, confidence is what it claims to be."
    )
    figures.append(_Figure(caption, charts.draw_calibration(calibration), "metrics/plots/calibration.csv"))
    return figures + [
        _Figure(
            f"Training of the {model}: loss on training and validation rows, a line a seed.",
            charts.draw_training(training, model),
            "metrics/plots/training.csv",
        )
        for model in ("teacher", "student")
    ]


def _escape_json(value: Any) -> Markup:
    """Write JSON that no HTML parser can take for markup, to stand inside a script element."""
    return Markup(json.dumps(value, ensure_ascii=False, allow_nan=False).translate(_UNSAFE_IN_SCRIPT))


def _close_script(script: str) -> str:
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _write_policy(scripts: list[str], style: str) -> str:
    allowed = " ".join(_hash_source(script) for script in scripts)
    rules = ["default-src 'none'", f"script-src {allowed}", f"style-src {_hash_source(style)}"]
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return files("amalgam.report").joinpath(name).read_text(encoding="utf-8")
