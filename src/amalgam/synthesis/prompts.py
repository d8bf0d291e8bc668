"""Requests for synthetic responses of a known label: a rubric's definition, and human-coded examples as chat turns."""

import random
from typing import Any

import pandas as pd

from amalgam.errors import DataError
from amalgam.params import Prompts
from amalgam.tasks.schema import Label, Task

# The label is said again each time: a small model forgets it over a few examples.
_AGAIN = "Write another {response} that is {label}."


def build_prompts(task: Task, train: pd.DataFrame, params: Prompts, rows: int) -> list[dict[str, Any]]:
    """Build the requests, `rows` for each label; those for fewer rows are the first of those for more.

    Everything that varies is drawn from the seed, the label and the number of the set of shots, never from what
    was drawn before, so that a request stays the same whatever is asked for beside it. Few-shot examples come
    from the first `shot_pool` train rows of a label, so that more human rows leave the requests as they are.

    Args:
        task: the rubric.
        train: human-coded rows (id, text, question, label) in the order of the split.
        params: how many shots, from which pool, for how many samples.
        rows: samples for each label.

    Returns:
        One dict a request, in the order of `data/prompts.jsonl`: by sample, then by label.

    Raises:
        DataError: a label has fewer train rows than shots are wanted.
    """
    pools = {label.name: _select_pool(train, label.name, params) for label in task.labels}
    sets = -(-rows // params.samples_per_shots)
    drawn = {
        (label.name, number): _draw_set(task, label, pools[label.name], params, number)
        for label in task.labels
        for number in range(sets)
    }
    return [
        {
            "id": f"{label.name}-{sample:05d}",
            "label": label.name,
            "sample": sample,
            **drawn[label.name, sample // params.samples_per_shots],
        }
        for sample in range(rows)
        for label in task.labels
    ]


def _select_pool(train: pd.DataFrame, label: str, params: Prompts) -> list[dict[str, str]]:
    pool = train[train["label"] == label].head(params.shot_pool)
    if len(pool) < params.shots:
        raise DataError(
            f"label {label!r} has {len(pool)} train rows to draw `prompts.shots: {params.shots}` examples from: "
            "lower `prompts.shots`, or raise `human_rows` or `prompts.shot_pool`"
        )
    return pool[["id", "text", "question"]].to_dict("records")  # type: ignore[return-value]


def _draw_set(task: Task, label: Label, pool: list[dict[str, str]], params: Prompts, number: int) -> dict[str, Any]:
    draw = random.Random(f"{params.seed}/{label.name}/{number}")
    scenario = draw.choice(task.scenarios)
    persona = draw.choice(label.personas) if label.personas else ""
    question = draw.choice(sorted({row["question"] for row in pool})) if pool else ""
    # An example that answers another question would teach the wrong content.
    candidates = [row for row in pool if row["question"] == question]
    shots = draw.sample(candidates, min(params.shots, len(candidates)))
    again = _AGAIN.format(response=task.response, label=_phrase_label(label))
    messages = [{"role": "system", "content": f"You are {persona}."}] if persona else []
    messages.append({"role": "user", "content": _phrase_request(task, label, scenario, question)})
    for shot in shots:
        messages.append({"role": "assistant", "content": shot["text"]})
        messages.append({"role": "user", "content": again})
    return {"question": question, "shots": [shot["id"] for shot in shots], "messages": messages}


def _phrase_request(task: Task, label: Label, scenario: str, question: str) -> str:
    parts = [
        scenario,
        f"Question: {question}" if question else "",
        f"Write one {task.response} that is {_phrase_label(label)}: {label.definition}",
        f"Answer with the {task.response} alone.",
    ]
    return "\n\n".join(part for part in parts if part)


def _phrase_label(label: Label) -> str:
    return label.name.replace("_", " ")
