"""Fine-tune the teacher on the mix, once a seed."""

from pathlib import Path

from runtime import run_stage

from amalgam.files import write_json
from amalgam.params import Params
from amalgam.progress import show_progress
from amalgam.rows import read_rows
from amalgam.tasks.schema import load_task
from amalgam.training.teacher import train_teacher

TARGET = Path("models/teacher")


def main(params: Params, root: Path) -> None:
    """Read data/mixed.csv and the validation rows, write models/teacher/seed-*/."""
    task = load_task(Path("data/tasks") / params.task)
    train = read_rows(Path("data/mixed.csv"))
    validation = read_rows(Path("data/prepared/validation.csv"))
    outcomes = {}
    with show_progress("teacher", total=len(params.seeds) * params.teacher.steps) as advance:
        for seed in params.seeds:
            outcome = train_teacher(
                Path("models/base/encoder"),
                train,
                validation,
                task.label_names,
                params.teacher,
                seed=seed,
                target=TARGET / f"seed-{seed}",
                advance=advance,
            )
            outcomes[str(seed)] = outcome.to_dict()
    write_json(TARGET / "summary.json", {"seeds": outcomes})


if __name__ == "__main__":
    run_stage("teacher", main)
