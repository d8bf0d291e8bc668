"""Rows scored a second, and AUC: the student that ships, its teacher, and the paper's evaluation loop.

Run `python -m bench.scoring` in the project's folder after `dvc repro`, with nothing else on the cores. All score the
same test rows in turn, `--rounds` times; if `--rows` asks for more than there are, the rows are repeated. The paper's
loop pads every row to 128 tokens and computes in float32; it runs with the teacher's own weights, and with random
weights of bert-base's size, which have no meaningful AUC.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

from amalgam.files import read_rows
from amalgam.machine import choose_device
from amalgam.params import load_params
from amalgam.shipping.onnx import OnnxScorer
from amalgam.tasks.schema import load_task
from amalgam.training.checkpoint import list_members, load_trained, open_model, read_config
from amalgam.training.classifier import add_pooling
from amalgam.training.encoding import load_tokenizer

ENCODER, STUDENT = Path("models/base/encoder"), Path("models/student")
_PAPER_LENGTH, _PAPER_BATCH = 128, 16
Score = Callable[[pd.DataFrame], np.ndarray]


def score_as_paper(model: torch.nn.Module, tokenizer_folder: Path) -> Score:
    """Score as the notebook does: batches of 16 rows in order, each padded to 128 tokens, in float32."""
    device, tokenizer = choose_device(), load_tokenizer(tokenizer_folder)
    model.to(device).eval()

    def score(rows: pd.DataFrame) -> np.ndarray:
        found = []
        for start in range(0, len(rows), _PAPER_BATCH):
            texts = rows["text"].iloc[start : start + _PAPER_BATCH].tolist()
            batch = tokenizer(
                texts, padding="max_length", truncation=True, max_length=_PAPER_LENGTH, return_tensors="pt"
            )
            with torch.no_grad():
                logits = model(**batch.to(device))["logits"]
                found.append(torch.softmax(logits, dim=1).cpu().numpy())
        return np.concatenate(found)

    return score


def list_ways(teacher: Path, labels: list[str]) -> dict[str, Score]:
    """List the scorers; the first is the reference."""
    from transformers import BertConfig, BertForSequenceClassification

    body = list_members(teacher)[0]
    own = add_pooling(load_trained(body, [ENCODER]), read_config(body).pooling)
    base = BertForSequenceClassification(BertConfig(num_labels=len(labels)))
    return {
        "the paper's loop, the teacher's encoder": score_as_paper(own, body),
        "the paper's loop, random weights of bert-base's size": score_as_paper(base, body),
        "teacher, PyTorch": open_model(teacher, [ENCODER]),
        "student, PyTorch": open_model(STUDENT),
        "student, ONNX float32": OnnxScorer(STUDENT / "model.onnx", STUDENT).score,
        "student, ONNX int8": OnnxScorer(STUDENT / "model.int8.onnx", STUDENT).score,
    }


def measure_auc(probabilities: np.ndarray, test: pd.DataFrame, labels: list[str]) -> float:
    """Return the AUC: the mean over classes, each against the rest."""
    from sklearn.metrics import roc_auc_score

    actual = test["label"].to_numpy()
    return float(np.mean([roc_auc_score(actual == label, probabilities[:, n]) for n, label in enumerate(labels)]))


def main(rows: int, rounds: int) -> None:
    """Measure, then print the table."""
    params = load_params(Path("params.yaml"))
    labels = load_task(Path("data/tasks") / params.task).label_names
    known = read_rows(Path("data/prepared/test.csv"))
    test = pd.concat([known] * -(-rows // len(known)), ignore_index=True).head(rows)
    ways = list_ways(Path("models/teacher") / f"seed-{params.seeds[0]}", labels)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    areas = {}
    for score in ways.values():
        score(test.head(64))
    for _ in range(rounds):
        for name, score in ways.items():
            start = time.perf_counter()
            probabilities = score(test)
            seconds[name].append(time.perf_counter() - start)
            areas[name] = measure_auc(probabilities, test, labels)
    first = median(next(iter(seconds.values())))
    device = f"{torch.get_num_threads()} CPU threads"
    if torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name()}, {device}"
    print(f"{len(test)} rows, {rounds} rounds, {device}, torch {torch.__version__}\n")
    print("| scoring | rows/s | times the first | AUC |\n|---|---|---|---|")
    for name, taken in seconds.items():
        area = "" if "random" in name else f"{areas[name]:.3f}"
        print(f"| {name} | {len(test) / median(taken):.0f} | {first / median(taken):.1f} | {area} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    main(args.rows, args.rounds)
