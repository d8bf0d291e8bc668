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
from amalgam.params import Params
from amalgam.training.embeddings import fit_baseline
from bench.pools import CACHE
from bench.variants import Setting

TFIDF, EMBEDDING, SETFIT = "TF-IDF + LR", "embedding + LR", "SetFit"
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
