"""Distil each seed's teacher into a student; the one that does best on the validation rows is shipped."""

import shutil
from pathlib import Path

import pandas as pd
from runtime import run_stage

from amalgam.files import write_json
from amalgam.params import Params
from amalgam.progress import show_progress
from amalgam.rows import read_rows
from amalgam.training.student import distil_student

TARGET = Path("models/students")
SHIPPED = Path("models/student")


def main(params: Params, root: Path) -> None:
    """Read the teachers and the transfer set, write models/students/seed-*/ and models/student/."""
    # The transfer set: what the teacher learned from, and human texts that nobody coded.
    unlabelled = read_rows(Path("data/prepared/unlabelled.csv")).assign(label="")
    columns = ["id", "text", "question", "label"]
    transfer = pd.concat([read_rows(Path("data/mixed.csv"))[columns], unlabelled[columns]], ignore_index=True)
    validation = read_rows(Path("data/prepared/validation.csv"))
    outcomes = {}
    with show_progress("distill", total=len(params.seeds) * params.distillation.steps) as advance:
        for seed in params.seeds:
            outcomes[seed] = distil_student(
                Path("models/teacher") / f"seed-{seed}",
                transfer,
                validation,
                params.distillation,
                seed=seed,
                target=TARGET / f"seed-{seed}",
                advance=advance,
            )
    best = min(outcomes, key=lambda seed: outcomes[seed].validation_loss)
    write_json(TARGET / "summary.json", {"seeds": {str(seed): outcome.to_dict() for seed, outcome in outcomes.items()}})
    shutil.copytree(TARGET / f"seed-{best}", SHIPPED, ignore=shutil.ignore_patterns("curves"))


if __name__ == "__main__":
    run_stage("distill", main)
