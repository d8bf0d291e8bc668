"""What the models get wrong."""

from typing import Any

from amalgam.report.content import Content
from amalgam.report.phrases import MODEL_NAMES
from amalgam.report.tables.models import tabulate_confusion


def build_mistakes(content: Content) -> dict[str, Any] | None:
    """Collect the confusion matrices and the test rows that the student gets wrong."""
    lines = content.plots.get("confusion", ())
    found = {line["model"] for line in lines}
    confusions = [tabulate_confusion(lines, model, list(content.labels)) for model in MODEL_NAMES if model in found]
    if not confusions and content.mistakes is None:
        return None
    return {"confusions": confusions, "browser": content.mistakes}
