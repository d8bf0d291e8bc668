"""What people would pick instead of Amalgam, on one setting of bench.gains; all of it sees only the human rows."""

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amalgam.files import hash_file, read_json, write_json
from amalgam.llm.answering import answer_requests
from amalgam.params import Params
from amalgam.synthesis.grading import build_grading_requests, read_grades
from amalgam.tasks.schema import load_task
from amalgam.training.embeddings import fit_baseline
from bench.pools import CACHE, open_llm
from bench.variants import Setting

TFIDF, EMBEDDING, SETFIT, GRADER = "TF-IDF + LR", "embedding + LR", "SetFit", "LLM grader"
SETFIT_SEEDS = {51: (1, 2)}  # by human rows; else seed 1: training takes many minutes


@dataclass(frozen=True)
class Scored:
    """Probabilities [seeds, rows, classes] of the test rows, and the minutes of one model, None if unknown."""

    probabilities: np.ndarray
    minutes: float | None


def find_folder(setting: Setting, encoder: Path) -> Path:
    """Return the folder of a setting's results with an encoder, whichever folder holds the encoder."""
    return CACHE / f"{setting.task}-{setting.size}" / f"gains-{identify(encoder)}"


@cache
def identify(encoder: Path) -> str:
    """Return a short name of an encoder's weights."""
    return hash_file(encoder / "model.safetensors")[:8]


def fit_baselines(setting: Setting, encoder: Path, params: Params) -> dict[str, Scored]:
    """Fit logistic regression on TF-IDF and on frozen embeddings, as the stage `baselines` does."""
    train, validation, test = (setting.read(name) for name in ("train", "validation", "test"))
    refit = len(validation) < params.teacher.min_validation_rows
    embed = partial(fit_baseline, encoder=encoder, max_length=params.teacher.max_length)
    found = {}
    for name, fit in ((TFIDF, fit_baseline), (EMBEDDING, embed)):
        start = time.monotonic()
        probabilities, _ = fit(train, validation, test, setting.labels, refit=refit)
        found[name] = Scored(probabilities[None], (time.monotonic() - start) / 60)
    return found


def run_setfit(setting: Setting, encoder: Path, interpreter: Path | None) -> dict[str, Scored]:
    """Train SetFit with each seed not on disk yet; return nothing if there is no interpreter for that."""
    folder = find_folder(setting, encoder)
    paths = {seed: folder / f"setfit-{seed}.csv" for seed in SETFIT_SEEDS.get(setting.size, (1,))}
    for seed, path in paths.items():
        if path.is_file():
            continue
        if interpreter is None:
            return {}
        path.parent.mkdir(parents=True, exist_ok=True)
        test, part = CACHE / f"{setting.task}-{setting.size}" / "test.csv", path.with_suffix(".part")
        summary = train_setfit(interpreter, setting.read_human(), test, encoder, setting.labels, seed, part)
        write_json(path.with_suffix(".json"), summary)
        part.rename(path)
    stack = np.stack([pd.read_csv(path)[setting.labels].to_numpy() for path in paths.values()])
    seconds = [read_json(path.with_suffix(".json"))["seconds"] for path in paths.values()]
    return {SETFIT: Scored(stack, float(np.mean(seconds)) / 60)}


def train_setfit(
    interpreter: Path, human: pd.DataFrame, test: Path, encoder: Path, labels: list[str], seed: int, out: Path
) -> dict[str, Any]:
    """Train SetFit on human rows with a Python that has it; write what it gets on the test rows, return its summary."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "human.csv"
        human.to_csv(table, index=False)
        peer = "bench/setfit_peer.py"
        command = [str(part) for part in (interpreter, peer, table, test, encoder, ",".join(labels), seed, out)]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def grade_rows(setting: Setting, params: Params, *, ask: bool) -> dict[str, Scored]:
    """Let the LLM grade the test rows, unless grades are on disk; return nothing if not and `ask` is false."""
    path = CACHE / f"{setting.task}-{setting.size}" / "grader.csv"
    if not path.is_file():
        if not ask:
            return {}
        model, answering = open_llm(params, Path("models/base/llm"))
        task = load_task(Path("bench/tasks") / setting.task)
        rows, train = setting.read("test"), setting.read("train")
        requests = build_grading_requests(task, rows, train, model, params.judge, params.llm.body)
        start = time.monotonic()
        answers = answer_requests(requests, answering, f"grade {setting.task}, {setting.size}")
        seconds = time.monotonic() - start
        whole = answering.sent >= len(answers)  # else the journal had some of the answers
        grades, _ = read_grades(answers, setting.labels, GRADER)
        write_json(path.with_suffix(".json"), {"seconds": seconds if whole else None, "unread": grades.count("")})
        even = 1 / len(setting.labels)
        hard = [[float(grade == label) if grade else even for label in setting.labels] for grade in grades]
        pd.DataFrame(hard, columns=setting.labels).to_csv(path, index=False)
    known = read_json(path.with_suffix(".json"))["seconds"]
    probabilities = pd.read_csv(path)[setting.labels].to_numpy()
    return {GRADER: Scored(probabilities[None], None if known is None else known / 60)}
