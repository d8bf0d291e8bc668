"""The members of a teacher, whose mean view students learn; a teacher and its human-only twin have as many."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from amalgam.params import Teacher
from amalgam.training.checkpoint import note_members
from amalgam.training.contrastive import ContrastiveTrainer
from amalgam.training.loop import Outcome
from amalgam.training.parallel import Advance, run_trainings
from amalgam.training.teacher import TeacherTrainer

HUMAN_ONLY, MIXED = "human_only", "mixed"  # names of the last member
_AGAIN = 1_000_003  # seed offset of a first member that learns as the last one does


def make_members(
    encoder: Path,
    learned: pd.DataFrame,
    held_out: pd.DataFrame | None,
    labels: list[str],
    params: Teacher,
    last: str,
) -> dict[str, TeacherTrainer]:
    """Return who trains each member, by its folder; one member alone has none of its own.

    The first member gives its layers to students: they begin nearer to what the teacher sees than those of a member
    that learned by cross-entropy, and end there too (bench/). The last one learns all rows by cross-entropy.
    """
    trainer = TeacherTrainer(encoder, learned, held_out, labels, params)
    if not params.blend:
        return {".": trainer}
    if not params.contrastive_steps:
        return {"again": trainer, last: trainer}
    return {"contrastive": ContrastiveTrainer(encoder, learned, labels, params), last: trainer}


def train_members(
    members: dict[str, TeacherTrainer], seeds: Sequence[int], target: Path, encoder: Path, advance: Advance
) -> dict[str, Outcome]:
    """Train the members of every seed side by side into `target/seed-<seed>`.

    Returns:
        By seed, the outcome of the last member, which is trained as a teacher without others is.
    """
    last = list(members)[-1]
    jobs = [
        partial(
            trainer.train,
            seed + _AGAIN * (name == "again"),
            target / f"seed-{seed}" / name,
            curves=target / f"seed-{seed}" / ("" if name == last else name) / "curves",
        )
        for seed in seeds
        for name, trainer in members.items()
    ]
    outcomes = run_trainings(jobs, encoder, advance)
    return dict(zip(map(str, seeds), outcomes[len(members) - 1 :: len(members)], strict=True))


def join_members(target: Path, seeds: Sequence[int], names: Sequence[str]) -> None:
    """Note of every seed's teacher that these members speak together."""
    for seed in seeds if len(names) > 1 else ():
        note_members(target / f"seed-{seed}", names)
