"""Train the human-only teachers: recipe, compute and seeds of the teacher, without synthetic rows."""

from functools import partial
from pathlib import Path

from runtime import run_stage

from amalgam.files import write_json
from amalgam.params import Params
from amalgam.progress import show_progress
from amalgam.rows import read_rows
from amalgam.tasks.schema import load_task
from amalgam.training.checkpoint import note_members
from amalgam.training.parallel import run_trainings
from amalgam.training.processes import is_main_process, wait_for_all
from amalgam.training.roles import assign_roles
from amalgam.training.seconds import note_seconds
from amalgam.training.teacher import TeacherTrainer

ENCODER = Path("models/base/encoder")
PREPARED = Path("data/prepared")
TARGET = Path("models/human_only")
# A teacher that blends has two members; so has its human-only twin, whose second one differs by its seed alone.
OTHER_SEED = 1_000_003


def main(params: Params, root: Path) -> None:
    """Read the human train and validation rows, write models/human_only/."""
    labels = load_task(Path("data/tasks") / params.task).label_names
    train = read_rows(PREPARED / "train.csv").assign(origin="human", shots="")
    validation = read_rows(PREPARED / "validation.csv")
    learned, held_out = assign_roles(train, validation, least=params.teacher.least_validation)
    members = ["human_only", "human_only_again"] if params.teacher.blend else ["."]
    trainer = TeacherTrainer(ENCODER, learned, held_out, labels, params.teacher)
    jobs = [
        partial(
            trainer.train,
            seed + number * OTHER_SEED,
            TARGET / f"seed-{seed}" / member,
            curves=TARGET / f"seed-{seed}" / ("curves" if number == 0 else f"{member}/curves"),
        )
        for seed in params.seeds
        for number, member in enumerate(members)
    ]
    with show_progress("human only", total=len(jobs) * params.teacher.steps) as advance:
        trained = run_trainings(jobs, ENCODER, advance)
    first = [timed.result.to_dict() for timed in trained[:: len(members)]]
    runs = dict(zip(map(str, params.seeds), first, strict=True))
    if is_main_process():
        for seed in params.seeds if params.teacher.blend else ():
            note_members(TARGET / f"seed-{seed}", members)
        note_seconds(root, "human_only", trained)
        write_json(TARGET / "summary.json", {"seeds": runs})
    wait_for_all()


if __name__ == "__main__":
    run_stage("human_only", main)
