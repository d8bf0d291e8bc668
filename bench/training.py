"""Rows trained a second, and the resulting AUC: Amalgam's loop, the paper's, and `transformers.Trainer`.

Run `python -m bench.training` in the project's folder after `dvc repro mix`, with nothing else on the cores. All three
train the same encoder on the rows of data/mixed.csv, with the same epochs, learning rate and batch size, and score the
same test rows. They take turns, `--rounds` times, so that a machine that slows down favours none.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import torch

from amalgam.files import read_rows
from amalgam.machine import choose_device, set_seed
from amalgam.params import Params, load_params
from amalgam.tasks.schema import load_task
from amalgam.training.classifier import load_classifier
from amalgam.training.embeddings import index_labels
from amalgam.training.encoding import compute_logits, encode_rows, freeze_lower, hold_lower, load_tokenizer
from amalgam.training.loop import CrossEntropy, Examples, Schedule, train_model
from bench.scoring import measure_auc

ENCODER, PREPARED = Path("models/base/encoder"), Path("data/prepared")
PAPER_LENGTH = 128  # tokens to which the paper's notebook pads every row
Train = Callable[[pd.DataFrame, list[str], Params, int, int], Any]


def train_ours(mixed: pd.DataFrame, labels: list[str], params: Params, epochs: int, seed: int) -> Any:
    """Train with Amalgam's loop: plain mixing, no validation; the lower layers stay frozen, as by default."""
    set_seed(seed)
    model = load_classifier(ENCODER, labels)
    freeze_lower(model, params.teacher.trained_layers)
    steps = epochs * -(-len(mixed) // params.teacher.batch_size)
    schedule = Schedule(steps, params.teacher.learning_rate, params.teacher.batch_size)
    encoded = encode_rows(load_tokenizer(ENCODER), mixed, params.teacher.max_length)
    upper, read = hold_lower(model, params.teacher.trained_layers)
    learn = Examples(read(encoded), CrossEntropy(index_labels(mixed, labels)))
    train_model(upper, learn, None, schedule, seed=seed, curves=None, advance=lambda _: None)
    return model


def train_as_paper(mixed: pd.DataFrame, labels: list[str], params: Params, epochs: int, seed: int) -> Any:
    """Train as the paper's notebook does: every row padded to 128 tokens, float32, AdamW at a constant rate."""
    torch.manual_seed(seed)
    device, tokenizer = choose_device(), load_tokenizer(ENCODER)
    model = load_classifier(ENCODER, labels).to(device).train()
    texts = tokenizer(
        mixed["text"].tolist(), padding="max_length", truncation=True, max_length=PAPER_LENGTH, return_tensors="pt"
    )
    classes = torch.tensor([labels.index(label) for label in mixed["label"]])
    data = torch.utils.data.TensorDataset(texts["input_ids"], texts["attention_mask"], classes)
    loader = torch.utils.data.DataLoader(data, params.teacher.batch_size, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.teacher.learning_rate)
    for _ in range(epochs):
        for ids, mask, target in loader:
            optimizer.zero_grad()
            output = model(ids.to(device), attention_mask=mask.to(device), labels=target.to(device))
            output.loss.backward()
            optimizer.step()
    return model


def train_by_trainer(mixed: pd.DataFrame, labels: list[str], params: Params, epochs: int, seed: int) -> Any:
    """Train with `transformers.Trainer`: its defaults except rate, batch size and epochs."""
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    torch.manual_seed(seed)
    tokenizer, model = load_tokenizer(ENCODER), load_classifier(ENCODER, labels)
    encoded = tokenizer(mixed["text"].tolist(), truncation=True, max_length=params.teacher.max_length)
    data = Dataset.from_dict({**encoded, "labels": [labels.index(label) for label in mixed["label"]]})
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            learning_rate=params.teacher.learning_rate,
            per_device_train_batch_size=params.teacher.batch_size,
            num_train_epochs=epochs,
            seed=seed,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        Trainer(model, settings, train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer)).train()
    return model


WAYS: dict[str, Train] = {
    "the paper's loop: padded to 128, float32": train_as_paper,
    "`transformers.Trainer`, its defaults": train_by_trainer,
    "Amalgam": train_ours,
}


def score(model: torch.nn.Module, test: pd.DataFrame) -> np.ndarray:
    """Return probabilities [rows, classes]; scored the same way for all."""
    encoded = encode_rows(load_tokenizer(ENCODER), test, PAPER_LENGTH)
    logits = compute_logits(model.to(choose_device()).eval(), encoded, choose_device())
    return torch.softmax(torch.tensor(logits), dim=1).numpy()


def main(epochs: int, rounds: int, copies: int) -> None:
    """Measure, then print the table."""
    params = load_params(Path("params.yaml"))
    labels = load_task(Path("data/tasks") / params.task).label_names
    mixed, test = pd.concat([read_rows(Path("data/mixed.csv"))] * copies), read_rows(PREPARED / "test.csv")
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    areas: dict[str, list[float]] = {name: [] for name in WAYS}
    for train in WAYS.values():  # loading and compiling at the first call are not measured
        train(mixed.head(32), labels, params, 1, 0)
    for seed in range(1, rounds + 1):
        for name, train in WAYS.items():
            start = time.perf_counter()
            model = train(mixed, labels, params, epochs, seed)
            seconds[name].append(time.perf_counter() - start)
            areas[name].append(measure_auc(score(model, test), test, labels))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    print(f"{len(mixed)} rows, {epochs} epochs, {rounds} rounds, {device}, torch {torch.__version__}\n")
    print("| training | rows/s | Amalgam is faster by | AUC, mean of the rounds |\n|---|---|---|---|")
    ours = fmean(seconds["Amalgam"])
    for name in WAYS:
        rate = epochs * len(mixed) / fmean(seconds[name])
        print(f"| {name} | {rate:.0f} | {fmean(seconds[name]) / ours:.2f} times | {fmean(areas[name]):.3f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=1, help="how often each row is repeated, for a larger machine")
    args = parser.parse_args()
    main(args.epochs, args.rounds, args.copies)
