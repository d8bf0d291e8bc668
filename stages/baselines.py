"""Score the test rows with what the teacher has to beat; all of it sees the human rows alone."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from runtime import read_answering, run_stage

from amalgam.baselines import fit_embedding, fit_tfidf
from amalgam.evaluation.predictions import build_predictions, write_predictions
from amalgam.files import read_json, write_json
from amalgam.llm.answering import answer_requests
from amalgam.params import Params
from amalgam.progress import show_progress
from amalgam.rows import read_rows
from amalgam.synthesis.grading import build_grading_requests, parse_grade
from amalgam.tasks.schema import Task, load_task
from amalgam.training.scoring import score_rows
from amalgam.training.teacher import train_teacher

PREPARED = Path("data/prepared")
ENCODER = Path("models/base/encoder")
TARGET = Path("data/baselines")


def main(params: Params, root: Path) -> None:
    """Read the human rows, write data/baselines/."""
    task = load_task(Path("data/tasks") / params.task)
    train, validation = (read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation"))
    sets = {path.stem: read_rows(path) for path in sorted(PREPARED.glob("*test.csv"))}
    summary: dict[str, Any] = {}
    tables = []
    # First what needs the LLM: its threads and those of torch must not run at the same time.
    if params.baselines.llm_grader:
        tables += [grade_rows(task, name, rows, train, params, root, summary) for name, rows in sets.items()]
    for name, rows in sets.items():
        tfidf = fit_tfidf(train, validation, rows, task.label_names)
        embedding = fit_embedding(
            ENCODER, train, validation, rows, task.label_names, max_length=params.teacher.max_length
        )
        for model, fitted in (("tfidf_lr", tfidf), ("embedding_lr", embedding)):
            tables.append(build_predictions(name, model, 0, rows["id"], fitted.probabilities, task.label_names))
            summary[model] = {"C": fitted.strength}
    tables += train_human_only(task, train, validation, sets, params, summary)
    write_predictions(TARGET / "predictions.csv", pd.concat(tables, ignore_index=True))
    write_json(TARGET / "summary.json", summary)


def grade_rows(
    task: Task, name: str, rows: pd.DataFrame, train: pd.DataFrame, params: Params, root: Path, summary: dict[str, Any]
) -> pd.DataFrame:
    """Let the LLM grade the rows; where it gives no label, every class is as likely."""
    answering = read_answering(params.llm, root)
    model = read_json(answering.folder / "identity.json")["model"]
    requests = build_grading_requests(task, rows, train, model, params.judge)
    answers = answer_requests(requests, answering, f"grade {name} rows")
    grades = [parse_grade(answer, task.label_names) for answer in answers]
    counts = Counter(summary.get("llm_grader", {}))
    counts.update(
        requests=len(requests),
        unparsed=grades.count(""),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
    )
    summary["llm_grader"] = dict(counts)
    hard = np.array(
        [[float(grade == label) if grade else 1 / len(task.labels) for label in task.label_names] for grade in grades]
    )
    return build_predictions(name, "llm_grader", 0, rows["id"], hard, task.label_names)


def train_human_only(
    task: Task,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    sets: dict[str, pd.DataFrame],
    params: Params,
    summary: dict[str, Any],
) -> list[pd.DataFrame]:
    """Train the teacher's twin without synthetic rows: same encoder, steps, seeds and checkpoint choice."""
    tables, outcomes = [], {}
    with show_progress("human-only teacher", total=len(params.seeds) * params.teacher.steps) as advance:
        for seed in params.seeds:
            with TemporaryDirectory() as folder:
                outcome = train_teacher(
                    ENCODER,
                    train,
                    validation,
                    task.label_names,
                    params.teacher,
                    seed=seed,
                    target=Path(folder),
                    advance=advance,
                )
                tables += [
                    build_predictions(
                        name, "human_only", seed, rows["id"], score_rows(Path(folder), rows), task.label_names
                    )
                    for name, rows in sets.items()
                ]
            outcomes[str(seed)] = outcome.to_dict()
    summary["human_only"] = {"seeds": outcomes}
    return tables


if __name__ == "__main__":
    run_stage("baselines", main)
