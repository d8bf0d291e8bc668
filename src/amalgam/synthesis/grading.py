"""The LLM as a grader: it puts a label on a response by the rubric, as JSON that a schema constrains."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from amalgam.llm.request import Request
from amalgam.params import Judge
from amalgam.tasks.schema import Task

_LABEL_TOKENS = 40  # enough for {"label": "…"} with blanks
_RATIONALE_TOKENS = 160


def select_gradable(
    responses: Iterable[Mapping[str, Any]], labels: list[str], rows: int | None
) -> Iterator[Mapping[str, Any]]:
    """Yield usable responses, the first `rows` of each label, or all where it is None; reads no more than it needs."""
    left = dict.fromkeys(labels, float("inf") if rows is None else rows)
    stream = iter(responses)
    while any(left.values()) and (response := next(stream, None)) is not None:
        if not response["fault"] and left.get(response["label"]):
            left[response["label"]] -= 1
            yield response


def build_grading_requests(
    task: Task, rows: Iterable[Mapping[str, Any]], examples: pd.DataFrame, model: str, params: Judge
) -> Iterator[Request]:
    """Yield a request for a label on each row, streaming.

    All requests begin alike (rubric, then human-coded examples), so that a server reads that part once.

    Args:
        task: the rubric.
        rows: what is graded (id, text, question).
        examples: human-coded train rows; the first `params.shots` of each label are shown.
        model: identity of the model.
        params: examples a label, and whether a rationale comes before the label.
    """
    head = [{"role": "system", "content": _phrase_rubric(task)}]
    shown = _select_examples(task, examples, params).to_dict("records")
    for example in shown:
        head.append({"role": "user", "content": _phrase_response(task, example["question"], example["text"])})
        head.append({"role": "assistant", "content": json.dumps({"label": example["label"]})})
    body = {
        "temperature": 0.0,
        "max_tokens": _RATIONALE_TOKENS if params.rationale else _LABEL_TOKENS,
        "seed": 0,
        "response_format": _build_format(task, params.rationale),
    }
    for row in rows:
        asked = {"role": "user", "content": _phrase_response(task, row["question"], row["text"])}
        rows_in_it = (*(example["id"] for example in shown), row["id"])
        yield Request(row["id"], model, body | {"messages": [*head, asked]}, sample=0, rows=rows_in_it)


def parse_grade(text: str, labels: list[str]) -> str:
    """Return the label that the grader gave in its answer, or "" where it holds none."""
    try:
        label = json.loads(text)["label"]
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
