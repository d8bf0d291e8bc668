"""Distil a student for every seed, and train its control on the labels only."""

from functools import partial
from pathlib import Path

from runtime import run_stage

from safetensors.numpy import load_file

from amalgam.files import read_rows, write_json
from amalgam.machine import show_progress
from amalgam.params import Params
from amalgam.training.checkpoint import average_logits
from amalgam.training.loop import scale_steps
from amalgam.training.parallel import run_trainings, this_process
from amalgam.training.student import SoftTargets, train_student

BASES = (Path("models/base/encoder"), Path("models/base/student"))
TRANSFER = Path("data/transfer")
TEACHERS = Path("models/teacher")
TARGET = Path("models/students")


def main(params: Params, root: Path) -> None:
    """Read the teachers and the transfer set with their soft targets, write models/students/."""
    logits = load_file(TRANSFER / "logits.safetensors")
    # All students learn from the ensemble of all seeds' teachers, so that their distances from it can be compared.
    transfer, validation = (
        SoftTargets(read_rows(TRANSFER / f"{name}.csv"), average_logits(logits[name]))
        for name in ("transfer", "validation")
    )
    distillation = scale_steps(params.distillation, max(params.human_rows, (transfer.rows["origin"] == "human").sum()))
    jobs = [
        partial(
            train_student,
            TEACHERS / f"seed-{seed}",
            BASES,
            transfer,
            validation,
            distillation,
            seed,
            TARGET / ("undistilled" if alone else "") / f"seed-{seed}",
            alone=alone,
        )
        for alone in (False, True)
        for seed in params.seeds
    ]
    with show_progress("distill", total=len(jobs) * distillation.steps) as advance:
        outcomes = [outcome.to_dict() for outcome in run_trainings(jobs, BASES[0], advance)]
    if this_process().is_main_process:
        count = len(params.seeds)
        kinds = {"seeds": outcomes[:count], "undistilled": outcomes[count:]}
        summary = {kind: dict(zip(map(str, params.seeds), found, strict=True)) for kind, found in kinds.items()}
        write_json(TARGET / "summary.json", summary)
    this_process().wait_for_everyone()


if __name__ == "__main__":
    run_stage("distill", main)
