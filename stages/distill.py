"""Distil a student of every seed, and train its control on the labels alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from runtime import run_stage

from amalgam.files import write_json
from amalgam.machine import show_progress
from amalgam.params import Distillation, Params
from amalgam.rows import read_rows
from amalgam.training.budget import scale_steps
from amalgam.training.loop import Outcome
from amalgam.training.parallel import run_trainings
from amalgam.training.processes import is_main_process, wait_for_all
from amalgam.training.scoring import average_logits
from amalgam.training.student import Distiller, Views
from amalgam.training.transfer import read_views

BASE = Path("models/base")
TRANSFER = Path("data/transfer")
TARGET = Path("models/students")


def main(params: Params, root: Path) -> None:
    """Read the teachers and the transfer set with their views of it, write models/students/."""
    rows = {name: read_rows(TRANSFER / f"{name}.csv") for name in ("transfer", "validation")}
    logits = read_views(TRANSFER / "views.safetensors")
    distillation = scale_steps(params.distillation, params.human_rows)
    # All students learn the mean view of all seeds' teachers, so that their distances from it can be compared.
    views = {name: Views(rows[name], average_logits(logits[name])) for name in rows}
    jobs = [
        partial(train_student, seed, alone, views, distillation) for seed in params.seeds for alone in (False, True)
    ]
    with show_progress("distill", total=len(jobs) * distillation.steps) as advance:
        outcomes = [outcome.to_dict() for outcome in run_trainings(jobs, BASE / "encoder", advance)]
    if is_main_process():
        kinds = {"seeds": outcomes[::2], "undistilled": outcomes[1::2]}
        summary = {kind: dict(zip(map(str, params.seeds), found, strict=True)) for kind, found in kinds.items()}
        write_json(TARGET / "summary.json", summary)
    wait_for_all()


def train_student(
    seed: int, alone: bool, views: dict[str, Views], distillation: Distillation, advance: Callable[[object], None]
) -> Outcome:
    """Distil the teacher of a seed into its student, or train the student alone: the control."""
    distiller = Distiller(
        Path("models/teacher") / f"seed-{seed}",
        BASE / "encoder",
        BASE / "student",
        views["transfer"],
        views["validation"],
        distillation,
    )
    if alone:
        return distiller.train_alone(seed, TARGET / "undistilled" / f"seed-{seed}", advance)
    return distiller.distil(seed, TARGET / f"seed-{seed}", advance)


if __name__ == "__main__":
    run_stage("distill", main)
