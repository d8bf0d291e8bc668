"""The rows of a study: each task split for each number of human rows, and what each LLM wrote for it.

Below a folder, `TASK-ROWS-SPLIT/` holds the split as CSV, and `LLM-TEMPERATURE/` in it the answers of an LLM and, for
each filter, `FILTER.csv` with all its responses and the reason against each. `faults.json` says why a folder is not
there.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.files import write_json
from amalgam.llm.answering import Answering, answer_requests
from amalgam.llm.request import Answer, Request, write_answers
from amalgam.params import Params
from amalgam.rows import read_rows, write_rows
from amalgam.study.cells import Data, count_needed
from amalgam.study.grid import Cell
from amalgam.synthesis.answers import iterate_responses
from amalgam.synthesis.asking import Rounds, write_completions
from amalgam.synthesis.curate import confirm_labels, find_rejects, join_judgements
from amalgam.synthesis.grading import build_grading_requests, read_grades, select_gradable
from amalgam.synthesis.prompts import build_prompts
from amalgam.synthesis.templates import load_template
from amalgam.tasks.columns import load_task_rows
from amalgam.tasks.schema import Task, load_task
from amalgam.tasks.split import split_rows

_SPARE = 1.175  # responses asked for by each that is needed; about one in eight is of no use
_COLUMNS = ["id", "text", "question", "label", "shots", "sample"]
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Place:
    """Where the data of a study lie: `top` is the project, `root` its DVC root, `target` the folder that is written."""

    top: Path
    root: Path
    target: Path

    def load_task(self, name: str) -> Task:
        """Load a task of the project."""
        return load_task(self.top / "data/tasks" / name)


def name_pool(cell: Cell) -> str:
    """Return the folder of a cell's synthetic rows, "" for a human-only teacher."""
    return f"{cell.data}/{name_llm(cell.llm)}-{cell.temperature:g}" if cell.llm else ""


def name_llm(llm: str) -> str:
    """Return the name of an LLM's folder; its own may be a path."""
    return re.sub(r"[^\w.-]+", "_", llm)


def read_data(target: Path, cell: Cell) -> Data:
    """Read the split rows of a cell."""
    return Data(*(read_rows(target / cell.data / f"{part}.csv") for part in _PARTS))


def split_tasks(cells: Sequence[Cell], params: Params, place: Place) -> dict[str, str]:
    """Split the rows of each task; return the fault of each folder that cannot be had."""
    faults: dict[str, str] = {}
    for name in sorted({cell.task for cell in cells}):
        own = {cell.data: cell for cell in cells if cell.task == name}
        try:
            task = place.load_task(name)
            rows = load_task_rows(task, place.top / "data/tasks" / name, place.root / ".cache/downloads").main
        except DataError as error:
            faults |= dict.fromkeys(own, str(error))
            continue
        for folder, cell in own.items():
            try:
                tables = split_rows(
                    rows,
                    human_rows=cell.human_rows,
                    test=params.split.test,
                    validation=params.split.validation,
                    unlabelled=0,
                    seed=params.split.seed,
                    by=cell.split,
                )
            except DataError as error:
                faults[folder] = str(error)
                continue
            for part in _PARTS:
                write_rows(place.target / folder / f"{part}.csv", tables[part])
    return faults


def write_pools(
    cells: Sequence[Cell],
    params: Params,
    place: Place,
    open_llm: Callable[[str], tuple[str, Answering]],
    embed: Callable[[pd.DataFrame], np.ndarray],
) -> dict[str, str]:
    """Ask for all responses that the cells need, then for all grades, each request once; and curate by each filter.

    Args:
        cells: those whose split rows are there.
        params: all that the cells leave open.
        place: where to read and write.
        open_llm: returns an LLM's identity, and who answers for it.
        embed: the encoder, for the filter by a human-only classifier.

    Returns:
        The fault of each pool that cannot be had.
    """
    faults: dict[str, str] = {}
    for llm in sorted({cell.llm for cell in cells if cell.llm}):
        own: dict[str, list[Cell]] = {}
        for cell in (cell for cell in cells if cell.llm == llm):
            own.setdefault(name_pool(cell), []).append(cell)
        model, answering = open_llm(llm)
        rounds = {name: _start_rounds(name, of_pool, model, params, place) for name, of_pool in own.items()}
        _ask(rounds, answering)
        for name, one in rounds.items():
            if shortfall := one.describe_shortfall():
                faults[name] = f"after {one.number} attempts {shortfall}"
            else:
                write_completions(place.target / name, one)
        there = {name: of_pool for name, of_pool in own.items() if name not in faults}
        _grade(there, model, answering, params, place)
        for name, of_pool in there.items():
            _curate(name, of_pool, params, place, embed)
    return faults


