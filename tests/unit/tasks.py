"""A task as its file describes it."""

from typing import Any


def describe_task(*labels: str, **changes: Any) -> dict[str, Any]:
    """Describe a valid task with these labels, which a file of its own folder codes."""
    described = [
        {"name": one, "definition": f"It is {one}.", "examples": [f"So {one}."], "personas": [f"a {one} guest", "x"]}
        for one in labels
    ]
    head = {"title": "A toy?", "response": "comment", "licence": "CC0-1.0", "citation": "Invented.", "ordinal": False}
    source = {"kind": "file", "files": ["a.csv"], "obtain": "write it"}
    return head | {"name": "small", "scenarios": ["A guest."], "labels": described, "source": source} | changes
