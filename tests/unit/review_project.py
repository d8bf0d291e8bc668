"""A small project in Git and DVC's cache, with made-up revisions: rows, predictions, params and metrics."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from amalgam.evaluation.predictions import build_predictions
from amalgam.review.paired import Outputs

LABELS = ["no", "yes"]
PARAMS: dict[str, Any] = {"task": "toy", "ratio": 0.8, "seeds": [1, 2, 3], "evaluation": {"confidence": 0.95}}


def make_rows(count: int, *, groups: bool = False) -> pd.DataFrame:
    """Make test rows with alternating labels."""
    names = [f"r{number:03d}" for number in range(count)]
    rows = pd.DataFrame({"id": names, "text": [f"text of {name}" for name in names], "question": ""})
    rows["label"] = [LABELS[number % 2] for number in range(count)]
    return rows.assign(group=[f"g{number // 4}" for number in range(count)]) if groups else rows


def make_outputs(rows: pd.DataFrame, strengths: dict[str, float], seeds: tuple[int, ...] = (1, 2, 3)) -> Outputs:
    """Make predictions of models whose scores separate the labels by that many standard deviations.

    Part of a row's noise is the same for all models, so that models agree on which rows are hard. Equal strengths
    give equal predictions.
    """

    def draw(name: str) -> float:
        return float(np.random.default_rng([*name.encode()]).normal())

    sign = np.where(rows["label"] == LABELS[1], 0.5, -0.5)
    tables = []
    for model, strength in strengths.items():
        for seed in seeds:
            noise = np.array([draw(name) + 0.5 * draw(f"{name} {seed} {strength}") for name in rows["id"]])
            positive = 1 / (1 + np.exp(-(strength * sign + noise)))
            probabilities = np.stack([1 - positive, positive], axis=1)
            tables.append(build_predictions("test", model, seed, rows["id"], probabilities, LABELS))
    return Outputs(LABELS, pd.concat(tables, ignore_index=True), {"test": rows})


class ReviewProject:
    """A repository to which revisions are written; `folder` is its top folder, with the workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._write(".dvc/config", "[core]\n    analytics = false\n")
        self._write(".dvc/.gitignore", "/cache\n/tmp\n")
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *args: str) -> str:
        command = ["git", "-c", "user.name=tester", "-c", "user.email=tester@example.org", *args]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def write(
        self, outputs: Outputs, metrics: dict[str, Any] | None = None, bits: int | None = None, **params: Any
    ) -> None:
        """Write a state into the workspace, its outputs into the cache only; `bits` selects the student that ships."""
        values = PARAMS | params
        self._write("params.yaml", yaml.safe_dump(values))
        self._write("data/tasks/toy/task.yaml", "ordinal: false\n")
        self._write("metrics/models.json", json.dumps(metrics or {}))
        self._write("metrics/summary.json", json.dumps({"student": {"auc": 0.5, "bits": bits}} if bits else {}))
        predictions = self._store({"predictions.csv": outputs.table.to_csv(index=False)})
        prepared = self._store({f"{name}.csv": rows.to_csv(index=False) for name, rows in outputs.rows.items()})
        stages = {
            "prepare": {"cmd": "a", "outs": [{"path": "data/prepared", "md5": prepared}]},
            "mix": {
                "cmd": "b",
                "params": {"params.yaml": {"ratio": values["ratio"]}},
                "outs": [{"path": "data/mixed.csv", "md5": "abc"}],
            },
            "evaluate": {
                "cmd": "c",
                "deps": [{"path": "data/mixed.csv", "md5": "abc"}, {"path": "data/prepared", "md5": prepared}],
                "params": {"params.yaml": {"evaluation": values["evaluation"]}},
                "outs": [{"path": "data/predictions", "md5": predictions}],
            },
        }
        self._write("dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))
        self._write("dvc.yaml", yaml.safe_dump({"stages": {name: {"cmd": "x"} for name in stages}}))

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file of the workspace."""
        path = self.folder / name
        path.write_text(path.read_text().replace(old, new))

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def drop_cache(self) -> None:
        """Delete all outputs from the cache."""
        shutil.rmtree(self.folder / ".dvc/cache", ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _store(self, files: dict[str, str]) -> str:
        entries = [{"md5": self._store_file(text), "relpath": name} for name, text in sorted(files.items())]
        return self._store_file(json.dumps(entries), ".dir")

    def _store_file(self, text: str, ending: str = "") -> str:
        name = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ending
        self._write(f".dvc/cache/files/md5/{name[:2]}/{name[2:]}", text)
        return name
