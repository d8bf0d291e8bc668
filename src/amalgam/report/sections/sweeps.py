"""What single params do: the learning curve, the ratio curve and their like, from experiments beside this run."""

from typing import Any

from amalgam.report.charts.sweeps import draw_sweep
from amalgam.report.content import Content
from amalgam.report.figures import build_figure
from amalgam.report.phrases import MODEL_NAMES, format_interval, format_number, format_share
from amalgam.report.sweeps import LIKENESS
from amalgam.report.tables.table import Cell, Table

_TITLES = {
    "ratio": "Synthetic share of the training rows",
    "human_rows": "Human-coded rows",
    "synthesis.temperature": "Temperature",
}
_MODELS = ("teacher", "student", "human_only")


def build_sweeps(content: Content) -> dict[str, Any] | None:
    """Draw a chart for each param of which the run has experiments."""
    confidence = format_share(content.params["evaluation"]["confidence"])
    figures = []
    for number, (key, points) in enumerate(content.sweeps.items()):
        rows = [point for point in points if point["model"] in _MODELS]
        if len({row["x"] for row in rows}) < 2:
            continue
        title = _TITLES.get(key, key)
        caption = f"AUC by {key}, with {confidence} intervals. All else is as in this run.{_phrase_guard(rows)}"
        figures.append(
            build_figure(f"sweep-{number}", f"AUC by {key}", caption, draw_sweep(rows, title), _tabulate(rows, key))
        )
    likeness = [tabulate_likeness(points, key) for key, points in content.likeness.items()]
    return {"figures": figures, "likeness": likeness} if figures or likeness else None


def tabulate_likeness(points: list[dict[str, float]], key: str) -> Table:
    """Put what the synthetic rows were like, by the value of one param, into a table."""
    measures = {name: title for name, title in LIKENESS.items() if any(name in point for point in points)}
    rows = [
        (
            Cell(f"{point['x']:g}"),
            [Cell(f"{point[name]:.4g}" if name in point else "") for name in measures],
        )
        for point in points
    ]
    title = _TITLES.get(key, key)
    return Table(
        f"What the synthetic rows are like, by {title[0].lower()}{title[1:]}", key, list(measures.values()), rows
    )


def _name_model(point: dict[str, Any]) -> str:
    name = MODEL_NAMES[point["model"]]
    return f"{name}, synthetic rows left out" if point["left_out"] and point["model"] != "human_only" else name


def _phrase_guard(points: list[dict[str, Any]]) -> str:
    """Say at which values the guard left the synthetic rows out, or "" where it did not."""
    values = ", ".join(f"{x:g}" for x in sorted({point["x"] for point in points if point["left_out"]}))
    if not values:
        return ""
    return (
        f" At {values} the guard left the synthetic rows out, so teacher and student learned the human rows alone; "
        "`teacher.guard: false` shows what the rows would have done."
    )


def _tabulate(points: list[dict[str, Any]], key: str) -> Table:
    rows = [
        (
            Cell(f"{point['x']:g}"),
            [Cell(_name_model(point)), Cell(format_number(point["auc"]), format_interval(point, "auc"))],
        )
        for point in points
    ]
    return Table(f"AUC by {key}", key, ["Model", "AUC"], rows)
