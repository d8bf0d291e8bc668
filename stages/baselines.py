"""Score the test rows with the baselines that the teacher has to beat; they see only the human rows."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from runtime import read_answering, run_stage

import numpy as np
import pandas as pd

from amalgam.evaluation.predictions import build_predictions, write_predictions
from amalgam.files import read_json, read_rows, write_json
from amalgam.llm.answering import answer_requests
from amalgam.llm.request import sum_answers, write_answers
from amalgam.machine import notify
from amalgam.params import Params
from amalgam.synthesis.grading import build_grading_requests, check_personal, read_grades
from amalgam.tasks.schema import Task, load_task
from amalgam.training.checkpoint import compute_softmax, score_models
from amalgam.training.embeddings import fit_baseline

PREPARED = Path("data/prepared")
ENCODER = Path("models/base/encoder")
HUMAN_ONLY = Path("models/human_only")
TARGET = Path("data/baselines")


def main(params: Params, root: Path) -> None:
    """Read the human rows, write data/baselines/."""
    task = load_task(Path("data/tasks") / params.task)
    train, validation = (read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation"))
    refit = len(validation) < params.teacher.min_validation_rows  # as for the teachers
    sets = {path.stem: read_rows(path) for path in sorted(PREPARED.glob("*test.csv"))}
    summary: dict[str, Any] = {}
    tables: list[pd.DataFrame] = []
    # The LLM comes first: its threads and those of torch must not run at the same time.
    if params.baselines.llm_grader:
        tables += grade_sets(task, sets, train, params, root, summary)
    for name, rows in sets.items():
        fit = partial(fit_baseline, train, validation, rows, task.label_names, refit=refit)
        tfidf, embedding = fit(), fit(encoder=ENCODER, max_length=params.teacher.max_length)
        for model, (probabilities, strength) in (("tfidf_lr", tfidf), ("embedding_lr", embedding)):
            tables.append(build_predictions(name, model, 0, rows["id"], probabilities, task.label_names))
            summary[model] = {"C": strength}
    tables += score_human_only(task, sets, params.seeds)
    summary["human_only"] = read_json(HUMAN_ONLY / "summary.json")
    write_predictions(TARGET / "predictions.csv", pd.concat(tables, ignore_index=True))
    write_json(TARGET / "summary.json", summary)


def grade_sets(
    task: Task, sets: dict[str, pd.DataFrame], train: pd.DataFrame, params: Params, root: Path, summary: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """Let the LLM grade the rows; without a grade, all classes are equally likely; a set without any gets no scores."""
    answering = read_answering(params.llm, root)
    model = read_json(answering.folder / "identity.json")["model"]
    unparsed, graded = 0, list[dict[str, Any]]()
    for name, rows in sets.items():
        check_personal(task, rows, name, params.llm.endpoint)
    for name, rows in sets.items():
        requests = build_grading_requests(task, rows, train, model, params.judge, params.llm.body)
        answers = answer_requests(requests, answering, f"grade {name} rows")
        lines = [
            {"key": request.key, "id": request.id, "sample": number, **asdict(answer)}
            for number, (request, answer) in enumerate(zip(requests, answers, strict=True))
        ]
        write_answers(TARGET / "answers" / name, lines)
        grades, sentence = read_grades(answers, task.label_names, f"the LLM as grader of the {name} rows")
        unparsed += grades.count("")
        graded += lines
        if sentence:
            notify(f"baselines: {sentence}")
        if not any(grades):
            continue
        even = 1 / len(task.labels)
        hard = [[float(grade == label) if grade else even for label in task.label_names] for grade in grades]
        yield build_predictions(name, "llm_grader", 0, rows["id"], np.array(hard), task.label_names)
    summary["llm_grader"] = {"requests": len(graded), "unparsed": unparsed} | sum_answers(graded)


def score_human_only(task: Task, sets: dict[str, pd.DataFrame], seeds: list[int]) -> Iterator[pd.DataFrame]:
    """Score the rows with the human-only teacher of every seed."""
    logits = score_models([HUMAN_ONLY / f"seed-{seed}" for seed in seeds], sets, [ENCODER])
    for number, seed in enumerate(seeds):
        for name, rows in sets.items():
            probabilities = compute_softmax(logits[name][number])
            yield build_predictions(name, "human_only", seed, rows["id"], probabilities, task.label_names)


if __name__ == "__main__":
    run_stage("baselines", main)
