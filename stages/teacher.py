"""Fine-tune the teacher on the mix, once a seed; without the synthetic rows where the guard finds no help in them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from runtime import run_stage

from amalgam.files import write_json
from amalgam.params import Params
from amalgam.progress import show_progress
from amalgam.rows import read_rows, write_rows
from amalgam.tasks.schema import load_task
from amalgam.training.guard import Evidence, weigh_evidence
from amalgam.training.processes import is_main_process, wait_for_all
from amalgam.training.teacher import TeacherTrainer, train_and_score

ENCODER = Path("models/base/encoder")
TARGET = Path("models/teacher")
COLUMNS = ["id", "text", "question", "label"]


def main(params: Params, root: Path) -> None:
    """Read data/mixed.csv and the validation rows, write models/teacher/."""
    labels = load_task(Path("data/tasks") / params.task).label_names
    mixed = read_rows(Path("data/mixed.csv"))
    validation = read_rows(Path("data/prepared/validation.csv"))
    human = mixed["origin"] == "human"
    # Without one of the two kinds there is nothing to choose between.
    guarded = params.teacher.guard and human.any() and not human.all()
    trainings = len(params.seeds) + 2 * params.teacher.guard_folds * guarded
    summary: dict[str, object] = {}
    with show_progress("teacher", total=trainings * params.teacher.steps) as advance:
        if guarded and (evidence := ask_guard(mixed, validation, labels, params, advance)):
            summary["guard"] = evidence.to_dict()
            if not evidence.helps:
                mixed = mixed[human].reset_index(drop=True)
        trainer = TeacherTrainer(ENCODER, mixed, validation, labels, params.teacher, advance)
        outcomes = {seed: trainer.train(seed, TARGET / f"seed-{seed}") for seed in params.seeds}
    if is_main_process():
        write_rows(TARGET / "learned.csv", mixed)
        runs = {str(seed): outcome.to_dict() for seed, outcome in outcomes.items()}
        write_json(TARGET / "summary.json", summary | {"seeds": runs})
    wait_for_all()


def ask_guard(
    mixed: pd.DataFrame, validation: pd.DataFrame, labels: list[str], params: Params, advance: Callable[[object], None]
) -> Evidence | None:
    """Cross-validate on all human rows that training may see, those for validation included."""
    human = mixed["origin"] == "human"
    return weigh_evidence(
        pd.concat([mixed.loc[human, COLUMNS], validation[COLUMNS]], ignore_index=True),
        mixed[~human],
        labels,
        partial(train_and_score, ENCODER, labels, params.teacher, advance),
        folds=params.teacher.guard_folds,
        seed=params.seeds[0],
    )


if __name__ == "__main__":
    run_stage("teacher", main)
