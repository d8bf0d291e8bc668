"""Train the human-only teachers: with the teacher's recipe, compute and seeds, but without synthetic rows.

Teachers of folds label the rows that they did not learn, which shows how far labels can be trusted, at any ratio.
"""

from pathlib import Path

from runtime import run_stage

import pandas as pd

from amalgam.files import read_rows, write_json, write_rows
from amalgam.machine import choose_device, choose_dtype, notify
from amalgam.params import Params
from amalgam.tasks.schema import load_task
from amalgam.training import teacher
from amalgam.training.loop import scale_steps
from amalgam.training.parallel import this_process
from amalgam.training.transfer import assign_roles

ENCODER = Path("models/base/encoder")
PREPARED = Path("data/prepared")
TARGET = Path("models/human_only")


def main(params: Params, root: Path) -> None:
    """Read the human train and validation rows, write models/human_only/."""
    labels = load_task(Path("data/tasks") / params.task).label_names
    train, validation = (read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation"))
    if params.quality != "fast" and "float32" in str(choose_dtype(choose_device())):
        notify("human_only: without bfloat16, as here, training is slow: `quality: fast` takes a third of the time")
    learned, held_out = assign_roles(train, validation, least=params.teacher.min_validation_rows)
    learned = learned.assign(origin="human")
    coded = learned if held_out is None else pd.concat([learned, held_out], ignore_index=True)
    scaled = scale_steps(params.teacher, max(params.human_rows, len(coded)))
    members = teacher.make_members(ENCODER, learned, held_out, labels, scaled, teacher.HUMAN_ONLY)
    trials = teacher.list_trials(ENCODER, coded, labels, scaled, params.seeds[0])
    outcomes, logits = teacher.train_members("human only", members, params.seeds, TARGET, trials)
    if this_process().is_main_process:
        write_rows(TARGET / "out_of_fold.csv", teacher.label_out_of_fold(coded, labels, logits))
        write_json(TARGET / "summary.json", {"seeds": outcomes})
    this_process().wait_for_everyone()


if __name__ == "__main__":
    run_stage("human_only", main)
