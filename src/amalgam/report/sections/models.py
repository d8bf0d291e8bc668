"""All models and their metrics."""

from typing import Any

from amalgam.report.content import Content
from amalgam.report.phrases import MODEL_NAMES, MODEL_NOTES, Numbers, format_count
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
        "grader": phrase_grader(content.data.get("grader", {})),
        "ceiling": content.ceiling.get("human_ceiling"),
    }


def phrase_grader(counts: Numbers) -> str:
    """Say what became of the grades of the LLM that could not be read, of the test rows of all sets."""
    rows, unread = counts.get("rows", 0), counts.get("unparsed", 0)
    if not unread:
        return ""
    if unread == rows:
        return f"The LLM as grader gave no readable grade of {format_count(rows)} rows, so it has no score."
    most = "most" if 2 * unread > rows else "some"
    return (
        f"The LLM as grader gave no readable grade of {most} rows, {format_count(unread)} of {format_count(rows)}: "
        "there, its scores take every label as equally likely."
    )
