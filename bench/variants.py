"""What each way to use synthetic rows is worth: AUC on human-coded test rows, over tasks and seeds.

Run `python -m bench.variants` after `python -m bench.pools FOLDER`. Predictions are kept in `.cache/bench`, so that an
interrupted run resumes; `--only NAME` selects some of the ways, `--tasks` and `--sizes` some of the settings. The first
way, plain mixing, is the reference: for each difference from it, the table has the mean over settings with a 95 %
interval (Student's t over settings), and the number of settings in which it is above and below 0 beyond chance (paired
95 % intervals over seeds and test rows).
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import encode_groups, encode_labels, estimate_models
from amalgam.files import read_rows
from amalgam.params import Params, load_params
from amalgam.synthesis.mix import count_synthetic, mix_rows
from amalgam.tasks.schema import load_task
from bench.differences import Gain, measure_gain
from bench.pools import CACHE, SIZES, TASKS

ENCODER = Path("models/base/encoder")


@dataclass(frozen=True)
class Way:
    """A way to train: its changes from plain mixing, whether it has synthetic rows, or the ways that it averages.

    A `contrastive` way learns by contrast, and no rows choose its checkpoint.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    synthetic: bool = True
    contrastive: bool = False
    members: tuple[str, ...] = ()


# The options that earlier measurements rejected (docs/findings.md) were removed from the code.
WAYS = {
    "plain mix": Way(),
    "human only": Way(synthetic=False),
    "validation rows choose": Way({"min_validation_rows": 0}),
    "the paper's recipe": Way({"recipe": "paper"}),
    "human only, contrastive": Way(synthetic=False, contrastive=True),
    "human only, both objectives": Way(members=("human only", "human only, contrastive")),
    "ensemble of both objectives": Way(members=("plain mix", "human only, contrastive")),
    "class weights": Way({"class_weights": True}),
}


@dataclass(frozen=True)
class Setting:
    """A task with a number of human rows."""

    task: str
    size: int

    def read(self, part: str) -> pd.DataFrame:
        """Read a part of the split."""
        return read_rows(CACHE / f"{self.task}-{self.size}" / f"{part}.csv")

    def read_human(self) -> pd.DataFrame:
        """Read all human-coded rows except the test rows."""
        return pd.concat([self.read("train"), self.read("validation")], ignore_index=True)

    @property
    def labels(self) -> list[str]:
        """Names of the labels in class order."""
        return load_task(Path("bench/tasks") / self.task).label_names

    def mix(self, rows: pd.DataFrame, ratio: float) -> pd.DataFrame:
        """Mix human rows at the ratio, or with the whole pool if it is too small for that."""
        pool = read_rows(CACHE / self.task / "synthetic.csv")
        few = pool["label"].value_counts().reindex(self.labels, fill_value=0).min() * len(self.labels)
        while count_synthetic(ratio, len(rows)) > few:
            ratio -= 0.01
        return mix_rows(rows, pool, pd.DataFrame(columns=["label", "reason"]), ratio, self.labels)


def measure_way(name: str, setting: Setting, params: Params, seeds: list[int]) -> np.ndarray:
    """Return probabilities [seeds, rows, classes] of the test rows; those of earlier runs are read from disk."""
    from safetensors.numpy import load_file, save_file

    from amalgam.training.loop import scale_steps
    from amalgam.training.teacher import TeacherTrainer
    from amalgam.training.transfer import assign_roles

    way = WAYS[name]
    if way.members:
        return np.asarray(np.mean([measure_way(one, setting, params, seeds) for one in way.members], axis=0))
    path = CACHE / f"{setting.task}-{setting.size}" / "ways" / f"{name.replace(' ', '_')}.safetensors"
    found = load_file(path) if path.is_file() else {}
    missing = [seed for seed in seeds if f"{seed}" not in found]
    if missing:
        test = setting.read("test")
        teacher = scale_steps(params.teacher, setting.size).model_copy(update=way.changes)
        train, validation = setting.read("train"), setting.read("validation")
        human, held_out = assign_roles(train, validation, least=teacher.min_validation_rows)
        learned = setting.mix(human, params.ratio if way.synthetic else 0.0)
        trainer = TeacherTrainer(ENCODER, learned, held_out, setting.labels, teacher, contrastive=way.contrastive)
        path.parent.mkdir(parents=True, exist_ok=True)
        for seed in missing:
            found[f"{seed}"] = soften(trainer.train_and_score(seed, test, ignore))
            save_file(found, path)
    return np.stack([found[f"{seed}"] for seed in seeds])


def soften(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits [rows, classes]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)


def measure_difference(setting: Setting, way: np.ndarray, base: np.ndarray, params: Params) -> tuple[float, Gain]:
    """Return the AUC of probabilities [seeds, rows, classes], and its difference from that of others."""
    test = setting.read("test")
    actual, groups = encode_labels(test, setting.labels, "the test rows"), encode_groups(test)
    found = estimate_models(actual, groups, {"way": way, "base": base}, ordinal=False)
    area, other = found["way"]["auc"], found["base"]["auc"]
    return area.value, measure_gain(area, other, params.evaluation.confidence)


def ignore(_item: object) -> None:
    """Do nothing about a step."""


def format_mean(values: np.ndarray) -> str:
    """Format the mean of one value per setting, with its interval if there are several."""
    from scipy.stats import t

    if len(values) == 1 or not values.any():
        return f"{values.mean():+.3f}"
    reach = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} [{values.mean() - reach:+.3f}, {values.mean() + reach:+.3f}]"


def main(tasks: list[str], sizes: list[int], only: list[str], seeds: list[int]) -> None:
    """Measure the ways, then print the table."""
    params = load_params(Path("params.yaml"))
    settings = [Setting(task, size) for task in tasks for size in sizes]
    names = [f"{setting.task}, {setting.size}" for setting in settings]
    print(f"| way | {' | '.join(names)} | mean | minus plain mix | above | below |")
    print("|---|" + "---|" * (len(settings) + 4))
    for name in (name for name in WAYS if not only or name in only):
        areas, gains = [], []
        for setting in settings:
            way, plain = (measure_way(one, setting, params, seeds) for one in (name, "plain mix"))
            area, gain = measure_difference(setting, way, plain, params)
            areas.append(area)
            gains.append(gain)
        cells = " | ".join(f"{area:.3f}" for area in [*areas, np.mean(areas)])
        above, below = sum(gain.low > 0 for gain in gains), sum(gain.high < 0 for gain in gains)
        mean = format_mean(np.array([gain.value for gain in gains]))
        print(f"| {name} | {cells} | {mean} | {above} | {below} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    args = parser.parse_args()
    main(args.tasks, args.sizes, args.only, args.seeds)
