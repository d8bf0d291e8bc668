"""The human-coded rows."""

from typing import Any

from amalgam.report.content import Content
from amalgam.report.tables.rows import tabulate_human_rows


def build_human(content: Content) -> dict[str, Any]:
    """Collect the count of rows, and how well two raters agree."""
    name = "rater_quadratic_kappa" if "rater_quadratic_kappa" in content.data else "rater_kappa"
    metric = name.removeprefix("rater_")
    return {
        "table": tabulate_human_rows(content.data, list(content.labels)),
        "kappa_name": metric.replace("_", " "),
        "rater_kappa": content.data.get(name),
        "teacher_kappa": content.models["teacher"].get(metric),
    }
