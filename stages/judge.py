"""Let the LLM grade synthetic responses by the rubric, and measure how often it confirms the intended label."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime import read_answering, run_stage

import pandas as pd

from amalgam.evaluation.metrics import summarise_agreement
from amalgam.files import read_json, write_json
from amalgam.llm.answering import answer_requests
from amalgam.llm.request import Answer, Request, Totals, override_bodies, read_answers, write_answers
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
    rows = list(select_rows(task, params))
    grading = build_grading_requests(task, rows, examples, model, params.judge)
    requests = list(override_bodies(grading, params.llm.body))
    answers = answer_requests(requests, answering, "judge")
    write_answers(TARGET / "answers", build_lines(rows, requests, answers))
    write_judgements(task.label_names)


def select_rows(task: Task, params: Params) -> Iterator[Mapping[str, Any]]:
    """Read the responses that are graded: some of each label to measure agreement, all where grades decide."""
    rows = None if params.curation.consistency == "judge" else params.judge.rows
    return select_gradable(iterate_responses(read_completions(Path("data/completions"))), task.label_names, rows)


def build_lines(
    rows: Iterable[Mapping[str, Any]], requests: Iterable[Request], answers: Iterable[Answer]
) -> Iterator[dict[str, Any]]:
    """Put each answer beside what it is about; the slot is that of the response."""
    for row, request, answer in zip(rows, requests, answers, strict=True):
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
