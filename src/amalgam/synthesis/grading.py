"""The LLM as a grader: it labels a response by the rubric, as JSON that follows a schema."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import pandas as pd

from amalgam.errors import DataError
from amalgam.llm.request import NO_FIELDS, Answer, Endpoint, Fields, Request, override_bodies
from amalgam.params import Judge
from amalgam.synthesis.answers import MORE_TOKENS, describe_json, iterate_json, read_answer, shorten_example
from amalgam.tasks.personal import find_personal_rows, select_examples
from amalgam.tasks.schema import Task
from amalgam.tasks.texts import fold_text

_SHOTS = 2  # human-coded examples per label
_LABEL_TOKENS = 40  # enough for {"label": "…"} with blanks
_RATIONALE_TOKENS = 160
_TRIES = 50  # places in an answer where a label may be
_MARKS = " \t\"'`*\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_NAMED = re.compile(
    rf"\blabel[{_MARKS}]*(?:[:=\N{{FULLWIDTH COLON}}]|\bis\b|\bwould be\b|\bshould be\b)", re.IGNORECASE
)
_WORD_END = re.compile(r"(?<=\S)(?=[\s\"'`*,.;:!)}\]\N{RIGHT DOUBLE QUOTATION MARK}]|$)(?![.,]\d)")
_OR = re.compile(r"or\b|[/|]")


def select_gradable(responses: pd.DataFrame, rows: int | None) -> pd.DataFrame:
    """Select the usable responses: the first `rows` of each label, or all if `rows` is None."""
    usable = responses[responses["fault"] == ""]
    return usable if rows is None else usable.groupby("label").head(rows)


def check_personal(task: Task, rows: pd.DataFrame, what: str, endpoint: str) -> None:
    """Refuse to send rows with personal data to an endpoint that is not on this machine, unless the task allows it."""
    held = rows["id"][find_personal_rows(rows)]
    if len(held) and not task.send_personal and endpoint != "embedded" and not Endpoint(endpoint, "", "").is_local:
        raise DataError(
            f"{len(held)} {what} rows hold personal data (an e-mail address, a phone number, a name on the roster), "
            f"such as {held.iloc[0]}, and would be sent to {endpoint}: remove it from them, set `baselines.llm_grader: "
            "false`, or allow it with `send_personal: true` in task.yaml"
        )


def build_grading_requests(
    task: Task, rows: pd.DataFrame, train: pd.DataFrame, model: str, params: Judge, fields: Fields = NO_FIELDS
) -> list[Request]:
    """Build a request for the label of each row (id, text, question); all begin alike, so that a server caches that."""
    # The human coders gave labels, not reasons: examples without a reason would teach the LLM to omit it.
    shown = select_shown(task, train, 0 if params.rationale else _SHOTS)
    replies = {label: json.dumps({"label": label}) for label in task.label_names}
    head = build_head(task, phrase_rubric(task), shown, replies)
    reason = {"rationale": {"type": "string"}} if params.rationale else {}
    body = {
        "temperature": 0.0,
        "max_tokens": _RATIONALE_TOKENS if params.rationale else _LABEL_TOKENS,
        "seed": 0,
        "response_format": describe_json("grade", reason | {"label": {"type": "string", "enum": task.label_names}}),
    }
    requests = []
    for row, text, question in zip(rows["id"], rows["text"], rows["question"], strict=True):
        messages = [*head, {"role": "user", "content": phrase_response(task, question, text)}]
        requests.append(Request(row, model, body | {"messages": messages}, sample=0, rows=(*shown["id"], row)))
    return list(override_bodies(requests, fields))


def select_shown(task: Task, train: pd.DataFrame, shots: int = _SHOTS) -> pd.DataFrame:
    """Select the examples that every request shows, ordered by id, so that the labels come in random order."""
    return select_examples(train, shots, send_personal=task.send_personal).sort_values("id", kind="stable")


def build_head(task: Task, rubric: str, shown: pd.DataFrame, replies: Mapping[str, str]) -> list[dict[str, str]]:
    """Build the turns that all requests begin with: the rubric, then the examples with the replies for their labels."""
    head = [{"role": "system", "content": rubric}]
    for question, text, label in zip(shown["question"], shown["text"], shown["label"], strict=True):
        head.append({"role": "user", "content": phrase_response(task, question, text)})
        head.append({"role": "assistant", "content": replies[label]})
    return head


def read_grades(answers: Sequence[Answer], labels: list[str], who: str) -> tuple[list[str], str]:
    """Return the label in each answer, "" if there is none, and a sentence about `who` if most cannot be read."""
    grades = [parse_grade(answer.text, labels) for answer in answers]
    unread = [answer for answer, grade in zip(answers, grades, strict=True) if not grade]
    if 2 * len(unread) <= len(answers):
        return grades, ""
    _, fault = read_answer(unread[0].text, unread[0].finish_reason)
    helps = MORE_TOKENS if fault in ("cut_off", "thinking") else "use another model"
    such = shorten_example(unread[0].text)
    return grades, f"{who} gave no readable grade for {len(unread)} of {len(answers)} rows, such as {such}: {helps}"


def parse_grade(text: str, labels: list[str]) -> str:
    """Return the label that the grader gave in its answer, or "" if the answer holds none or several.

    The label is in JSON, whatever is around it, after the word "label", or alone on the first or the last line.
    """
    said, fault = read_answer(text, "stop")
    if fault:
        return ""
    objects = [value for value in iterate_json(said) if isinstance(value, dict)]
    if values := [value[key] for value in objects for key in value if key.strip().casefold() == "label"]:
        found = {_match_label(value, labels) for value in values}
    elif rests := [said[match.end() :] for match in islice(_NAMED.finditer(said), _TRIES)]:
        found = {_match_beginning(rest, labels) for rest in rests}
    else:
        lines = [line for line in said.splitlines() if fold_text(line)]
        found = {_match_label(line, labels) for line in (*lines[:1], *lines[-1:])}
    found.discard("")
    return found.pop() if len(found) == 1 else ""


def _match_label(value: Any, labels: list[str]) -> str:
    """Return the label that a value means: an equal one, or else the one that differs only in case or punctuation."""
    if isinstance(value, bool | int | float):
        value = json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
    if not isinstance(value, str):
        return ""
    if value in labels:
        return value
    alike = [label for label in labels if _fold_label(label) == _fold_label(value)]
    return alike[0] if len(alike) == 1 else ""


def _match_beginning(text: str, labels: list[str]) -> str:
    """Return the longest label that a text begins with; "" if the text offers another one too."""
    line = text.lstrip().partition("\n")[0].lstrip(_MARKS)
    for end in reversed([end.start() for end in islice(_WORD_END.finditer(line), _TRIES)]):
        if label := _match_label(line[:end], labels):
            return "" if _OR.match(line[end:].lstrip(_MARKS)) else label
    return ""


def _fold_label(label: str) -> str:
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", label.strip(f"{_MARKS}.,;:!").casefold())


def phrase_rubric(task: Task, names: Sequence[str] = ()) -> str:
    """Write the labels with their definitions, each after a dash and its name, or after its entry in `names`."""
    lines = [task.scenarios[0]] if len(task.scenarios) == 1 else []
    lines.append(f"Put a label on a {task.response}. The labels:")
    for label, name in zip(task.labels, names or [f"- {name}" for name in task.label_names], strict=True):
        examples = "; ".join(f'"{example}"' for example in label.examples)
        said = [label.definition] * bool(label.definition) + [f"For example: {examples}"] * bool(examples)
        lines.append(": ".join([name, " ".join(said)]) if said else name)
    return "\n".join(lines)


def phrase_response(task: Task, question: str, text: str) -> str:
    """Write the turn that asks about a response."""
    asked = f"Question: {question}\n\n" if question else ""
    return f"{asked}{task.response.capitalize()}: {text}"
