"""The rows of a study: each task split for each number of human rows, and what each LLM wrote for it.

`amalgam.study.grid` describes their folders; `faults.json` says why a folder is missing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.files import read_rows, write_json, write_rows
from amalgam.llm.answering import Answering, answer_requests
from amalgam.llm.request import Answer, Request, write_answers
from amalgam.params import Params
from amalgam.study.cells import count_needed
from amalgam.study.grid import Cell, Data, read_data
from amalgam.synthesis.answers import read_responses
from amalgam.synthesis.asking import Rounds, write_completions
from amalgam.synthesis.curate import find_rejects
from amalgam.synthesis.grading import build_grading_requests, read_grades, select_gradable
from amalgam.synthesis.prompts import build_prompts, load_template
from amalgam.tasks.columns import load_task_rows
from amalgam.tasks.schema import Task, load_task
from amalgam.tasks.split import split_rows

_SPARE = 1.3  # responses requested for each needed one; about one in eight is unusable
_COLUMNS = ["id", "text", "question", "label", "shots", "sample"]


@dataclass(frozen=True)
class Pools:
    """Writes the rows of a study."""

    params: Params  # everything that the cells leave open
    data: Path  # the folder with tasks and templates
    downloads: Path  # where sources are kept
    target: Path  # the folder that is written
    open_llm: Callable[[str], tuple[str, Answering]]  # returns an LLM's identity, and how to ask it
    embed: Callable[[pd.DataFrame], np.ndarray]  # the encoder, for the filter by a human-only classifier

    def write(self, cells: Sequence[Cell]) -> None:
        """Write all rows that the cells need, and why some are missing; each request is sent once."""
        faults: dict[str, str] = {}
        for name, cell in {cell.data: cell for cell in cells}.items():
            try:
                self._split(cell)
            except DataError as error:
                faults[name] = str(error)
        pools: dict[str, dict[str, list[Cell]]] = {}
        for cell in cells:
            if cell.llm and cell.data not in faults:
                pools.setdefault(cell.llm, {}).setdefault(cell.pool, []).append(cell)
        for llm, own in pools.items():
            model, answering = self.open_llm(llm)
            faults |= self._ask(own, model, answering)
            there = {name: of_pool for name, of_pool in own.items() if name not in faults}
            self._grade(there, model, answering)
            for name, of_pool in there.items():
                self._curate(name, of_pool)
        write_json(self.target / "faults.json", faults)

    def _load(self, cell: Cell) -> Task:
        return load_task(self.data / "tasks" / cell.task)

    def _split(self, cell: Cell) -> None:
        """Split a task's rows for the cell."""
        split = self.params.split.model_copy(update={"unlabelled": 0, "by": cell.split})
        rows = load_task_rows(self._load(cell), self.data / "tasks" / cell.task, self.downloads).main
        tables = split_rows(rows, cell.human_rows, split)
        for part in Data._fields:
            write_rows(self.target / cell.data / f"{part}.csv", tables[part])

    def _ask(self, pools: Mapping[str, list[Cell]], model: str, answering: Answering) -> dict[str, str]:
        """Send the open requests of all pools at once, until no pool needs more; return the faults of those that do."""
        rounds = {name: self._start_rounds(cells, model) for name, cells in pools.items()}
        while asked := {name: requests for name, one in rounds.items() if (requests := list(one.build_requests()))}:
            for name, answers in _send(asked, answering, "study, responses").items():
                rounds[name].add_answers(answers)
        faults = {name: one.describe_shortfall() for name, one in rounds.items()}
        for name, one in rounds.items():
            if not faults[name]:
                write_completions(self.target / name, one)
        return {name: f"after {rounds[name].number} attempts {fault}" for name, fault in faults.items() if fault}

    def _start_rounds(self, cells: Sequence[Cell], model: str) -> Rounds:
        """Start rounds for as many responses as the largest cell of a pool needs."""
        cell, params, task = cells[0], self.params, self._load(cells[0])
        data = read_data(self.target, cell)
        needed = max(count_needed(one, data, params.teacher.min_validation_rows) for one in cells)
        rows = max(math.ceil(_SPARE * math.ceil(needed / len(task.labels))), params.synthesis.rows)
        folders = [self.data / "tasks" / cell.task / "templates", self.data / "templates"]
        template = load_template(params.prompts.template, folders)
        prompts = list(build_prompts(task, data.train, template, params.prompts, rows))
        synthesis = params.synthesis.model_copy(update={"rows": rows, "temperature": cell.temperature})
        return Rounds(prompts, model, synthesis, params.llm.body)

    def _grade(self, pools: Mapping[str, list[Cell]], model: str, answering: Answering) -> None:
        """Let the LLM grade the pools with a cell that needs the grades."""
        rows, asked, labels = {}, {}, {}
        for name, cells in pools.items():
            if any(cell.filter == "judge" for cell in cells):
                task, train = self._load(cells[0]), read_data(self.target, cells[0]).train
                labels[name], rows[name] = task.label_names, select_gradable(read_responses(self.target / name), None)
                given = task, rows[name], train, model, self.params.judge, self.params.llm.body
                asked[name] = build_grading_requests(*given)
        for name, answers in _send(asked, answering, "study, grades").items() if asked else ():
            grades, _ = read_grades(answers, labels[name], "the LLM as judge of its responses")
            triples = zip(asked[name], rows[name]["sample"], answers, strict=True)
            lines = [{"key": one.key, "id": one.id, "sample": int(slot), **asdict(made)} for one, slot, made in triples]
            write_answers(self.target / name / "answers", lines)
            write_rows(self.target / name / "judged.csv", rows[name][["id"]].assign(judged=grades))

    def _curate(self, name: str, cells: Sequence[Cell]) -> None:
        """Write the responses of a pool with the reason against each, once for each filter."""
        data, labels = read_data(self.target, cells[0]), self._load(cells[0]).label_names
        responses = read_responses(self.target / name)
        for chosen in sorted({cell.filter for cell in cells}):
            doubts = pd.Series("", responses.index)
            if chosen == "judge":
                grades = read_rows(self.target / name / "judged.csv").set_index("id")["judged"]
                judged = grades.reindex(responses["id"], fill_value="").to_numpy()
                doubts[:] = np.select([judged == "", judged != responses["label"]], ["ungraded", "inconsistent"], "")
            elif chosen == "human_model":
                from amalgam.training.guard import confirm_labels

                human = pd.concat([data.train, data.validation], ignore_index=True)
                agrees = confirm_labels(human, self.embed(human), labels, self.embed(responses), responses)
                doubts[:] = np.where(agrees, "", "inconsistent")
            found = find_rejects(
                responses,
                doubts,
                shots=data.train,
                held_out=pd.concat([data.validation, data.test], ignore_index=True),
                threshold=self.params.curation.near_duplicate,
            )
            write_rows(self.target / name / f"{chosen}.csv", responses[_COLUMNS].join(found["reason"]))


def _send(asked: Mapping[str, list[Request]], answering: Answering, title: str) -> dict[str, list[Answer]]:
    """Send the requests of all pools together; equal requests are sent once."""
    answers = iter(answer_requests([one for requests in asked.values() for one in requests], answering, title))
    return {name: list(islice(answers, len(requests))) for name, requests in asked.items()}
