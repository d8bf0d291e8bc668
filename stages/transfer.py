"""Put the transfer set together, and ask every teacher once for its view of it."""

from pathlib import Path

from runtime import run_stage

from amalgam.params import Params
from amalgam.rows import iterate_rows, read_rows, write_rows
from amalgam.training.transfer import build_transfer, score_views, write_views

PREPARED = Path("data/prepared")
TEACHERS = Path("models/teacher")
TARGET = Path("data/transfer")


def main(params: Params, root: Path) -> None:
    """Read what the teacher learned, the pool and the unlabelled texts; write data/transfer/."""
    transfer = build_transfer(
        read_rows(TEACHERS / "learned.csv"),
        iterate_rows(Path("data/curated/synthetic.csv")),
        read_rows(PREPARED / "unlabelled.csv"),
        left_out=params.distillation.left_out,
    )
    write_rows(TARGET / "transfer.csv", transfer)
    # As they were written: whoever reads the file sees what was scored.
    rows = {"transfer": read_rows(TARGET / "transfer.csv"), "validation": read_rows(PREPARED / "validation.csv")}
    teachers = [TEACHERS / f"seed-{seed}" for seed in params.seeds]
    write_views(TARGET / "views.safetensors", score_views(teachers, rows))


if __name__ == "__main__":
    run_stage("transfer", main)
