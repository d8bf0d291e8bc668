"""Fine-tune the teacher on the mix, once per seed; if the guard finds that synthetic rows do not help, without them."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from runtime import run_stage

import numpy as np
import pandas as pd

from amalgam.files import read_json, read_rows, write_json, write_rows
from amalgam.params import Params
from amalgam.tasks.schema import load_task
from amalgam.training import teacher
from amalgam.training.checkpoint import read_config, write_config
from amalgam.training.embeddings import embed_rows
from amalgam.training.guard import ask_guard
from amalgam.training.loop import scale_steps
from amalgam.training.parallel import this_process
from amalgam.training.transfer import assign_roles

ENCODER = Path("models/base/encoder")
HUMAN_ONLY = Path("models/human_only")
TARGET = Path("models/teacher")
THERE = "../../human_only/seed-{seed}"  # the human-only teacher, relative to the folder of a seed


def main(params: Params, root: Path) -> None:
    """Read data/mixed.csv, the validation rows and models/human_only/; write models/teacher/."""
    labels = load_task(Path("data/tasks") / params.task).label_names
    learned = read_rows(Path("data/mixed.csv"))
    validation = read_rows(Path("data/prepared/validation.csv"))
    human, synthetic = (learned[learned["origin"] == origin] for origin in ("human", "synthetic"))
    _, chooses = assign_roles(human, validation, least=params.teacher.min_validation_rows)
    held_out = validation.head(0) if chooses is None else chooses
    coded = pd.concat([human, held_out], ignore_index=True)  # all that training may see
    summary: dict[str, Any] = {}
    vectors = None
    if params.teacher.guard and len(human) and len(synthetic):
        rows = pd.concat([coded, synthetic], ignore_index=True)
        vectors = embed_rows(ENCODER, rows, max_length=params.teacher.max_length)
        own, others = vectors[: len(coded)], vectors[len(coded) :]
        grading = read_json(Path("data/labelled/summary.json")).get("auc") if "soft" in learned else None
        ask = partial(ask_guard, coded, labels=labels, seed=params.seeds[0], grading=grading)
        evidence = ask(synthetic, (own, others))
        labelled = (synthetic["soft"] != "").to_numpy() if grading is not None else np.zeros(len(synthetic), bool)
        if evidence and not evidence.helps and 0 < labelled.sum() < len(labelled):  # the labelled texts alone may help
            synthetic, others = synthetic[labelled], others[labelled]
            evidence = ask(synthetic, (own, others))
        summary["guard"] = evidence.to_dict() if evidence else {}
        if evidence and not evidence.helps:
            synthetic = synthetic.head(0)
        learned = pd.concat([human, synthetic], ignore_index=True)
        vectors = np.concatenate([own, others])
    if len(synthetic):
        vectors = None if len(held_out) else vectors  # without held-out rows, they are those of the learned rows
        summary["seeds"] = train_teachers(learned, held_out, labels, params, vectors)
    else:
        summary |= read_json(HUMAN_ONLY / "summary.json")
        take_human_only(params.seeds)
    summary["learned"] = {"human": len(learned) - len(synthetic), "synthetic": len(synthetic)}
    summary["held_out"] = len(held_out)
    if this_process().is_main_process:
        write_rows(TARGET / "learned.csv", learned)
        # If no human rows were learned, these labels say nothing about the rows that were.
        none = pd.DataFrame(columns=teacher.OUT_OF_FOLD)
        write_rows(TARGET / "out_of_fold.csv", read_rows(HUMAN_ONLY / "out_of_fold.csv") if len(human) else none)
        write_json(TARGET / "summary.json", {name: value for name, value in summary.items() if value != {}})
    this_process().wait_for_everyone()


def train_teachers(
    learned: pd.DataFrame, held_out: pd.DataFrame, labels: list[str], params: Params, vectors: Any
) -> dict[str, Any]:
    """Train one teacher per seed; the first member is the human-only teacher's, unless there are no human rows."""
    twin = next(iter(read_json(HUMAN_ONLY / "summary.json")["seeds"].values()))
    taught = twin["train_rows"]  # at ratio 1, `learned` has no human rows, but the steps are those of its twin
    scaled = scale_steps(params.teacher, max(params.human_rows, len(held_out) + taught))
    chooses = held_out if len(held_out) else None
    members = teacher.make_members(ENCODER, learned, chooses, labels, scaled, teacher.MIXED, vectors, taught)
    shared = ""
    if len(members) > 1 and (learned["origin"] == "human").any():
        del members[teacher.CONTRASTIVE]
        shared = f"{THERE}/{teacher.CONTRASTIVE}"
    return teacher.train_members("teacher", members, params.seeds, TARGET, shared=shared)[0]


def take_human_only(seeds: list[int]) -> None:
    """Use the human-only teachers as the teachers."""
    for seed in seeds if this_process().is_main_process else ():
        here, there = TARGET / f"seed-{seed}", HUMAN_ONLY / f"seed-{seed}"
        shutil.copytree(there / "curves", here / "curves", dirs_exist_ok=True)  # a run by hand may find earlier ones
        names = read_config(there).members or ["."]
        write_config(here, replace(read_config(there), members=[f"{THERE}/{name}".format(seed=seed) for name in names]))


if __name__ == "__main__":
    run_stage("teacher", main)
