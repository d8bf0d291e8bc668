"""Mix the human-coded train rows with synthetic ones at the ratio."""

from collections import Counter
from pathlib import Path

from runtime import run_stage

from amalgam.params import Params
from amalgam.rows import iterate_rows, open_rows
from amalgam.synthesis.mix import COLUMNS, mix_rows
from amalgam.tasks.schema import load_task


def main(params: Params, root: Path) -> None:
    """Read train rows and pool, write data/mixed.csv."""
    task = load_task(Path("data/tasks") / params.task)
    human = list(iterate_rows(Path("data/prepared/train.csv")))
    synthetic = iterate_rows(Path("data/curated/synthetic.csv"))
    with open_rows(Path("data/mixed.csv"), COLUMNS) as write:
        for row in mix_rows(human, synthetic, params.ratio, task.label_names, count_rejects):
            write(row)


def count_rejects(label: str) -> Counter[str]:
    """Count by reason what curation rejected of a label."""
    return Counter(row["reason"] for row in iterate_rows(Path("data/curated/rejects.csv")) if row["label"] == label)


if __name__ == "__main__":
    run_stage("mix", main)
