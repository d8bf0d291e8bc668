"""A task as its file describes it, and its rows."""

from pathlib import Path
from typing import Any

from amalgam.tasks.columns import TaskRows, load_task_rows
from amalgam.tasks.schema import Task


def describe_task(*labels: str, **changes: Any) -> dict[str, Any]:
    """Describe a valid task with these labels, whose codes are in a file in its folder."""
    described = [
        {"name": one, "definition": f"It is {one}.", "examples": [f"So {one}."], "personas": [f"a {one} guest", "x"]}
        for one in labels
    ]
    head = {"title": "A toy?", "response": "comment", "licence": "CC0-1.0", "citation": "Invented.", "ordinal": False}
    source = {"kind": "file", "files": ["a.csv"], "obtain": "write it"}
    return head | {"name": "small", "scenarios": ["A guest."], "labels": described, "source": source} | changes


def make_task(columns: dict[str, Any] | None = None, **source: Any) -> Task:
    """Make a task with the labels `no` and `yes`."""
    source = {"kind": "file", "obtain": "write it", "files": ["a.csv"], **source}
    return Task.model_validate(describe_task("no", "yes", source=source, columns=columns or {}))


def load_rows(folder: Path, text: str, columns: dict[str, Any] | None = None, **source: Any) -> TaskRows:
    """Load the rows of a CSV table as the rows of such a task."""
    (folder / "a.csv").write_text(text, encoding="utf-8")
    return load_task_rows(make_task(columns, **source), folder, folder / "cache")
