"""Train the human-only teachers: recipe, compute and seeds of the teacher, without synthetic rows."""

from pathlib import Path

from runtime import run_stage

from amalgam.files import write_json
from amalgam.params import Params
from amalgam.progress import show_progress
from amalgam.rows import read_rows
from amalgam.tasks.schema import load_task
from amalgam.training.checkpoint import note_members
from amalgam.training.processes import is_main_process, wait_for_all
from amalgam.training.teacher import TeacherTrainer

PREPARED = Path("data/prepared")
TARGET = Path("models/human_only")
# A teacher that blends has two members; so has its human-only twin, whose second one differs by its seed alone.
OTHER_SEED = 1_000_003


def main(params: Params, root: Path) -> None:
    """Read the human train and validation rows, write models/human_only/."""
    labels = load_task(Path("data/tasks") / params.task).label_names
    train = read_rows(PREPARED / "train.csv").assign(origin="human", shots="")
    validation = read_rows(PREPARED / "validation.csv")
    members = ["human_only", "human_only_again"] if params.teacher.blend else ["."]
    runs = {}
    with show_progress("human only", total=len(params.seeds) * len(members) * params.teacher.steps) as advance:
        trainer = TeacherTrainer(Path("models/base/encoder"), train, validation, labels, params.teacher, advance)
        for seed in params.seeds:
            folder = TARGET / f"seed-{seed}"
            runs[str(seed)] = trainer.train(seed, folder / members[0], folder / "curves").to_dict()
            for number, name in enumerate(members[1:], start=1):
                trainer.train(seed + number * OTHER_SEED, folder / name)
            if params.teacher.blend:
                note_members(folder, members)
    if is_main_process():
        write_json(TARGET / "summary.json", {"seeds": runs})
    wait_for_all()


if __name__ == "__main__":
    run_stage("human_only", main)
