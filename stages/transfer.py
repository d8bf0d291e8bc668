"""Build the transfer set, and ask every teacher once for its soft targets."""

from pathlib import Path

from runtime import run_stage

from safetensors.numpy import save_file

from amalgam.files import read_json, read_rows, write_rows
from amalgam.params import Params
from amalgam.training.checkpoint import score_models
from amalgam.training.transfer import build_transfer, hold_out_texts

PREPARED = Path("data/prepared")
ENCODER = Path("models/base/encoder")
TEACHERS = Path("models/teacher")
TARGET = Path("data/transfer")


def main(params: Params, root: Path) -> None:
    """Read what the teacher learned, the pool and the unlabelled texts; write data/transfer/."""
    guard = read_json(TEACHERS / "summary.json").get("guard", {})
    whole = build_transfer(
        read_rows(TEACHERS / "learned.csv"),
        read_rows(Path("data/curated/synthetic.csv")),
        read_rows(PREPARED / "unlabelled.csv"),
        left_out=params.distillation.left_out,
        helps=bool(guard.get("helps", 1)),
    )
    transfer, validation = hold_out_texts(whole, read_rows(PREPARED / "validation.csv"))
    rows = {}
    for name, table in (("transfer", transfer), ("validation", validation)):
        write_rows(TARGET / f"{name}.csv", table)
        rows[name] = read_rows(TARGET / f"{name}.csv")  # as written: whoever reads the file sees what was scored
    teachers = [TEACHERS / f"seed-{seed}" for seed in params.seeds]
    save_file(score_models(teachers, rows, [ENCODER]), TARGET / "logits.safetensors")


if __name__ == "__main__":
    run_stage("transfer", main)
