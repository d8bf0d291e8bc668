"""Does it help, and on which tasks? Amalgam beside what human rows alone can buy, on human-coded test rows.

Run `python -m bench.gains` after `python -m bench.pools FOLDER`. What was trained is kept in `.cache/bench`, so that a
run that was ended goes on where it was, and what was measured in `bench/gains.jsonl`, a line a setting, from which the
tables come; `--again` measures the settings anew. `--setfit PYTHON` names the interpreter of an environment with SetFit
(see setfit_peer.py); without it that method is left out. Small encoders learn faster on one core each, so give each
core its own tasks (`taskset -c 0 python -m bench.gains --tasks ...`), then print the whole table.

For each number of human rows, a table has the AUC of each method, the mean over seeds. Below it, Amalgam's teacher and
student are compared with the human-only method that did best on the same test rows, which favours that method, and the
student with its twin, the human-only teacher of the same recipe: paired differences with 95 % intervals over seeds and
test rows, and the p-value of the student's, corrected for the number of tasks by Holm's method. The last line has
their means with an interval over tasks (Student's t).
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from amalgam.baselines import fit_embedding, fit_tfidf
from amalgam.evaluation.bootstrap import find_interval, find_p_value, subtract_estimates
from amalgam.evaluation.compare import encode_groups, encode_labels, estimate_models
from amalgam.files import read_json, write_json
from amalgam.params import Params, load_params
from amalgam.review.paired import correct_p_values
from amalgam.rows import iterate_dicts, read_rows
from amalgam.training.budget import scale_steps
from amalgam.training.checkpoint import note_members
from amalgam.training.contrastive import ContrastiveTrainer
from amalgam.training.roles import assign_roles
from amalgam.training.scoring import Scorer, average_views
from amalgam.training.student import Distiller, Views
from amalgam.training.teacher import TeacherTrainer
from amalgam.training.transfer import build_transfer, hold_out_texts, score_views
from bench.guarding import ask_about
from bench.pools import CACHE, SIZES, TASKS
from bench.variants import ENCODER, Setting, format_mean, ignore, measure_way

RESULTS = Path("bench/gains.jsonl")
TWIN = "teacher, Amalgam's recipe"
HUMAN_ONLY = ("TF-IDF + LR", "embedding + LR", "SetFit", "teacher, plain recipe", TWIN)
METHODS = (*HUMAN_ONLY, "plain mix", "Amalgam: teacher", "Amalgam: student")


class Bench:
    """One setting: all methods' probabilities [seeds, rows, classes] of its test rows, kept as they come."""

    def __init__(self, setting: Setting, params: Params, seeds: list[int], setfit: Path | None) -> None:
        """Read the setting's rows."""
        scaled = {name: scale_steps(getattr(params, name), setting.size) for name in ("teacher", "distillation")}
        self._params = params.model_copy(update=scaled)
        self.setting, self._seeds, self._setfit = setting, seeds, setfit
        self.folder = CACHE / f"{setting.task}-{setting.size}"
        self._train, self._validation = setting.read("train"), setting.read("validation")
        self.test = setting.read("test")
        human, self._held_out = assign_roles(self._train, self._validation, least=params.teacher.least_validation)
        self._human_only, self._mixed = (setting.mix(human, ratio) for ratio in (0.0, params.ratio))
        self._teaches_all = self._held_out is None

    def measure(self) -> dict[str, np.ndarray]:
        """Return the probabilities by method, in the order of `METHODS`."""
        plain = partial(measure_way, setting=self.setting, params=self._params, seeds=self._seeds)
        found = self._fit_baselines() | self._run_setfit()
        ways = ("human only, validation rows teach", "validation rows teach")
        ways = ways if self._teaches_all else ("human only", "plain mix")
        found |= {"teacher, plain recipe": plain(ways[0]), "plain mix": plain(ways[1])}
        found |= self.run_amalgam()
        return {name: found[name] for name in METHODS if name in found}

    def read_evidence(self) -> dict[str, float]:
        """Return what the guard decided, and why, once Amalgam has run."""
        found: dict[str, float] = read_json(self.folder / "guard.json")
        return found

    def _fit_baselines(self) -> dict[str, np.ndarray]:
        rows = self._train, self._validation, self.test, self.setting.labels
        max_length, refit = self._params.teacher.max_length, self._teaches_all
        embedding = fit_embedding(ENCODER, *rows, max_length=max_length, refit=refit)
        found = {"TF-IDF + LR": fit_tfidf(*rows, refit=refit), "embedding + LR": embedding}
        return {name: fitted.probabilities[None] for name, fitted in found.items()}

    def _run_setfit(self) -> dict[str, np.ndarray]:
        if self._setfit is None:
            return {}
        stack = []
        for seed in self._seeds:
            path = self.folder / f"setfit-{seed}.csv"
            if not path.is_file():
                with tempfile.TemporaryDirectory() as temporary:
                    human = Path(temporary) / "human.csv"
                    pd.concat([self._train, self._validation]).to_csv(human, index=False)
                    tables = [str(human), str(self.folder / "test.csv"), str(ENCODER)]
                    command = [str(self._setfit), "bench/setfit_peer.py", *tables, ",".join(self.setting.labels)]
                    subprocess.run([*command, str(seed), str(path)], check=True, stdout=subprocess.DEVNULL)
            stack.append(pd.read_csv(path)[self.setting.labels].to_numpy())
        return {"SetFit": np.stack(stack)}

    def run_amalgam(self) -> dict[str, np.ndarray]:
        """Train teachers and students as the pipeline does; keep their probabilities and not their weights."""
        path = self.folder / f"amalgam-{len(self._seeds)}.safetensors"  # the seeds' teachers teach together
        if path.is_file():
            return load_file(path)
        models = self.folder / "models"
        folders = [models / str(seed) for seed in self._seeds]
        learned, held_out, rest = self._human_only, self._held_out, (self.setting.labels, self._params.teacher)
        self._train_members("human_only", folders, partial(TeacherTrainer, ENCODER, learned, held_out, *rest))
        self._train_members("contrastive", folders, partial(ContrastiveTrainer, ENCODER, learned, *rest))
        for folder in folders:
            note_members(folder, ["contrastive", "human_only"])
        found = {TWIN: self._score(folders)}
        if self._ask_guard():
            learned = self._mixed
            self._train_members("mixed", folders, partial(TeacherTrainer, ENCODER, learned, held_out, *rest))
            for folder in folders:
                note_members(folder, ["contrastive", "mixed"])
        found["Amalgam: teacher"] = self._score(folders)
        found["Amalgam: student"] = self._score(self._distil(folders, learned))
        save_file(found, path)
        shutil.rmtree(models)
        return found

    def _train_members(self, name: str, folders: list[Path], begin: Callable[[], TeacherTrainer]) -> None:
        missing = [both for both in zip(self._seeds, folders, strict=True) if not is_trained(both[1] / name)]
        if missing:
            trainer = begin()
            for seed, folder in missing:
                trainer.train(seed, folder / name, ignore)

    def _ask_guard(self) -> bool:
        """Decide as the stage `teacher` does, and keep the evidence."""
        evidence = ask_about(self.setting, self._params, self._seeds[0])
        write_json(self.folder / "guard.json", evidence.to_dict() if evidence else {"helps": 1})
        return bool(self.read_evidence()["helps"])

    def _distil(self, teachers: list[Path], learned: pd.DataFrame) -> list[Path]:
        pool = iterate_dicts(read_rows(CACHE / self.setting.task / "synthetic.csv"))
        unlabelled = self.setting.read("unlabelled")
        whole = build_transfer(learned, pool, unlabelled, left_out=self._params.distillation.left_out)
        rows = dict(zip(("transfer", "validation"), hold_out_texts(whole, self._validation), strict=True))
        logits = score_views(teachers, rows, ENCODER)
        students = [folder / "student" for folder in teachers]
        transfer, validation = (Views(table, average_views(logits[name])) for name, table in rows.items())
        for seed, folder, target in zip(self._seeds, teachers, students, strict=True):
            if not is_trained(target):
                distiller = Distiller(folder, ENCODER, ENCODER, transfer, validation, self._params.distillation)
                distiller.distil(seed, target, ignore)
        return students

    def _score(self, folders: list[Path]) -> np.ndarray:
        return np.stack([Scorer(folder, ENCODER).score(self.test) for folder in folders])


