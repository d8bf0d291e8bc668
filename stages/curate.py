"""Decide which responses become synthetic rows; every other one is kept with the reason against it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from runtime import run_stage

import pandas as pd

from amalgam.files import read_json, write_json
from amalgam.params import Params
from amalgam.rows import iterate_rows, open_rows, read_rows
from amalgam.synthesis.completions import iterate_responses, read_completions
from amalgam.synthesis.curate import (
    confirm_labels,
    curate_responses,
    join_judgements,
    summarise_curation,
    survey_responses,
)
from amalgam.tasks.schema import load_task
from amalgam.training.embeddings import embed_rows
from amalgam.training.guard import judge_labels

COMPLETIONS = Path("data/completions")
PREPARED = Path("data/prepared")
HELD_OUT = ("validation", "test", "transfer_test")
TARGET = Path("data/curated")
COLUMNS = ["id", "text", "question", "label", "sample", "shots", "judged"]


def main(params: Params, root: Path) -> None:
    """Read completions and judgements, write data/curated/."""
    task = load_task(Path("data/tasks") / params.task)
    threshold = params.curation.near_duplicate
    held_out = [read_rows(path) for path in sorted(PREPARED.glob("*.csv")) if path.stem in HELD_OUT]
    curated = curate_responses(
        check_labels(read_judged(), params, task.label_names),
        survey_responses(iterate_responses(read_completions(COMPLETIONS)), threshold),
        shots=read_rows(PREPARED / "train.csv"),
        held_out=pd.concat(held_out, ignore_index=True),
        threshold=threshold,
    )
    counts: Counter[tuple[str, str]] = Counter()
    with (
        open_rows(TARGET / "synthetic.csv", COLUMNS) as keep,
        open_rows(TARGET / "rejects.csv", [*COLUMNS, "reason", "detail"]) as reject,
    ):
        for row in curated:
            counts[row["label"], row["reason"]] += 1
            (reject if row["reason"] else keep)(row)
    write_json(TARGET / "summary.json", summarise_curation(counts, read_json(COMPLETIONS / "summary.json")))


def read_judged() -> Iterator[dict[str, Any]]:
    """Read the responses with the grader's labels."""
    responses = iterate_responses(read_completions(COMPLETIONS))
    return join_judgements(responses, iterate_rows(Path("data/judgements/judgements.csv")))


def check_labels(responses: Iterable[dict[str, Any]], params: Params, labels: list[str]) -> Iterator[dict[str, Any]]:
    """Ask the judge, or a classifier of the human rows, whether each response has the label that was intended."""
    if params.curation.consistency == "none":
        return (response | {"confirmed": True} for response in responses)
    if params.curation.consistency == "judge":
        return (
            response | {"confirmed": response["judged"] == response["label"], "graded": response["judged"] != ""}
            for response in responses
        )
    human = pd.concat([read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation")], ignore_index=True)
    embed = partial(embed_rows, Path("models/base/encoder"), max_length=params.teacher.max_length)
    judge = partial(judge_labels, human, embed(human), labels)
    return confirm_labels(responses, lambda rows: judge(embed(rows), rows["shots"].tolist()), labels)


if __name__ == "__main__":
    run_stage("curate", main)
