"""Mix the human-coded rows to learn from with synthetic rows at the ratio."""

from pathlib import Path

from runtime import run_stage

from amalgam.files import read_rows, write_rows
from amalgam.params import Params
from amalgam.synthesis.mix import mix_rows
from amalgam.tasks.schema import load_task
from amalgam.training.transfer import assign_roles

PREPARED, CURATED = Path("data/prepared"), Path("data/curated")


def main(params: Params, root: Path) -> None:
    """Read train rows, validation rows, pool and labelled texts, write data/mixed.csv."""
    task = load_task(Path("data/tasks") / params.task)
    train, validation = (read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation"))
    learned, _ = assign_roles(train, validation, least=params.teacher.min_validation_rows)
    pool, rejects = (read_rows(CURATED / f"{name}.csv") for name in ("synthetic", "rejects"))
    labelled = read_rows(Path("data/labelled/labelled.csv"))
    write_rows(Path("data/mixed.csv"), mix_rows(learned, pool, rejects, params.ratio, task.label_names, labelled))


if __name__ == "__main__":
    run_stage("mix", main)
