"""Amalgam's recipe on one setting of bench.gains: teachers of every seed, the guard, and students, as in the pipeline.

Results are kept under a name derived from the recipe's params, so that another recipe is trained anew. Changes to the
code are not detected: delete the folders `amalgam-*` after one. An interrupted run resumes with the next model.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from amalgam.files import read_json, read_rows, write_json
from amalgam.params import Params
from amalgam.training.checkpoint import average_logits, open_model, read_config, score_models, write_config
from amalgam.training.loop import scale_steps
from amalgam.training.student import SoftTargets, train_student
from amalgam.training.teacher import TeacherTrainer
from amalgam.training.transfer import assign_roles, build_transfer, hold_out_texts
from bench.guarding import ask_about
from bench.opponents import Scored, find_folder
from bench.pools import CACHE
from bench.variants import Setting, ignore

TWIN = "our recipe, human rows alone"
TEACHER, STUDENT = "Amalgam: teacher", "Amalgam: student"


class Recipe:
    """The models of one setting; `folder` keeps their results."""

    def __init__(self, setting: Setting, params: Params, seeds: list[int], encoder: Path) -> None:
        """Read the setting's rows."""
        scaled = {name: scale_steps(getattr(params, name), setting.size) for name in ("teacher", "distillation")}
        self._setting, self._params, self._seeds = setting, params.model_copy(update=scaled), seeds
        self._encoder = encoder
        self.folder = find_folder(setting, encoder) / f"amalgam-{_identify(params, seeds)}"
        self._validation, self._test = setting.read("validation"), setting.read("test")
        least = params.teacher.min_validation_rows
        human, self._held_out = assign_roles(setting.read("train"), self._validation, least=least)
        self._human_only, self._mixed = (setting.mix(human, ratio) for ratio in (0.0, params.ratio))

    @property
    def helps(self) -> bool:
        """Whether the guard let the synthetic rows in, once it was asked."""
        return bool(read_json(self.folder / "guard.json")["helps"])

    def run(self) -> dict[str, Scored]:
        """Train what is not on disk; keep the probabilities but not the weights."""
        path = self.folder / "probabilities.safetensors"
        if not path.is_file():
            save_file(self._train(), path)
            shutil.rmtree(self.folder / "models")
        minutes = self._count_minutes()
        return {name: Scored(found, minutes[name]) for name, found in load_file(path).items()}

    def _train(self) -> dict[str, np.ndarray]:
        folders = [self.folder / "models" / str(seed) for seed in self._seeds]
        learned, held_out, rest = self._human_only, self._held_out, (self._setting.labels, self._params.teacher)
        self._train_members("human_only", folders, partial(TeacherTrainer, self._encoder, learned, held_out, *rest))
        self._train_members(
            "contrastive", folders, partial(TeacherTrainer, self._encoder, learned, None, *rest, contrastive=True)
        )
        self._join(folders, "human_only")
        found = {TWIN: self._score("twin", folders)}
        found[TEACHER] = found[TWIN]
        self._ask_guard()
        if self.helps:
            learned = self._mixed
            self._train_members("mixed", folders, partial(TeacherTrainer, self._encoder, learned, held_out, *rest))
            self._join(folders, "mixed")
            found[TEACHER] = self._score("teacher", folders)
        return found | {STUDENT: self._score("student", self._distil(folders, learned))}

    def _train_members(self, name: str, folders: list[Path], begin: Callable[[], TeacherTrainer]) -> None:
        missing = [both for both in zip(self._seeds, folders, strict=True) if not is_trained(both[1] / name)]
        if missing:
            with self._time(f"{name}/begin"):
                trainer = begin()
            for seed, folder in missing:
                with self._time(f"{name}/{seed}"):
                    trainer.train(seed, folder / name, ignore)

    def _join(self, folders: list[Path], name: str) -> None:
        for folder in folders:
            write_config(folder, replace(read_config(folder / name), members=["contrastive", name]))

    def _ask_guard(self) -> None:
        """Decide as the stage `teacher` does, and keep the evidence."""
        if not (self.folder / "guard.json").is_file():
            with self._time("guard/asked"):
                human = self._setting.read_human()
                mixed, rest = self._setting.mix(human, self._params.ratio), (self._seeds[0], self._encoder)
                evidence = ask_about(human, mixed, self._setting.labels, self._params, *rest)
            write_json(self.folder / "guard.json", evidence.to_dict() if evidence else {"helps": 1})

    def _distil(self, teachers: list[Path], learned: pd.DataFrame) -> list[Path]:
        pool = read_rows(CACHE / self._setting.task / "synthetic.csv")
        unlabelled = self._setting.read("unlabelled")
        left_out = self._params.distillation.left_out
        whole = build_transfer(learned, pool, unlabelled, left_out=left_out, helps=self.helps)
        rows = dict(zip(("transfer", "validation"), hold_out_texts(whole, self._validation), strict=True))
        with self._time("views/scored"):
            logits = score_models(teachers, rows, [self._encoder])
        students = [folder / "student" for folder in teachers]
        transfer, validation = (SoftTargets(table, average_logits(logits[name])) for name, table in rows.items())
        for seed, folder, target in zip(self._seeds, teachers, students, strict=True):
            if not is_trained(target):
                with self._time(f"student/{seed}"):
                    bases = self._encoder, self._encoder
                    train_student(folder, bases, transfer, validation, self._params.distillation, seed, target, ignore)
        return students

    def _score(self, name: str, folders: list[Path]) -> np.ndarray:
        with self._time(f"{name}/score"):
            return np.stack([open_model(folder, [self._encoder])(self._test) for folder in folders])

    @contextmanager
    def _time(self, part: str) -> Iterator[None]:
        """Record the seconds of a part in `seconds.json`."""
        start = time.monotonic()
        yield
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "seconds.json", self._read_seconds() | {part: time.monotonic() - start})

    def _read_seconds(self) -> dict[str, float]:
        path = self.folder / "seconds.json"
        found: dict[str, float] = read_json(path) if path.is_file() else {}
        return found

    def _count_minutes(self) -> dict[str, float]:
        """Count the minutes of one model, guard and scoring included; a student learns from all seeds' teachers."""
        parts: dict[str, float] = {}
        for name, seconds in self._read_seconds().items():
            part = name.split("/")[0]
            parts[part] = parts.get(part, 0.0) + seconds / 60
        used, seeds = "mixed" if self.helps else "human_only", len(self._seeds)
        twin = parts["human_only"] + parts["contrastive"] + parts["twin"]
        teacher = parts[used] + parts["contrastive"]
        return {
            TWIN: twin / seeds,
            TEACHER: parts["guard"] + (teacher + parts["teacher" if self.helps else "twin"]) / seeds,
            STUDENT: parts["guard"] + teacher + parts["views"] + parts["student"] / seeds,
        }


def is_trained(folder: Path) -> bool:
    """Return whether a model's folder is complete: this file is written last."""
    return (folder / "amalgam.json").is_file()


def _identify(params: Params, seeds: list[int]) -> str:
    """Return a short name for everything that decides what is trained, except the encoder."""
    teacher = params.teacher.model_dump(exclude={"model"})
    decides = [teacher, params.distillation.model_dump(), params.ratio, seeds]  # the seeds' teachers teach together
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
