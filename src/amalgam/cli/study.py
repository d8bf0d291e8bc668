"""`amalgam study status`: how far the study is, from a file that its stage `cells` writes every second."""

import json
import time
from pathlib import Path

from amalgam.cli import print_table
from amalgam.errors import DataError
from amalgam.files import read_json

_STALE = 120.0  # seconds without a word, after which nobody seems to be computing


def run_status(project: Path, *, as_json: bool) -> None:
    """Print the cells that are done, running and failed, and the time left."""
    path = project / ".cache/study.json"
    if not path.is_file():
        raise DataError("no study has run here: `dvc repro study/dvc.yaml` runs what study/params.yaml says")
    status = read_json(path)
    if as_json:
        print(json.dumps(status, indent=2))
        return
    left = status["seconds_left"]
    shown = "" if left is None or not status["trainings_left"] else f", about {left / 60:.0f} minutes left"
    print(f"{status['done']} of {status['cells']} cells are done, {len(status['failed'])} failures{shown}")
    if status["trainings_left"] and time.time() - status["written"] > _STALE:
        print("nothing was heard for two minutes: `dvc repro study/dvc.yaml` goes on where it was")
    rows = [(name, f"running for {seconds} s") for name, seconds in status["running"].items()]
    rows += [(name, f"failed: {fault}") for name, fault in status["failed"].items()]
    if rows:
        print_table([("cell", "state"), *rows])
