"""Train the human-only teachers: recipe, compute and seeds of the teacher, without synthetic rows.

Teachers of folds label the rows that they did not learn, which tells how far labels can be trusted, at any ratio.
"""

from functools import partial
from pathlib import Path

from runtime import run_stage

import pandas as pd

from amalgam.files import write_json
from amalgam.machine import show_progress
from amalgam.params import Params
from amalgam.rows import read_rows, write_rows
from amalgam.tasks.schema import load_task
from amalgam.training.budget import scale_steps
from amalgam.training.cross_validation import label_out_of_fold
from amalgam.training.members import HUMAN_ONLY, join_members, make_members, train_members
from amalgam.training.processes import is_main_process, wait_for_all
from amalgam.training.roles import assign_roles
from amalgam.training.teacher import run_trials

ENCODER = Path("models/base/encoder")
PREPARED = Path("data/prepared")
TARGET = Path("models/human_only")


def main(params: Params, root: Path) -> None:
    """Read the human train and validation rows, write models/human_only/."""
    labels = load_task(Path("data/tasks") / params.task).label_names
    train, validation = (read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation"))
    learned, held_out = assign_roles(train, validation, least=params.teacher.least_validation)
    teacher = scale_steps(params.teacher, params.human_rows)
    learned = learned.assign(origin="human", shots="")
    members = make_members(ENCODER, learned, held_out, labels, teacher, HUMAN_ONLY)
    steps = sum(trainer.steps for trainer in members.values())
    steps = len(params.seeds) * steps + teacher.guard_folds * teacher.steps
    with show_progress("human only", total=steps) as advance:
        outcomes = train_members(members, params.seeds, TARGET, ENCODER, advance)
        coded = learned if held_out is None else pd.concat([learned, held_out], ignore_index=True)
        run = partial(run_trials, ENCODER, labels, teacher, advance)
        out_of_fold = label_out_of_fold(coded, labels, run, folds=teacher.guard_folds, seed=params.seeds[0])
    if is_main_process():
        join_members(TARGET, params.seeds, list(members))
        write_rows(TARGET / "out_of_fold.csv", out_of_fold)
        write_json(TARGET / "summary.json", {"seeds": {seed: run.to_dict() for seed, run in outcomes.items()}})
    wait_for_all()


if __name__ == "__main__":
    run_stage("human_only", main)
