"""The LLM as a grader: it puts a label on a response by the rubric, as JSON that a schema constrains."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pandas as pd

from amalgam.llm.request import Request
from amalgam.params import Judge
from amalgam.synthesis.reading.answer import read_answer
from amalgam.synthesis.reading.faults import phrase_unread
from amalgam.tasks.schema import Task
from amalgam.tasks.texts import fold_text

_LABEL_TOKENS = 40  # enough for {"label": "…"} with blanks
_RATIONALE_TOKENS = 160
_TRIES = 50  # places in an answer at which a label may stand
_MARKS = " \t\"'`*\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_NAMED = re.compile(
    rf"\blabel[{_MARKS}]*(?:[:=\N{{FULLWIDTH COLON}}]|\bis\b|\bwould be\b|\bshould be\b)", re.IGNORECASE
)
_WORD_END = re.compile(r"(?<=\S)(?=[\s\"'`*,.;:!)}\]\N{RIGHT DOUBLE QUOTATION MARK}]|$)(?![.,]\d)")
_OR = re.compile(r"or\b|[/|]")


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


class GradeReader:
    """Reads grades out of answers one by one, and knows how many could not be read."""

    def __init__(self, labels: list[str]) -> None:
        """Start with no answer; `labels` are those of the task."""
        self.rows = self.unread = 0
        self._labels = labels
        self._example: Mapping[str, Any] = {"text": "", "finish_reason": ""}  # the first that could not be read

    def read(self, line: Mapping[str, Any]) -> str:
        """Return the label in an answer (text, finish_reason), "" where there is none, and count it."""
        grade = parse_grade(line["text"], self._labels)
        self.rows += 1
        if not grade:
            self._example = self._example if self.unread else line
            self.unread += 1
        return grade

    def describe(self, who: str) -> str:
        """Say that most grades of `who` could not be read, or "" where they could."""
        text = self._example["text"]
        _, fault = read_answer(text, self._example["finish_reason"])
        return phrase_unread(who, self.rows, self.unread, text, fault)


def parse_grade(text: str, labels: list[str]) -> str:
    """Return the label that the grader gave in its answer, or "" where it holds none, or several.

    The label stands in JSON, whatever is around it, behind the word "label", or alone on the first or the last line.
    """
    said, fault = read_answer(text, "stop")
    if fault:
        return ""
    if values := list(_iterate_json_labels(said)):
        found = {_match_label(value, labels) for value in values}
    elif rests := [said[match.end() :] for match in islice(_NAMED.finditer(said), _TRIES)]:
        found = {_match_beginning(rest, labels) for rest in rests}
    else:
        lines = [line for line in said.splitlines() if fold_text(line)]
        found = {_match_label(line, labels) for line in (*lines[:1], *lines[-1:])}
    found.discard("")
    return found.pop() if len(found) == 1 else ""


def _iterate_json_labels(said: str) -> Iterator[Any]:
    """Yield what stands under the key "label" in every JSON object."""
    for start in islice(re.finditer("{", said), _TRIES):
        try:
            value, _ = json.JSONDecoder().raw_decode(said, start.start())
        except (ValueError, RecursionError):
            continue
        yield from (item for key, item in value.items() if key.strip().casefold() == "label")


def _match_label(value: Any, labels: list[str]) -> str:
    """Return the label that a value means: itself, or else the only one that differs in case or punctuation alone."""
    if isinstance(value, bool | int | float):
        value = json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
    if not isinstance(value, str):
        return ""
    if value in labels:
        return value
    alike = [label for label in labels if _fold_label(label) == _fold_label(value)]
    return alike[0] if len(alike) == 1 else ""


def _match_beginning(text: str, labels: list[str]) -> str:
    """Return the label that a text begins with, the longest one if several do, or "" where another is offered too."""
    line = text.lstrip().partition("\n")[0].lstrip(_MARKS)
    ends = [end.start() for end in islice(_WORD_END.finditer(line), _TRIES)]
    for end in reversed(ends):
        if label := _match_label(line[:end], labels):
            return "" if _OR.match(line[end:].lstrip(_MARKS)) else label
    return ""


def _fold_label(label: str) -> str:
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", label.strip(f"{_MARKS}.,;:!").casefold())


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
