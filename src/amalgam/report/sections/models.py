"""All models and their metrics."""

from typing import Any

from amalgam.report.content import Content
from amalgam.report.phrases import MODEL_NAMES, MODEL_NOTES
from amalgam.report.tables.models import tabulate_models


def build_models(content: Content) -> dict[str, Any]:
    """Collect the tables of metrics and what each model is."""
    results = [tabulate_models(content.models, "Human-coded test rows")]
    if "transfer_test" in content.models:
        caption = "Transfer test: human-coded answers to another question than the models were trained on"
        results.append(tabulate_models(content.models["transfer_test"], caption))
    return {
        "results": results,
        "notes": {MODEL_NAMES[name]: note for name, note in MODEL_NOTES.items() if name in content.models},
        "ceiling": content.ceiling.get("human_ceiling"),
    }
