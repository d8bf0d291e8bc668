"""Fine-tune the teacher on the mix, once a seed; where the guard finds no help in synthetic rows, without them."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from runtime import run_stage

import numpy as np
import pandas as pd

from amalgam.files import read_json, write_json
from amalgam.params import Params, Teacher
from amalgam.progress import show_progress
from amalgam.rows import read_rows, write_rows
from amalgam.tasks.schema import load_task
from amalgam.training.budget import scale_steps
from amalgam.training.checkpoint import note_members, read_note
from amalgam.training.cross_validation import COLUMNS as OUT_OF_FOLD
from amalgam.training.cross_validation import cross_validate
from amalgam.training.guard import Evidence, measure_label_auc, weigh_evidence
from amalgam.training.parallel import run_trainings
from amalgam.training.processes import is_main_process, wait_for_all
from amalgam.training.roles import assign_roles
from amalgam.training.scoring import Scorer, average_views
from amalgam.training.seconds import copy_seconds, note_seconds
from amalgam.training.teacher import TeacherTrainer, run_trials

ENCODER = Path("models/base/encoder")
HUMAN_ONLY = Path("models/human_only")
TARGET = Path("models/teacher")
COLUMNS = ["id", "text", "question", "label"]


def main(params: Params, root: Path) -> None:
    """Read data/mixed.csv, the validation rows and models/human_only/; write models/teacher/."""
    labels = load_task(Path("data/tasks") / params.task).label_names
    mixed = read_rows(Path("data/mixed.csv"))
    validation = read_rows(Path("data/prepared/validation.csv"))
    human = mixed["origin"] == "human"
    # Without one of the two kinds there is nothing to choose between, and nothing to blend.
    both = bool(human.any() and not human.all())
    teacher = scale_steps(params.teacher, params.human_rows)
    guarded = teacher.guard and both
    trainings = len(params.seeds) + 2 * teacher.guard_folds * guarded
    summary: dict[str, Any] = {}
    evidence, out_of_fold = None, pd.DataFrame(columns=OUT_OF_FOLD)
    with show_progress("teacher", total=trainings * teacher.steps) as advance:
        if guarded:
            evidence, out_of_fold = ask_guard(mixed, validation, labels, teacher, params.seeds, advance)
        if evidence:
            summary["guard"] = evidence.to_dict()
        learned, held_out = assign_roles(mixed, validation, least=teacher.least_validation)
        if human.all() or (evidence and not evidence.helps):
            learned = learned[learned["origin"] == "human"]
            summary |= take_human_only(params.seeds, root)
        else:
            trainer = TeacherTrainer(ENCODER, learned, held_out, labels, teacher)
            summary["seeds"] = train_teachers(trainer, params.seeds, root, advance, blend=teacher.blend and both)
    origins = learned["origin"].value_counts()
    summary["learned"] = {name: int(origins.get(name, 0)) for name in ("human", "synthetic")}
    summary["held_out"] = 0 if held_out is None else len(held_out)
    if is_main_process():
        write_rows(TARGET / "learned.csv", learned)
        write_rows(TARGET / "out_of_fold.csv", out_of_fold)
        write_json(TARGET / "summary.json", summary)
    wait_for_all()


def ask_guard(
    mixed: pd.DataFrame,
    validation: pd.DataFrame,
    labels: list[str],
    teacher: Teacher,
    seeds: list[int],
    advance: Callable[[object], None],
) -> tuple[Evidence | None, pd.DataFrame]:
    """Cross-validate on all human rows that training may see; return what is found, and what was said of each row."""
    human = mixed["origin"] == "human"
    coded = pd.concat([mixed.loc[human, COLUMNS], validation[COLUMNS]], ignore_index=True)
    synthetic = mixed[~human]
    run = partial(run_trials, ENCODER, labels, teacher, advance)
    found = cross_validate(coded, synthetic, labels, run, folds=teacher.guard_folds, blend=teacher.blend, seed=seeds[0])
    views = np.stack([Scorer(HUMAN_ONLY / f"seed-{seed}").compute_logits(synthetic) for seed in seeds])
    label_auc = measure_label_auc(synthetic, labels, average_views(views))
    evidence = weigh_evidence(found, label_auc=label_auc, least_label_auc=teacher.guard_label_auc, seed=seeds[0])
    return evidence, found.tabulate(coded, labels, with_synthetic=evidence is None or evidence.helps)


def train_teachers(
    trainer: TeacherTrainer, seeds: list[int], root: Path, advance: Callable[[object], None], *, blend: bool
) -> dict[str, Any]:
    """Train one a seed; in a blend it takes the place of the last member of the human-only teacher of that seed."""
    folders = [TARGET / f"seed-{seed}" for seed in seeds]
    jobs = [
        partial(trainer.train, seed, folder / "mixed" if blend else folder, curves=folder / "curves")
        for seed, folder in zip(seeds, folders, strict=True)
    ]
    trained = run_trainings(jobs, ENCODER, advance)
    if is_main_process():
        note_seconds(root, "teacher", trained, len(seeds))
        for folder in folders if blend else ():
            kept = read_note(HUMAN_ONLY / folder.name).members[0]
            shutil.copytree(HUMAN_ONLY / folder.name / kept, folder / kept)
            note_members(folder, [kept, "mixed"])
    return {str(seed): timed.result.to_dict() for seed, timed in zip(seeds, trained, strict=True)}


def take_human_only(seeds: list[int], root: Path) -> dict[str, Any]:
    """Let the human-only teachers be the teachers."""
    if is_main_process():
        copy_seconds(root, "human_only", "teacher")
        for seed in seeds:
            shutil.copytree(HUMAN_ONLY / f"seed-{seed}", TARGET / f"seed-{seed}")
    return dict(read_json(HUMAN_ONLY / "summary.json"))


if __name__ == "__main__":
    run_stage("teacher", main)