def is_trained(folder: Path) -> bool:
    """Tell whether a model's folder is whole: this file is written last."""
    return (folder / "amalgam.json").is_file()


@dataclass(frozen=True)
class Gain:
    """By how much an AUC is above that of a human-only method: paired, over seeds and test rows."""

    value: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        """Write the difference with its interval, for a table."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class Result:
    """What came out on one setting."""

    areas: dict[str, float]
    best: str  # the human-only method with the highest AUC on the same test rows
    teacher: Gain
    student: Gain
    student_over_twin: Gain  # over the human-only teacher of the same recipe, whatever the test rows say
    helps: bool

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Make one of what `asdict` returns."""
        gains = {name: Gain(**fields[name]) for name in ("teacher", "student", "student_over_twin")}
        return cls(**fields | gains)


def compare(bench: Bench, found: dict[str, np.ndarray], params: Params) -> Result:
    """Compare teacher and student with the best human-only method, and the student with the teacher's twin."""
    actual = encode_labels(bench.test, bench.setting.labels, "the test rows")
    estimates = estimate_models(actual, encode_groups(bench.test), found, params.evaluation, ordinal=False)
    areas = {name: estimates[name]["auc"].value for name in found}
    best = max((name for name in HUMAN_ONLY if name in found), key=lambda name: areas[name])

    def measure_gain(name: str, other: str) -> Gain:
        change = subtract_estimates(estimates[name], estimates[other], ("auc",))["auc"]
        return Gain(change.value, *find_interval(change, params.evaluation.confidence), find_p_value(change))

    return Result(
        areas,
        best,
        measure_gain("Amalgam: teacher", best),
        measure_gain("Amalgam: student", best),
        measure_gain("Amalgam: student", TWIN),
        helps=bool(bench.read_evidence()["helps"]),
    )


