"""Mix the human-coded rows that teach with synthetic ones at the ratio."""

from collections import Counter
from pathlib import Path

from runtime import run_stage

from amalgam.params import Params
from amalgam.rows import iterate_dicts, iterate_rows, open_rows, read_rows
from amalgam.synthesis.mix import COLUMNS, mix_rows
from amalgam.tasks.schema import load_task
from amalgam.training.transfer import assign_roles

PREPARED = Path("data/prepared")


def main(params: Params, root: Path) -> None:
    """Read train rows, validation rows and pool, write data/mixed.csv."""
    task = load_task(Path("data/tasks") / params.task)
    train, validation = (read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation"))
    learned, _ = assign_roles(train, validation, least=params.teacher.min_validation_rows)
    human = list(iterate_dicts(learned))
    synthetic = iterate_rows(Path("data/curated/synthetic.csv"))
    with open_rows(Path("data/mixed.csv"), COLUMNS) as write:
        for row in mix_rows(human, synthetic, params.ratio, task.label_names, count_rejects):
            write(row)


def count_rejects(label: str) -> Counter[str]:
    """Count by reason what curation rejected of a label."""
    return Counter(row["reason"] for row in iterate_rows(Path("data/curated/rejects.csv")) if row["label"] == label)


if __name__ == "__main__":
    run_stage("mix", main)
