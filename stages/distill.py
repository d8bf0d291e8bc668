"""Distil a student of every seed, and train its control on the labels alone."""

from pathlib import Path

from runtime import run_stage

from amalgam.files import write_json
from amalgam.params import Params
from amalgam.progress import show_progress
from amalgam.rows import read_rows
from amalgam.training.loop import Outcome
from amalgam.training.processes import is_main_process, wait_for_all
from amalgam.training.student import Distiller, Views
from amalgam.training.transfer import choose_views, read_views

BASE = Path("models/base")
TRANSFER = Path("data/transfer")
TARGET = Path("models/students")


def main(params: Params, root: Path) -> None:
    """Read the teachers and the transfer set with their views of it, write models/students/."""
    rows = {
        "transfer": read_rows(TRANSFER / "transfer.csv"),
        "validation": read_rows(Path("data/prepared/validation.csv")),
    }
    logits = read_views(TRANSFER / "views.safetensors")
    ensemble = params.teacher.ensemble
    distilled: dict[str, Outcome] = {}
    alone: dict[str, Outcome] = {}
    with show_progress("distill", total=2 * len(params.seeds) * params.distillation.steps) as advance:
        for number, seed in enumerate(params.seeds):
            views = {name: Views(rows[name], choose_views(logits[name], number, ensemble=ensemble)) for name in rows}
            distiller = Distiller(
                Path("models/teacher") / f"seed-{seed}",
                BASE / "encoder",
                BASE / "student",
                views["transfer"],
                views["validation"],
                params.distillation,
                advance,
            )
            distilled[str(seed)] = distiller.distil(seed, TARGET / f"seed-{seed}")
            alone[str(seed)] = distiller.train_alone(seed, TARGET / "undistilled" / f"seed-{seed}")
    if is_main_process():
        runs = {"seeds": distilled, "undistilled": alone}
        summary = {kind: {seed: run.to_dict() for seed, run in found.items()} for kind, found in runs.items()}
        write_json(TARGET / "summary.json", summary)
    wait_for_all()


if __name__ == "__main__":
    run_stage("distill", main)
