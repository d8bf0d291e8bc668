"""Does the student ask a human often enough? Count the rows that it labels alone, and how often coders agree there.

Run `python -m bench.deferral FOLDER` after `dvc repro models`; FOLDER/TASK/responses.csv holds the rows of each task in
bench/tasks. Teachers learn only the human rows, with one seed, so that no LLM is needed. The rest is as in the
pipeline: five folds label every human row, the bound sets the share that needs no human, and the student of the two
members takes that share of the test rows. The target is an agreement of `shipping.agreement`; its whole interval on the
test rows may be below that in at most one setting in twenty. `.cache/bench` keeps the results of training.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from amalgam.evaluation.bootstrap import encode_groups, encode_labels
from amalgam.evaluation.subsets import measure_selective
from amalgam.files import read_rows, write_rows
from amalgam.params import Params, load_params
from amalgam.shipping.calibration import Calibration, Judged, calibrate
from amalgam.tasks.texts import find_units
from amalgam.training.checkpoint import read_config, score_models, write_config
from amalgam.training.loop import scale_steps
from amalgam.training.parallel import run_trainings
from amalgam.training.student import SoftTargets, train_student
from amalgam.training.teacher import HUMAN_ONLY, label_out_of_fold, list_trials, make_members
from amalgam.training.transfer import assign_roles, build_transfer, hold_out_texts
from bench.pools import CACHE, SIZES, TASKS, prepare_task
from bench.rules import MORE_TASKS
from bench.variants import ENCODER, Setting, ignore, soften

_SEED = 1
_SCORED = ("test", "unlabelled", "validation")


class Deferral:
    """One setting: the cross-validated labels of its human rows, and the student's logits."""

    def __init__(self, setting: Setting, params: Params) -> None:
        """Read the rows; train what is not on disk yet."""
        self._setting, self._params = setting, params
        self._teacher = scale_steps(params.teacher, setting.size)
        self._folder = CACHE / f"{setting.task}-{setting.size}" / "deferral"
        self._validation = setting.read("validation")
        self._human, self._held_out = assign_roles(
            setting.read("train"), self._validation, least=self._teacher.min_validation_rows
        )
        if not (self._folder / "student.safetensors").is_file():
            write_rows(self._folder / "out_of_fold.csv", self._label_out_of_fold())
            save_file(self._train_student(), self._folder / "student.safetensors")

    def calibrate(self) -> Calibration:
        """Find the threshold as the stage `export` does."""
        judged = read_rows(self._folder / "out_of_fold.csv")
        student = load_file(self._folder / "student.safetensors")
        validation = self._validation if self._held_out is not None else self._validation.head(0)
        return calibrate(
            student["validation"][: len(validation)],
            encode_labels(validation, self._setting.labels, "the validation rows"),
            find_units(validation),
            Judged(
                judged["probability"].to_numpy(np.float64),
                (judged["predicted"] == judged["label"]).to_numpy(np.bool_),
                judged["unit"].to_numpy(np.int64),
            ),
            student["unlabelled"],
            agreement=self._params.shipping.agreement,
            confidence=self._params.evaluation.confidence,
        )

    def measure(self, calibration: Calibration) -> dict[str, float]:
        """Measure a calibration on the test rows."""
        test, logits = self._setting.read("test"), load_file(self._folder / "student.safetensors")["test"]
        actual = encode_labels(test, self._setting.labels, "the test rows")
        fields = {name: getattr(calibration, name) for name in ("temperature", "threshold", "ask_below")}
        return measure_selective(
            actual, encode_groups(test), soften(logits), fields, self._params.evaluation.confidence
        )

    def _label_out_of_fold(self) -> pd.DataFrame:
        human = pd.concat([self._human, self._held_out] if self._held_out is not None else [self._human])
        rows, labels = human.reset_index(drop=True), self._setting.labels
        trials = list_trials(ENCODER, rows, labels, self._teacher, _SEED)
        return label_out_of_fold(rows, labels, run_trainings(trials, ENCODER, ignore))

    def _train_student(self) -> dict[str, np.ndarray]:
        learned = self._human.assign(origin="human")
        members = make_members(ENCODER, learned, self._held_out, self._setting.labels, self._teacher, HUMAN_ONLY)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name, trainer in members.items():
                trainer.train(_SEED, folder / name, ignore)
            write_config(folder, replace(read_config(folder / next(iter(members))), members=list(members)))
            whole = build_transfer(learned, learned.head(0), self._setting.read("unlabelled"), left_out=0)
            rows = dict(zip(("transfer", "validation"), hold_out_texts(whole, self._validation), strict=True))
            logits = score_models([folder], rows, [ENCODER])
            transfer, held_out = (SoftTargets(rows[name], logits[name][0]) for name in rows)
            distillation = scale_steps(self._params.distillation, self._setting.size)
            bases, student = (ENCODER, ENCODER), folder / "student"
            train_student(folder, bases, transfer, held_out, distillation, _SEED, student, ignore)
            tables = {name: self._setting.read(name) for name in _SCORED}
            return {name: found[0] for name, found in score_models([student], tables, [ENCODER]).items()}


def main(data: Path, tasks: list[str], sizes: list[int]) -> None:
    """Measure all settings, then print the table and how many fall short."""
    params = load_params(Path("params.yaml"))
    short = several = 0
    print("| setting | right in cross-validation | labelled alone | agreement there |\n|---|---|---|---|")
    for setting in (Setting(task, size) for task in tasks for size in sizes):
        if not (CACHE / f"{setting.task}-{setting.size}").is_dir():
            prepare_task(setting.task, data, params)
        bench = Deferral(setting, params)
        found = bench.measure(bench.calibrate())
        judged = read_rows(CACHE / f"{setting.task}-{setting.size}/deferral/out_of_fold.csv")
        right = (judged["predicted"] == judged["label"]).mean()
        several += 1
        agreement = "-"
        if "agreement" in found:
            agreement = f"{found['agreement']:.3f} [{found['agreement_low']:.3f}, {found['agreement_high']:.3f}]"
            short += found["agreement_high"] < params.shipping.agreement
        print(f"| {setting.task}, {setting.size} | {right:.2f} | {found['coverage']:.0%} | {agreement} |", flush=True)
    print(f"\n{short} of {several} settings have an agreement wholly below {params.shipping.agreement:g}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with TASK/responses.csv")
    parser.add_argument("--tasks", nargs="+", default=[*TASKS, *MORE_TASKS])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    args = parser.parse_args()
    main(args.data, args.tasks, args.sizes)
