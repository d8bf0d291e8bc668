"""Train the human-only teachers: recipe, compute and seeds of the teacher, without synthetic rows."""

from functools import partial
from pathlib import Path

from runtime import run_stage

import pandas as pd

from amalgam.files import write_json
from amalgam.params import Params
from amalgam.progress import show_progress
from amalgam.rows import read_rows
from amalgam.tasks.schema import load_task
from amalgam.training.budget import scale_steps
from amalgam.training.checkpoint import note_members
from amalgam.training.contrastive import ContrastiveTrainer
from amalgam.training.parallel import run_trainings
from amalgam.training.processes import is_main_process, wait_for_all
from amalgam.training.roles import assign_roles
from amalgam.training.seconds import note_seconds
from amalgam.training.teacher import TeacherTrainer

ENCODER = Path("models/base/encoder")
PREPARED = Path("data/prepared")
TARGET = Path("models/human_only")
AGAIN = 1_000_003  # by which the seed of a second member of the same kind is another


def main(params: Params, root: Path) -> None:
    """Read the human train and validation rows, write models/human_only/."""
    labels = load_task(Path("data/tasks") / params.task).label_names
    train = read_rows(PREPARED / "train.csv").assign(origin="human", shots="")
    validation = read_rows(PREPARED / "validation.csv")
    learned, held_out = assign_roles(train, validation, least=params.teacher.least_validation)
    members = list_members(learned, held_out, labels, params)
    jobs = [
        partial(
            trainer.train,
            seed + AGAIN * (member == "human_only_again"),
            TARGET / f"seed-{seed}" / member,
            curves=TARGET / f"seed-{seed}" / ("" if member == "human_only" else member) / "curves",
        )
        for seed in params.seeds
        for member, trainer in members.items()
    ]
    steps = sum(trainer.steps for trainer in members.values())
    with show_progress("human only", total=len(params.seeds) * steps) as advance:
        trained = run_trainings(jobs, ENCODER, advance)
    # Of several members, the last one is trained as a teacher without others is, and its outcome stands for all.
    last = [timed.result.to_dict() for timed in trained[len(members) - 1 :: len(members)]]
    runs = dict(zip(map(str, params.seeds), last, strict=True))
    if is_main_process():
        for seed in params.seeds if params.teacher.blend else ():
            note_members(TARGET / f"seed-{seed}", list(members))
        note_seconds(root, "human_only", trained, len(params.seeds))
        write_json(TARGET / "summary.json", {"seeds": runs})
    wait_for_all()


def list_members(
    learned: pd.DataFrame, held_out: pd.DataFrame | None, labels: list[str], params: Params
) -> dict[str, TeacherTrainer]:
    """Return who trains each member; a teacher that blends has several, and so has its human-only twin.

    The first one gives its layers to students: they begin nearer to what the teacher sees than those of a member
    that learned by cross-entropy, and end there too (bench/).
    """
    teacher = scale_steps(params.teacher, params.human_rows)
    trainer = TeacherTrainer(ENCODER, learned, held_out, labels, teacher)
    if not teacher.blend:
        return {".": trainer}
    if not teacher.contrastive_steps:
        return {"human_only_again": trainer, "human_only": trainer}
    return {"contrastive": ContrastiveTrainer(ENCODER, learned, labels, teacher), "human_only": trainer}


if __name__ == "__main__":
    run_stage("human_only", main)
