"""What the run took."""

from typing import Any

from amalgam.report.content import Content
from amalgam.report.tables.cost import tabulate_requests, tabulate_speed, tabulate_training_runs


def build_cost(content: Content) -> dict[str, Any]:
    """Collect requests, time, size and training runs."""
    return {
        "requests": tabulate_requests(content.cost) if content.cost else None,
        "speed": tabulate_speed(content.speed),
        "runs": tabulate_training_runs(content.training),
    }
