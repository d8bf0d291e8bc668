"""How long trainings took in this clone. No output of a stage holds it, since a clock never says the same twice."""

from pathlib import Path
from typing import Any

from amalgam.files import read_json, write_json
from amalgam.training.parallel import Timed

_FILE = Path(".cache/training_seconds.json")


def note_seconds(root: Path, model: str, trainings: list[Timed[Any]], seeds: int) -> None:
    """Note what a seed's trainings of a model took, the mean over seeds, in place of what was noted before.

    A member that a teacher takes over from the human-only one was trained there, and counts there.
    """
    taken = sum(timed.seconds for timed in trainings) / seeds
    write_json(root / _FILE, read_seconds(root) | {model: round(taken, 1)})


def copy_seconds(root: Path, model: str, target: str) -> None:
    """Note for `target` what is noted for `model`, whose weights it has; where nothing is, nothing is for either."""
    noted = {name: seconds for name, seconds in read_seconds(root).items() if name != target}
    if model in noted:
        noted[target] = noted[model]
    write_json(root / _FILE, noted)


def read_seconds(root: Path) -> dict[str, float]:
    """Return by model the seconds that a seed's trainings took when they last ran in this clone."""
    path = root / _FILE
    return dict(read_json(path)) if path.is_file() else {}
