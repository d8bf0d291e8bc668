"""For whom the models work, and when."""

from collections.abc import Iterator, Mapping
from typing import Any

from amalgam.report.charts.intervals import draw_intervals
from amalgam.report.charts.style import MODEL_LOOKS
from amalgam.report.content import Content
from amalgam.report.figures import Figure, build_figure
from amalgam.report.phrases import MODEL_NAMES, Numbers, format_share
from amalgam.report.tables.groups import tabulate_periods, tabulate_subgroups

_METRICS = {"auc": "AUC", "fpr": "False positive rate"}
_MOST = 12  # subgroups of one column that are drawn; the table has all
_LONGEST = 24  # characters of a subgroup's name in a chart


def build_groups(content: Content) -> dict[str, Any] | None:
    """Collect charts and tables by subgroup and by period."""
    subgroups, periods = content.subgroups.get("subgroups", {}), content.periods.get("periods", {})
    if not subgroups and not periods:
        return None
    confidence = format_share(content.params["evaluation"]["confidence"])
    return {
        "subgroups": [
            {
                "figures": list(_draw_groups(f"group-{number}", column, groups, confidence)),
                "table": tabulate_subgroups(groups, column),
                "small": [name for name, values in groups.items() if values.get("small")],
            }
            for number, (column, groups) in enumerate(subgroups.items())
        ],
        "periods": {
            "figures": list(_draw_groups("period", "period", periods, confidence)),
            "table": tabulate_periods(periods),
        }
        if periods
        else None,
    }


def _draw_groups(key: str, column: str, groups: Mapping[str, Numbers], confidence: str) -> Iterator[Figure]:
    drawn = dict([(name, values) for name, values in groups.items() if not values.get("small")][:_MOST])
    for metric, title in _METRICS.items():
        rows = [
            {
                "name": _shorten(name),
                "series": MODEL_NAMES[model],
                "value": values[model][metric],
                "low": values[model][f"{metric}_low"],
                "high": values[model][f"{metric}_high"],
            }
            for name, values in drawn.items()
            for model in MODEL_NAMES
            if f"{metric}_low" in values.get(model, {})
        ]
        if rows:
            found = {row["series"] for row in rows}
            looks = {name: look for name, look in MODEL_LOOKS.items() if name in found}
            caption = f"{title} by {column}, with {confidence} intervals."
            if len(drawn) < sum(not values.get("small") for values in groups.values()):
                caption += f" The first {len(drawn)}; the table has all."
            yield build_figure(f"{key}-{metric}", f"{title} by {column}", caption, draw_intervals(rows, looks, title))


def _shorten(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
