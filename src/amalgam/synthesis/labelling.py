"""The LLM as a coder of real texts: the probability of each label for an uncoded response.

A request asks for one letter, and the endpoint reports the probability of each letter; if it does not, several samples
are counted. LLMs are badly calibrated, so the LLM labels human-coded rows too. Their codes decide its weight next to
a classifier trained on the human rows: an LLM that knows nothing gets no weight.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from amalgam.errors import DataError
from amalgam.llm.answering import Answering, answer_requests
from amalgam.llm.request import NO_FIELDS, Answer, Fields, Request, override_bodies
from amalgam.synthesis.answers import MORE_TOKENS, read_answer
from amalgam.synthesis.grading import build_head, phrase_response, phrase_rubric, select_shown
from amalgam.synthesis.mix import count_synthetic
from amalgam.tasks.personal import find_personal_rows
from amalgam.tasks.schema import Task

_MOST = 20  # labels, because endpoints return the probabilities of 20 tokens
SAMPLES = 5  # answers per row, if the endpoint returns no probabilities
_LETTER = re.compile(r"\W*([A-Z])\b")
_FARTHEST = 9.0  # below the log-probability of the most likely label: an overconfident source must not decide alone
_LEAST = -99.0  # log-probability; endpoints report -9999 for what a token cannot be, and its exponential is 0
_UNSEEN = 0.5  # letters added to the count of each label in the samples

Floats = NDArray[np.float64]


def select_coded(task: Task, train: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Select the human-coded rows that test the LLM's labels: all that may be sent and are not examples."""
    rows = pd.concat([train, validation], ignore_index=True)
    rows = rows[~rows["id"].isin(select_shown(task, train)["id"])]
    return rows if task.send_personal else rows[~find_personal_rows(rows)]


