"""What the tests of prompts share: invented train rows, params, and a task with attributes."""

from pathlib import Path
from typing import Any

import pandas as pd

from amalgam.params import Prompts
from amalgam.synthesis.prompts import build_prompts
from amalgam.synthesis.templates import load_template
from amalgam.tasks.schema import Task

TEMPLATES = Path(__file__).parents[2] / "data" / "templates"
PARAMS = Prompts(seed=7, template="chat", shots=3, responses=1, format="text")


def make_train(task: Task, count: int, questions: tuple[str, ...] = ("",)) -> pd.DataFrame:
    """Make `count` rows a label, in turn, each label's questions in turn as well."""
    rows = [
        {
            "id": f"{label}{number}",
            "text": f"text {label} {number}",
            "question": questions[number % len(questions)],
            "label": label,
        }
        for number in range(count)
        for label in task.label_names
    ]
    return pd.DataFrame(rows, columns=["id", "text", "question", "label"])


def change(**values: Any) -> Prompts:
    return Prompts.model_validate({**PARAMS.model_dump(), **values})


def build(task: Task, train: pd.DataFrame, params: Prompts = PARAMS, rows: int = 1) -> list[dict[str, Any]]:
    return list(build_prompts(task, train, load_template(params.template, [TEMPLATES]), params, rows))


def vary(task: Task) -> Task:
    """Give the task attributes, and its label `good` one more and another."""
    good = {"length": ["long"], "subject": ["bread", "coffee"]}
    labels = [label.model_dump() | {"attributes": good if label.name == "good" else {}} for label in task.labels]
    attributes = {"length": ["a few words", "one sentence"], "mistakes": ["none", "some"]}
    return Task.model_validate({**task.model_dump(), "labels": labels, "prompts": {"attributes": attributes}})
