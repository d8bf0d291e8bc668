"""What the LLM wrote, and how it differs from what people wrote."""

from typing import Any

from amalgam.report.charts.synthetic import draw_distances, draw_drift
from amalgam.report.content import Content
from amalgam.report.figures import Figure, build_figure
from amalgam.report.phrases import Numbers, format_interval, format_number
from amalgam.report.tables.rows import tabulate_curation, tabulate_kept
from amalgam.report.tables.synthetic import SHARES, tabulate_distances, tabulate_statistics


def build_synthetic(content: Content) -> dict[str, Any]:
    """Collect what became of the responses, how they differ from human rows, and the rows themselves."""
    statistics = content.synthetic.get("synthetic", {})
    return {
        "curation": tabulate_curation(content.synthetic["synthesis"]),
        "kept_by_label": tabulate_kept(content.synthetic["synthesis"]),
        "statistics": tabulate_statistics(statistics) if statistics else None,
        "two_sample": phrase_two_sample(statistics),
        "figures": [*_draw_drift(statistics), *_draw_distances(content, statistics)],
        "browser": content.synthetic_rows,
    }


def phrase_two_sample(statistics: Numbers) -> str:
    """Say how well a classifier tells synthetic from human rows."""
    if "two_sample_auc" not in statistics:
        return ""
    value, interval = statistics["two_sample_auc"], format_interval(statistics, "two_sample_auc")
    low = statistics.get("two_sample_auc_low", value)
    view = "can tell" if low > 0.5 else "cannot tell"
    return (
        f"A classifier {view} synthetic from human rows: AUC {format_number(value)}"
        f"{f' ({interval})' if interval else ''}, where 0.5 is guessing."
    )


def _draw_drift(statistics: Numbers) -> list[Figure]:
    rows = [
        {"name": name, "human": statistics[f"human_{key}"], "synthetic": statistics[key]}
        for key, name in SHARES.items()
        if key in statistics and f"human_{key}" in statistics
    ]
    if not rows:
        return []
    caption = "Synthetic beside human rows; the longer the line, the more they differ."
    return [build_figure("drift", "Synthetic beside human rows", caption, draw_drift(rows))]


def _draw_distances(content: Content, statistics: Numbers) -> list[Figure]:
    distances = statistics.get("mmd", {})
    names = {key: "All rows" if key == "all" else key for key in ("all", *content.labels) if key in distances}
    if not names:
        return []
    rows = [{"name": name, **distances[key]} for key, name in names.items()]
    caption = "Distance between the embeddings of synthetic and human rows. Beyond the limit it is more than chance."
    numbers = tabulate_distances(statistics, names)
    return [build_figure("distances", "Distance of synthetic from human rows", caption, draw_distances(rows), numbers)]
