"""Let the LLM grade synthetic responses by the rubric, and measure how often it confirms the intended label."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from runtime import read_answering, run_stage

import pandas as pd

from amalgam.evaluation.metrics import summarise_agreement
from amalgam.files import read_json, write_json
from amalgam.llm.answering import answer_requests, iterate_answers
from amalgam.llm.request import Answer, Request, override_bodies
from amalgam.llm.shards import Totals, read_answers, write_answers
from amalgam.machine import notify
from amalgam.params import Params
from amalgam.rows import open_rows, read_rows
from amalgam.synthesis.completions import iterate_responses, read_completions
from amalgam.synthesis.grading import GradeReader, build_grading_requests, select_gradable
from amalgam.tasks.schema import Task, load_task

TARGET = Path("data/judgements")


def main(params: Params, root: Path) -> None:
    """Read the completions, write data/judgements/."""
    task = load_task(Path("data/tasks") / params.task)
    answering = read_answering(params.llm, root)
    model = read_json(answering.folder / "identity.json")["model"]
    examples = read_rows(Path("data/prepared/train.csv"))
    make = partial(make_requests, task, params, examples, model)
    answer_requests(make, answering, "judge")
    write_answers(TARGET / "answers", build_lines(select_rows(task, params), iterate_answers(make(), answering)))
    write_judgements(task.label_names)


def make_requests(task: Task, params: Params, examples: pd.DataFrame, model: str) -> Iterator[Request]:
    """Read the responses anew and make their requests."""
    requests = build_grading_requests(task, select_rows(task, params), examples, model, params.judge)
    return override_bodies(requests, params.llm.body)


def select_rows(task: Task, params: Params) -> Iterator[Mapping[str, Any]]:
    """Read the responses that are graded: some of each label to measure agreement, all where grades decide."""
    rows = None if params.curation.consistency == "judge" else params.judge.rows
    return select_gradable(iterate_responses(read_completions(Path("data/completions"))), task.label_names, rows)


def build_lines(
    rows: Iterable[Mapping[str, Any]], answers: Iterable[tuple[Request, Answer]]
) -> Iterator[dict[str, Any]]:
    """Put each answer beside what it is about; the slot is that of the response."""
    for row, (request, answer) in zip(rows, answers, strict=True):
        yield {"key": request.key, **{name: row[name] for name in ("id", "label", "sample")}, **asdict(answer)}


def write_judgements(labels: list[str]) -> None:
    """Read the grades out of the answers, and sum them up."""
    grades: Counter[tuple[str, str]] = Counter()
    totals, reader = Totals(), GradeReader(labels)
    with open_rows(TARGET / "judgements.csv", ["id", "label", "judged"]) as write:
        for line in read_answers(TARGET / "answers"):
            judged = reader.read(line)
            write({"id": line["id"], "label": line["label"], "judged": judged})
            grades[line["label"], judged] += 1
            totals.add(line)
    if sentence := reader.describe("the LLM as judge of its responses"):
        notify(f"judge: {sentence}")
    pairs = pd.DataFrame(grades.elements(), columns=["label", "judged"], dtype=str)
    write_json(TARGET / "summary.json", summarise_agreement(pairs["label"], pairs["judged"], labels) | totals.to_dict())


if __name__ == "__main__":
    run_stage("judge", main)
