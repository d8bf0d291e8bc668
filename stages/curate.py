"""Decide which answers become synthetic rows; every other one is kept with the reason against it."""

from pathlib import Path

import pandas as pd
from runtime import run_stage

from amalgam.baselines import fit_embedding
from amalgam.files import write_json
from amalgam.params import Params
from amalgam.rows import read_rows, write_rows
from amalgam.synthesis.completions import read_completions
from amalgam.synthesis.curate import curate_completions, extract_response, summarise_curation
from amalgam.tasks.schema import load_task

PREPARED = Path("data/prepared")
HELD_OUT = ("validation", "test", "transfer_test")
TARGET = Path("data/curated")


def main(params: Params, root: Path) -> None:
    """Read completions and judgements, write data/curated/."""
    task = load_task(Path("data/tasks") / params.task)
    completions = read_completions(Path("data/completions"), params.synthesis.rows * len(task.labels))
    judgements = read_rows(Path("data/judgements/judgements.csv"))
    rows = pd.DataFrame(completions)[["id", "label", "sample", "question", "text"]]
    rows["judged"] = rows["id"].map(judgements.set_index("id")["judged"]).fillna("")
    held_out = [read_rows(path) for path in sorted(PREPARED.glob("*.csv")) if path.stem in HELD_OUT]
    verdicts = curate_completions(
        completions,
        confirmed=check_labels(rows, params, task.label_names),
        shots=read_rows(PREPARED / "train.csv"),
        held_out=pd.concat(held_out, ignore_index=True),
        threshold=params.curation.near_duplicate,
    )
    rows = rows.assign(
        text=[verdict.text for verdict in verdicts],
        reason=[verdict.reason for verdict in verdicts],
        detail=[verdict.detail for verdict in verdicts],
    )
    columns = ["id", "text", "question", "label", "sample", "judged"]
    write_rows(TARGET / "synthetic.csv", rows.loc[rows["reason"] == "", columns])
    write_rows(TARGET / "rejects.csv", rows.loc[rows["reason"] != "", [*columns, "reason", "detail"]])
    write_json(TARGET / "summary.json", summarise_curation(completions, verdicts))


def check_labels(rows: pd.DataFrame, params: Params, labels: list[str]) -> dict[str, bool] | None:
    """Ask the judge, or a classifier of the human rows, whether each row has the label that was intended."""
    if params.curation.consistency == "none":
        return None
    if params.curation.consistency == "judge":
        found = rows["judged"]
    else:
        fitted = fit_embedding(
            Path("models/base/encoder"),
            read_rows(PREPARED / "train.csv"),
            read_rows(PREPARED / "validation.csv"),
            rows.assign(text=rows["text"].map(extract_response)),
            labels,
            max_length=params.teacher.max_length,
        )
        found = pd.Series([labels[number] for number in fitted.probabilities.argmax(axis=1)], index=rows.index)
    return dict(zip(rows["id"], found == rows["label"], strict=True))


if __name__ == "__main__":
    run_stage("curate", main)
