"""Fine-tune the teacher on the mix, once a seed; where the guard finds no help in synthetic rows, without them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime import run_stage

import pandas as pd

from amalgam.embeddings import embed_rows
from amalgam.files import read_json, write_json
from amalgam.machine import show_progress
from amalgam.params import Params, Teacher
from amalgam.rows import read_rows, write_rows
from amalgam.tasks.schema import load_task
from amalgam.training.budget import scale_steps
from amalgam.training.cross_validation import COLUMNS as OUT_OF_FOLD
from amalgam.training.guard import Evidence, ask_guard
from amalgam.training.members import MIXED, join_members, make_members, train_members
from amalgam.training.processes import is_main_process, wait_for_all

ENCODER = Path("models/base/encoder")
HUMAN_ONLY = Path("models/human_only")
TARGET = Path("models/teacher")


def main(params: Params, root: Path) -> None:
    """Read data/mixed.csv, the validation rows and models/human_only/; write models/teacher/."""
    labels = load_task(Path("data/tasks") / params.task).label_names
    learned = read_rows(Path("data/mixed.csv"))
    validation = read_rows(Path("data/prepared/validation.csv"))
    held_out = validation[~validation["id"].isin(learned["id"])]
    human = learned[learned["origin"] == "human"]
    synthetic = learned[learned["origin"] == "synthetic"]
    coded = pd.concat([human, held_out], ignore_index=True)  # all that training may see
    teacher = scale_steps(params.teacher, params.human_rows)
    summary: dict[str, Any] = {}
    if teacher.guard and len(human) and len(synthetic):
        if evidence := weigh_evidence(coded, synthetic, labels, teacher, params.seeds[0]):
            summary["guard"] = evidence.to_dict()
        if evidence and not evidence.helps:
            learned, synthetic = human, synthetic.head(0)
    members = 1 if len(human) else 2  # to train: the first one is that of the human-only teacher, where there is one
    trainings = members * len(params.seeds) * bool(len(synthetic))
    with show_progress("teacher", total=trainings * teacher.steps) as advance:
        if len(synthetic):
            chooses = held_out if len(held_out) else None
            summary["seeds"] = train_teachers(learned, chooses, labels, teacher, params.seeds, advance)
        else:
            summary |= take_human_only(params.seeds)
    summary["learned"] = {"human": len(learned) - len(synthetic), "synthetic": len(synthetic)}
    summary["held_out"] = len(held_out)
    if is_main_process():
        write_rows(TARGET / "learned.csv", learned)
        # Where no human rows were learned, they say nothing of what was.
        out_of_fold = read_rows(HUMAN_ONLY / "out_of_fold.csv") if len(human) else pd.DataFrame(columns=OUT_OF_FOLD)
        write_rows(TARGET / "out_of_fold.csv", out_of_fold)
        write_json(TARGET / "summary.json", summary)
    wait_for_all()


def weigh_evidence(
    human: pd.DataFrame, synthetic: pd.DataFrame, labels: list[str], teacher: Teacher, seed: int
) -> Evidence | None:
    """Ask the guard about the synthetic rows."""
    both = pd.concat([human, synthetic], ignore_index=True)
    vectors = embed_rows(ENCODER, both, max_length=teacher.max_length)
    return ask_guard(
        human,
        synthetic,
        (vectors[: len(human)], vectors[len(human) :]),
        labels,
        folds=teacher.guard_folds,
        least_label_auc=teacher.guard_label_auc,
        seed=seed,
    )


def train_teachers(
    learned: pd.DataFrame,
    held_out: pd.DataFrame | None,
    labels: list[str],
    teacher: Teacher,
    seeds: list[int],
    advance: Callable[[object], None],
) -> dict[str, Any]:
    """Train one a seed; the first member is that of the human-only teacher, unless there are no human rows."""
    members = make_members(ENCODER, learned, held_out, labels, teacher, MIXED)
    names = list(members)
    if len(members) > 1 and (learned["origin"] == "human").any():
        members.pop(names[0])
        for seed in seeds if is_main_process() else ():
            shutil.copytree(HUMAN_ONLY / f"seed-{seed}" / names[0], TARGET / f"seed-{seed}" / names[0])
    outcomes = train_members(members, seeds, TARGET, ENCODER, advance)
    if is_main_process():
        join_members(TARGET, seeds, names)
    return {seed: run.to_dict() for seed, run in outcomes.items()}


def take_human_only(seeds: list[int]) -> dict[str, Any]:
    """Let the human-only teachers be the teachers."""
    for seed in seeds if is_main_process() else ():
        shutil.copytree(HUMAN_ONLY / f"seed-{seed}", TARGET / f"seed-{seed}")
    return dict(read_json(HUMAN_ONLY / "summary.json"))


if __name__ == "__main__":
    run_stage("teacher", main)
