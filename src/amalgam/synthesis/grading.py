"""The LLM as a grader: it puts a label on a response by the rubric, as JSON that a schema constrains."""

import json
from typing import Any

import pandas as pd

from amalgam.llm.request import Answer, Request
from amalgam.params import Judge
from amalgam.tasks.schema import Task

_LABEL_TOKENS = 40  # enough for {"label": "…"} with blanks
_RATIONALE_TOKENS = 160


def build_grading_requests(
    task: Task, rows: pd.DataFrame, examples: pd.DataFrame, model: str, params: Judge
) -> list[Request]:
    """Ask for a label on each row.

    All requests begin alike (rubric, then human-coded examples), so that a server reads that part once.

    Args:
        task: the rubric.
        rows: what is graded (id, text, question).
        examples: human-coded train rows; the first `params.shots` of each label are shown.
        model: identity of the model.
        params: examples a label, and whether a rationale comes before the label.
    """
    head = [{"role": "system", "content": _phrase_rubric(task)}]
    for example in _select_examples(task, examples, params).to_dict("records"):
        head.append({"role": "user", "content": _phrase_response(task, example["question"], example["text"])})
        head.append({"role": "assistant", "content": json.dumps({"label": example["label"]})})
    body = {
        "temperature": 0.0,
        "max_tokens": _RATIONALE_TOKENS if params.rationale else _LABEL_TOKENS,
        "seed": 0,
        "response_format": _build_format(task, params.rationale),
    }
    return [
        Request(
            id=row["id"],
            model=model,
            body=body
            | {"messages": [*head, {"role": "user", "content": _phrase_response(task, row["question"], row["text"])}]},
            sample=0,
        )
        for row in rows.to_dict("records")
    ]


def parse_grade(answer: Answer, labels: list[str]) -> str:
    """Return the label that the grader gave, or "" where its answer holds none."""
    try:
        label = json.loads(answer.text)["label"]
    except (ValueError, KeyError, TypeError):
        return ""
    return label if label in labels else ""


def _select_examples(task: Task, examples: pd.DataFrame, params: Judge) -> pd.DataFrame:
    if params.rationale or not params.shots:
        # The human coders gave labels, not reasons: examples without one would teach to leave it out.
        return examples.head(0)
    first = examples.groupby("label", sort=False).head(params.shots)
    return first.sort_values("id", kind="stable")


def _phrase_rubric(task: Task) -> str:
    lines = [task.scenarios[0]] if len(task.scenarios) == 1 else []
    lines.append(f"Put a label on a {task.response}. The labels:")
    for label in task.labels:
        examples = "; ".join(f'"{example}"' for example in label.examples)
        lines.append(f"- {label.name}: {label.definition}" + (f" For example: {examples}" if examples else ""))
    return "\n".join(lines)


def _phrase_response(task: Task, question: str, text: str) -> str:
    asked = f"Question: {question}\n\n" if question else ""
    return f"{asked}{task.response.capitalize()}: {text}"


def _build_format(task: Task, rationale: bool) -> dict[str, Any]:
    label = {"type": "string", "enum": task.label_names}
    properties = ({"rationale": {"type": "string"}} if rationale else {}) | {"label": label}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "grade", "strict": True, "schema": schema}}