def _start_rounds(name: str, cells: Sequence[Cell], model: str, params: Params, place: Place) -> Rounds:
    """Begin to ask for as many responses as the largest cell of the pool needs."""
    cell = cells[0]
    task, data = place.load_task(cell.task), read_data(place.target, cell)
    needed = max(count_needed(one, data, params.teacher.min_validation_rows) for one in cells)
    rows = max(math.ceil(_SPARE * math.ceil(needed / len(task.labels))), params.synthesis.rows)
    folders = [place.top / "data/tasks" / cell.task / "templates", place.top / "data/templates"]
    prompts = list(
        build_prompts(task, data.train, load_template(params.prompts.template, folders), params.prompts, rows)
    )
    synthesis = params.synthesis.model_copy(update={"rows": rows, "temperature": cell.temperature})
    return Rounds(prompts, model, synthesis, params.llm.body)


def _ask(rounds: Mapping[str, Rounds], answering: Answering) -> None:
    """Ask the open requests of all pools at once, until no pool asks for more."""
    while asked := {name: requests for name, one in rounds.items() if (requests := list(one.build_requests()))}:
        answers = _send(asked, answering, "study, responses")
        for name, found in answers.items():
            rounds[name].add_answers(found)


def _send(asked: Mapping[str, list[Request]], answering: Answering, title: str) -> dict[str, list[Answer]]:
    answers = iter(answer_requests([one for requests in asked.values() for one in requests], answering, title))
    return {name: list(islice(answers, len(requests))) for name, requests in asked.items()}


def _grade(pools: Mapping[str, Sequence[Cell]], model: str, answering: Answering, params: Params, place: Place) -> None:
    """Let the LLM grade the pools of which a cell wants that."""
    wanted = {name: cells[0] for name, cells in pools.items() if any(cell.filter == "judge" for cell in cells)}
    rows, asked = {}, {}
    for name, cell in wanted.items():
        task = place.load_task(cell.task)
        rows[name] = select_gradable(iterate_responses(place.target / name), task.label_names, None)
        train = read_data(place.target, cell).train
        asked[name] = build_grading_requests(task, rows[name], train, model, params.judge, params.llm.body)
    for name, answers in _send(asked, answering, "study, grades").items() if asked else ():
        labels = place.load_task(wanted[name].task).label_names
        grades, _ = read_grades(answers, labels, "the LLM as judge of its responses")
        lines: list[dict[str, Any]] = [
            {"key": request.key, "id": request.id, "sample": int(slot), **asdict(answer)}
            for request, slot, answer in zip(asked[name], rows[name]["sample"], answers, strict=True)
        ]
        write_answers(place.target / name / "answers", lines)
        write_rows(place.target / name / "judged.csv", rows[name][["id"]].assign(judged=grades))


def _curate(
    name: str, cells: Sequence[Cell], params: Params, place: Place, embed: Callable[[pd.DataFrame], np.ndarray]
) -> None:
    """Write the responses of a pool with the reason against each, once for each filter."""
    data, labels = read_data(place.target, cells[0]), place.load_task(cells[0].task).label_names
    responses = pd.DataFrame(iterate_responses(place.target / name))
    for chosen in sorted({cell.filter for cell in cells}):
        doubts = pd.Series("", responses.index)
        if chosen == "judge":
            judged = join_judgements(responses, read_rows(place.target / name / "judged.csv"))
            doubts[:] = np.select([judged == "", judged != responses["label"]], ["ungraded", "inconsistent"], "")
        elif chosen == "human_model":
            doubts = _doubt_by_human_rows(responses, data, labels, embed)
        found = find_rejects(
            responses,
            doubts,
            shots=data.train,
            held_out=pd.concat([data.validation, data.test], ignore_index=True),
            threshold=params.curation.near_duplicate,
        )
        write_rows(place.target / name / f"{chosen}.csv", responses[_COLUMNS].join(found["reason"]))


def _doubt_by_human_rows(
    responses: pd.DataFrame, data: Data, labels: list[str], embed: Callable[[pd.DataFrame], np.ndarray]
) -> pd.Series:
    from amalgam.training.guard import judge_labels

    human = pd.concat([data.train, data.validation], ignore_index=True)
    judge = partial(judge_labels, human, embed(human), labels)
    confirmed = confirm_labels(responses, lambda rows: judge(embed(rows), rows["shots"].tolist()), labels)
    return confirmed.map({True: "", False: "inconsistent"})


def write_study_rows(
    cells: Sequence[Cell],
    params: Params,
    place: Place,
    open_llm: Callable[[str], tuple[str, Answering]],
    embed: Callable[[pd.DataFrame], np.ndarray],
) -> None:
    """Write all rows that the cells need into `place.target`."""
    faults = split_tasks(cells, params, place)
    there = [cell for cell in cells if cell.data not in faults]
    faults |= write_pools(there, params, place, open_llm, embed)
    write_json(place.target / "faults.json", faults)