def print_tables(results: dict[str, Result]) -> None:
    """Print the AUC by method, and what teacher and student gain."""
    print("\n| method | " + " | ".join(results) + " | mean |\n|---|" + "---|" * (len(results) + 1))
    for name in METHODS:
        values = [one.areas[name] for one in results.values() if name in one.areas]
        if values:
            print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in [*values, float(np.mean(values))]) + " |")
    heads = ["best human-only method", "teacher minus it", "student minus it", "p", "student minus twin", "synthetic"]
    print(f"\n| task | {' | '.join(heads)} |\n|---|" + "---|" * len(heads))
    corrected = correct_p_values([one.student.p for one in results.values()])
    for (name, one), p in zip(results.items(), corrected, strict=True):
        cells = [name, one.best, one.teacher, one.student, f"{p:.3f}", one.student_over_twin]
        print(f"| {' | '.join(map(str, cells))} | {'in' if one.helps else 'out'} |")
    gains = [[one.teacher.value, one.student.value, one.student_over_twin.value] for one in results.values()]
    teacher, student, over_twin = (format_mean(np.array(values)) for values in zip(*gains, strict=True))
    print(f"| mean | | {teacher} | {student} | | {over_twin} | |")


def read_results() -> dict[tuple[str, int], Result]:
    """Read what was measured, by task and number of human rows; of several measurements the last one."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.is_file() else []
    return {(line.pop("task"), line.pop("size")): Result.from_dict(line) for line in lines}


def main(tasks: list[str], sizes: list[int], seeds: list[int], setfit: Path | None, *, again: bool) -> None:
    """Measure the settings that are not measured yet, then print the tables."""
    params = load_params(Path("params.yaml"))
    for size in sizes:
        results = {}
        for task in tasks:
            found = read_results().get((task, size))
            if found is None or again:
                bench = Bench(Setting(task, size), params, seeds, setfit)
                found = compare(bench, bench.measure(), params)
                with RESULTS.open("a") as file:
                    file.write(json.dumps({"task": task, "size": size} | asdict(found)) + "\n")
            results[task] = found
        print_tables(results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--setfit", type=Path)
    parser.add_argument("--again", action="store_true")
    args = parser.parse_args()
    main(args.tasks, args.sizes, args.seeds, args.setfit, again=args.again)