def select_texts(task: Task, texts: pd.DataFrame, source: str, ratio: float, human: int) -> pd.DataFrame:
    """Select texts that may be sent: all that the ratio needs with `human` rows, half for `both`, none for `write`."""
    texts = texts if task.send_personal else texts[~find_personal_rows(texts)]
    wanted = len(texts) if ratio == 1 else count_synthetic(ratio, human)
    if source == "label" and wanted > len(texts):
        raise DataError(
            f"`ratio: {ratio:g}` needs {wanted} texts to label, but the task has {len(texts)} that may be sent: lower "
            "`ratio`, raise `split.unlabelled`, or set `synthesis.source: both`"
        )
    return texts.head({"label": wanted, "both": wanted // 2}.get(source, 0))


def build_label_requests(
    task: Task, rows: pd.DataFrame, train: pd.DataFrame, model: str, fields: Fields = NO_FIELDS, samples: int = 0
) -> list[Request]:
    """Build a request for the letter of each row (id, text, question), or `samples` sampled requests per row."""
    letters = dict(zip(task.label_names, ascii_uppercase, strict=False))
    names = [f"{letter}. {name.replace('_', ' ')}" for name, letter in letters.items()]
    rubric = f"{phrase_rubric(task, names)}\nAnswer with the letter of the label and nothing else."
    shown = select_shown(task, train)
    head = build_head(task, rubric, shown, letters)
    body = {"temperature": float(samples > 0), "max_tokens": 1}
    body |= {} if samples else {"logprobs": True, "top_logprobs": _MOST}
    requests = []
    for row, text, asked in zip(rows["id"], rows["text"], rows["question"], strict=True):
        messages = [*head, {"role": "user", "content": phrase_response(task, asked, text)}]
        for sample in range(max(samples, 1)):
            name, sent = f"{row}s{sample}" if samples else row, body | {"seed": sample, "messages": messages}
            requests.append(Request(name, model, sent, sample, rows=(*shown["id"], row)))
    return list(override_bodies(requests, fields))


def ask_for_labels(
    task: Task, rows: pd.DataFrame, train: pd.DataFrame, model: str, answering: Answering
) -> tuple[Floats, list[dict[str, Any]]]:
    """Return log-probabilities [rows, classes], up to a constant per row, and a line for each answer."""
    if len(task.labels) > _MOST:
        raise DataError(f"the LLM can label texts with at most {_MOST} labels: set `synthesis.source: write`")
    count, fields = len(task.labels), answering.llm.body
    requests = build_label_requests(task, rows, train, model, fields)
    answers = answer_requests(requests, answering, "label")
    found = [read_logits(answer, count) for answer in answers]
    lines = _describe(range(len(rows)), requests, answers)
    if unread := [place for place, logits in enumerate(found) if logits is None]:
        sampled = build_label_requests(task, rows.iloc[unread], train, model, fields, SAMPLES)
        answers = answer_requests(sampled, answering, "label, by samples")
        slots = [place for place in unread for _ in range(SAMPLES)]
        lines = sorted([*lines, *_describe(slots, sampled, answers)], key=lambda line: line["sample"])
        counts = [count_letters(answers[at : at + SAMPLES], count) for at in range(0, len(answers), SAMPLES)]
        for place, counted in zip(unread, counts, strict=True):
            found[place] = np.log(counted + _UNSEEN)
        silent = sum(not counted.any() for counted in counts)
        if 2 * silent > len(rows):
            raise DataError(f"the LLM named no label for {silent} of {len(rows)} texts: {MORE_TOKENS}")
    return np.array(found), lines


def _describe(slots: Sequence[int], requests: Sequence[Request], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    rows = zip(slots, requests, answers, strict=True)
    return [{"key": request.key, "id": request.id, "sample": slot, **asdict(answer)} for slot, request, answer in rows]


def read_logits(answer: Answer, count: int) -> Floats | None:
    """Return the log-probabilities of the first `count` letters, or None if the answer does not hold them."""
    try:
        tokens = json.loads(answer.text)["logprobs"]
        known = [(token.strip(), max(float(value), _LEAST)) for token, value in tokens.items()]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    least = min((value for _, value in known), default=0.0)
    likely = [sum(math.exp(value) for token, value in known if token == letter) for letter in ascii_uppercase[:count]]
    return np.log(np.maximum(likely, math.exp(least))) if any(likely) else None


def count_letters(answers: Sequence[Answer], count: int) -> Floats:
    """Count how often sampled answers name each of the first `count` letters [classes]."""
    said = [_LETTER.match(read_answer(answer.text, answer.finish_reason)[0]) for answer in answers]
    found = Counter(match[1] for match in said if match)
    return np.array([found[letter] for letter in ascii_uppercase[:count]], dtype=np.float64)


def add_labels(
    texts: pd.DataFrame, labels: list[str], said: Sequence[Floats], coded: Sequence[Floats], classes: NDArray[np.int64]
) -> pd.DataFrame:
    """Add the columns `soft`, a JSON list of joint probabilities, and `label`, the first source's most likely label.

    Only the first source, the LLM, sets `label`: the guard checks it against human rows, which cannot confirm labels of
    their own. For the arguments see `calibrate`.
    """
    joint, alone = calibrate(said, coded, classes), calibrate(said[:1], coded[:1], classes)
    soft = [json.dumps(row.round(4).tolist()) for row in joint]
    return texts.assign(label=[labels[place] for place in alone.argmax(axis=1)], soft=soft)


def calibrate(logits: Sequence[Floats], coded: Sequence[Floats], classes: NDArray[np.int64]) -> Floats:
    """Combine several sources into probabilities [rows, classes] by a logistic regression on human codes.

    `logits` are each source's log-probabilities of the rows [rows, classes], up to a constant per row. `coded` are
    those of human-coded rows, by sources that did not learn their codes, and `classes` are the classes of these rows.
    """
    from scipy.special import softmax
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(classes)) < 2:  # nothing to learn from: the first source decides
        return np.asarray(softmax(logits[0], axis=1))
    rows, known = (
        np.concatenate([np.maximum(said - said.max(axis=1, keepdims=True), -_FARTHEST) for said in sources], axis=1)
        for sources in (logits, coded)
    )
    model = LogisticRegression(max_iter=2000).fit(known, classes)
    found = np.zeros((len(rows), logits[0].shape[1]))
    found[:, model.classes_] = model.predict_proba(rows)
    return found
