"""Decide which responses become synthetic rows; every other one is stored with the reason against it."""

from functools import partial
from pathlib import Path

from runtime import run_stage

import numpy as np
import pandas as pd

from amalgam.files import read_json, read_rows, write_json, write_rows
from amalgam.params import Params
from amalgam.synthesis.answers import read_responses
from amalgam.synthesis.curate import CHUNK, find_rejects, summarise_curation
from amalgam.tasks.schema import load_task
from amalgam.training.embeddings import embed_rows
from amalgam.training.guard import confirm_labels

COMPLETIONS = Path("data/completions")
PREPARED = Path("data/prepared")
HELD_OUT = ("validation", "test", "transfer_test")
TARGET = Path("data/curated")
COLUMNS = ["id", "text", "question", "label", "sample", "shots", "judged"]


def main(params: Params, root: Path) -> None:
    """Read completions and judgements, write data/curated/."""
    task = load_task(Path("data/tasks") / params.task)
    responses = read_responses(COMPLETIONS)
    grades = read_rows(Path("data/judgements/judgements.csv")).set_index("id")["judged"]
    responses["judged"] = grades.reindex(responses["id"], fill_value="").to_numpy()
    held_out = [read_rows(path) for path in sorted(PREPARED.glob("*.csv")) if path.stem in HELD_OUT]
    found = find_rejects(
        responses,
        find_doubts(responses, params, task.label_names),
        shots=read_rows(PREPARED / "train.csv"),
        held_out=pd.concat(held_out, ignore_index=True),
        threshold=params.curation.near_duplicate,
    )
    curated = responses[COLUMNS].join(found)
    is_kept = curated["reason"] == ""
    write_rows(TARGET / "synthetic.csv", curated.loc[is_kept, COLUMNS])
    write_rows(TARGET / "rejects.csv", curated[~is_kept])
    write_json(TARGET / "summary.json", summarise_curation(curated, read_json(COMPLETIONS / "summary.json")))


def find_doubts(responses: pd.DataFrame, params: Params, labels: list[str]) -> pd.Series:
    """Return the reason against the label of each response, by the judge or a classifier of the human rows.

    There is none against a response that no classifier of the human rows can judge.
    """
    if params.curation.consistency == "none":
        return pd.Series("", responses.index)
    if params.curation.consistency == "judge":
        agrees = responses["judged"] == responses["label"]
        return pd.Series(np.select([responses["judged"] == "", ~agrees], ["ungraded", "inconsistent"], ""))
    human = pd.concat([read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation")], ignore_index=True)
    embed = partial(embed_rows, Path("models/base/encoder"), max_length=params.teacher.max_length)
    confirm = partial(confirm_labels, human, embed(human), labels)
    chunks = (responses[start : start + CHUNK] for start in range(0, len(responses), CHUNK))
    confirmed = [mark for rows in chunks for mark in confirm(embed(rows), rows)]
    return pd.Series(np.where(confirmed, "", "inconsistent"), responses.index)


if __name__ == "__main__":
    run_stage("curate", main)
