"""Requests for synthetic responses of a known label: a template, filled in by a rubric and by human-coded examples."""

import random
from collections.abc import Iterator
from typing import Any

import pandas as pd

from amalgam.errors import ParamsError
from amalgam.params import Prompts
from amalgam.synthesis.attributes import draw_attributes, phrase_attribute
from amalgam.synthesis.responses import build_answer, phrase_form
from amalgam.synthesis.templates import Template
from amalgam.tasks.schema import Label, Task

Pools = dict[str, list[dict[str, str]]]


def build_prompts(
    task: Task, train: pd.DataFrame, template: Template, params: Prompts, rows: int
) -> Iterator[dict[str, Any]]:
    """Build the requests for `rows` responses of each label; those for fewer rows are the first of those for more.

    Everything that varies is drawn from the seed, the label, and the number of the request or of its set of shots,
    never from what was drawn before, so that a request stays the same whatever is asked for beside it. Few-shot
    examples come from the first `shot_pool` train rows of a label, so that more human rows leave the requests as they
    are. Requests of one set are a group: they begin alike, up to the attributes where the task has some, and ask the
    same question, which is also that of the set of this number of every other label: a question must not tell the
    label. Where a label has too few examples of a question, those of others fill up, each said with its own question.

    Args:
        task: the rubric.
        train: human-coded rows (id, text, question, label) in the order of the split.
        template: writes the turns; it knows the names that `_list_values` gives.
        params: how many shots, from which pool, for how many requests; how many responses a request, in what form.
        rows: responses for each label.

    Returns:
        One dict a request, in the order of `data/prompts.jsonl`: by number, then by label. They are made as they are
        taken, so that a million need no memory.

    Raises:
        DataError: the template fails.
        ParamsError: several responses are wanted in a format that holds one.
    """
    if params.format == "text" and params.responses > 1:
        raise ParamsError(
            f"params.yaml: `prompts.format` is 'text', which holds one response, but `prompts.responses` is "
            f"{params.responses}: set the format to `lines` or `json`"
        )
    pools = {label.name: _select_pool(train, label.name, params) for label in task.labels}
    return _iterate_prompts(task, pools, template, params, -(-rows // params.responses))


def _iterate_prompts(
    task: Task, pools: Pools, template: Template, params: Prompts, slots: int
) -> Iterator[dict[str, Any]]:
    drawn: dict[str, dict[str, Any]] = {}  # by label: the set of shots at hand
    for slot in range(slots):
        number, place = divmod(slot, params.samples_per_shots)
        for label in task.labels:
            if place == 0:
                drawn[label.name] = _draw_set(task, label, pools, params, number)
            filled = drawn[label.name] | _draw_own(label, pools, drawn[label.name], params, slot)
            attributes = draw_attributes(task, label, params.seed, slot)
            messages = template.render(_list_values(task, label, filled, attributes, params))
            shots = [*filled["shots"], *filled["other_shots"]]
            yield {
                "id": f"{label.name}-{slot:05d}",
                "label": label.name,
                "sample": slot,
                "question": drawn[label.name]["question"],
                "shots": [shot["id"] for shot in shots],
                "attributes": attributes,
                "group": f"{label.name}/{number}",
                "responses": params.responses,
                "format": params.format,
                "messages": messages,
            }


def list_shortages(task: Task, train: pd.DataFrame, params: Prompts) -> list[str]:
    """Say in one sentence each which labels have fewer train rows than a request is to show examples."""
    wanted = max(params.shots, params.other_shots)
    counts = {label.name: len(_select_pool(train, label.name, params)) for label in task.labels}
    return [
        f"label {name!r} has {count} train rows to draw examples from, so that requests show {count} of them and not "
        f"{wanted}: raise `human_rows` or `prompts.shot_pool` for more"
        for name, count in counts.items()
        if count < wanted
    ]


def _select_pool(train: pd.DataFrame, label: str, params: Prompts) -> list[dict[str, str]]:
    pool = train[train["label"] == label].head(params.shot_pool)
    return pool[["id", "text", "question"]].to_dict("records")  # type: ignore[return-value]


def _draw_set(task: Task, label: Label, pools: Pools, params: Prompts, number: int) -> dict[str, Any]:
    seed = f"{params.seed}/{label.name}/{number}"
    draw = random.Random(seed)
    scenario = draw.choice(task.scenarios)
    questions = sorted({row["question"] for pool in pools.values() for row in pool}) or [""]
    question = random.Random(f"{params.seed}/question/{number}").choice(questions)
    shots = _draw_shots(draw, pools[label.name], question, max(params.shots - 1, 0), params, spared=1)
    # Each other label has its own seed, so that the examples of one do not depend on which others there are.
    other_shots = [
        {**shot, "label": _phrase_name(other.name)}
        for other in task.labels
        if other != label
        for shot in _draw_answers(
            random.Random(f"{seed}/{other.name}"), pools[other.name], question, params.other_shots
        )
    ]
    return {
        "scenario": scenario,
        "question": question,
        "shots": shots,
        "other_shots": other_shots,
    }


def _draw_own(label: Label, pools: Pools, drawn: dict[str, Any], params: Prompts, slot: int) -> dict[str, Any]:
    """Draw what comes last in a request: its own persona, and a last shot that it shares with few others."""
    seed = f"{params.seed}/{label.name}/own"
    persona = random.Random(f"{seed}/persona/{slot}").choice(label.personas)
    draw = random.Random(f"{seed}/shot/{slot // params.samples_per_last_shot}")
    left = [row for row in pools[label.name] if row not in drawn["shots"]]
    last = _draw_shots(draw, left, drawn["question"], min(params.shots, 1), params)
    return {"persona": persona, "shots": [*drawn["shots"], *last]}


def _draw_shots(
    draw: random.Random, pool: list[dict[str, str]], question: str, count: int, params: Prompts, spared: int = 0
) -> list[dict[str, str]]:
    """Draw examples, those of the question last, where they are closest to what is wanted; spare some of these."""
    others = [row for row in pool if row["question"] != question]
    answers = _draw_answers(draw, pool, question, min(count, max(len(pool) - len(others) - spared, 0)))
    # A list of responses is one answer to one question.
    missing = count - len(answers) if params.responses == 1 else 0
    return [*draw.sample(others, min(missing, len(others))), *answers]


def _draw_answers(draw: random.Random, pool: list[dict[str, str]], question: str, count: int) -> list[dict[str, str]]:
    candidates = [row for row in pool if row["question"] == question]
    return draw.sample(candidates, min(count, len(candidates)))


def _list_values(
    task: Task, label: Label, drawn: dict[str, Any], attributes: dict[str, str], params: Prompts
) -> dict[str, Any]:
    """List what a template knows, by name; the README explains each."""
    texts = [shot["text"] for shot in drawn["shots"]]
    if params.responses == 1:
        example_answers = [build_answer([text], params.format) for text in texts]
    else:
        example_answers = [build_answer(texts, params.format)] if texts else []
    return {
        "title": task.title,
        "response": task.response,
        "scenario": drawn["scenario"],
        "question": drawn["question"],
        "persona": drawn["persona"],
        "label": _describe_label(label),
        "other_labels": [_describe_label(other) for other in task.labels if other != label],
        "shots": drawn["shots"],
        "other_shots": drawn["other_shots"],
        "example_answers": example_answers,
        "attributes": attributes,
        "attribute_sentences": [phrase_attribute(name, value) for name, value in attributes.items()],
        "responses": params.responses,
        "format": params.format,
        "answer_form": phrase_form(task.response, params.responses, params.format),
    }


def _describe_label(label: Label) -> dict[str, Any]:
    return {"name": _phrase_name(label.name), "definition": label.definition, "examples": label.examples}


def _phrase_name(name: str) -> str:
    return name.replace("_", " ")
