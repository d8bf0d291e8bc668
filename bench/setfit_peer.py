"""Train SetFit (Tunstall et al. 2022) on human-coded rows and score others; run with that tool's own Python.

Run as `/path/to/python bench/setfit_peer.py TRAIN TEST ENCODER LABELS SEED OUT [STEPS]`. TRAIN and TEST are CSV files
with the columns id, text, question and label, as the stage prepare writes them. ENCODER is a folder with a BERT-family
encoder, which becomes a sentence encoder by mean pooling. LABELS are the labels in class order, separated by commas.
OUT becomes a CSV file of the test rows in order: id, and a probability for each label. STEPS is the most steps that
training takes, 400 by default, and never more than one epoch. The last printed line is a summary in JSON. The
environment: `python -m venv setfit && setfit/bin/pip install setfit==1.2.0`.
"""

import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

BATCH = 16  # pairs a step, SetFit's default
MAX_STEPS = 400  # more than one epoch of 51 rows, and a quarter to a third of an epoch of 200
MAX_LENGTH = 128  # tokens, as for the teacher


def count_steps(labels: Sequence[str]) -> int:
    """Return the steps of one epoch of SetFit's default: all pairs once, the rarer kind (alike, unlike) repeated."""
    alike = sum(math.comb(count, 2) for count in Counter(labels).values())
    unlike = math.comb(len(labels), 2) - alike
    return math.ceil(2 * max(alike, unlike) / BATCH)


def join_texts(rows: pd.DataFrame) -> list[str]:
    """Join each response with its question; it comes last so that a long question does not push out the response."""
    return (rows["text"] + " " + rows["question"]).str.strip().tolist()


def load_body(encoder: Path) -> Any:
    """Make a sentence encoder like the published all-mpnet-base-v2 and all-MiniLM-L6-v2: mean pooling, length 1."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    words = Transformer(str(encoder), max_seq_length=MAX_LENGTH)
    return SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension()), Normalize()])


def run_in_bfloat16(body: Any) -> Any:
    """Return a sentence encoder's forward pass in the precision of Amalgam's training, which is twice as fast.

    A processor that only emulates bfloat16 would take 26 times as long with it; there, nothing changes.
    """
    import torch

    forward, able = body.forward, torch.ops.mkldnn._is_mkldnn_bf16_supported()

    def run(features: dict[str, Any], **options: Any) -> dict[str, Any]:
        with torch.autocast("cpu", torch.bfloat16, enabled=able and body.training):  # on a GPU, TF32 does for both
            found: dict[str, Any] = forward(features, **options)
        return found | {"sentence_embedding": found["sentence_embedding"].float()}

    return run


def score_rows(
    train: pd.DataFrame, test: pd.DataFrame, encoder: Path, labels: list[str], seed: int, steps: int
) -> pd.DataFrame:
    """Train with SetFit's defaults except the number of steps; return the probabilities [test rows, labels].

    Defaults of version 1.2: contrastive pairs by oversampling, one epoch, 16 pairs a step, learning rate 2e-5 with
    10 % warm-up, cosine similarity loss, then scikit-learn's logistic regression on the vectors.
    """
    import torch
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression
    from transformers import set_seed

    set_seed(seed)
    torch.set_float32_matmul_precision("high")
    numbers = [labels.index(label) for label in train["label"]]
    model = SetFitModel(model_body=load_body(encoder), model_head=LogisticRegression(), labels=labels)
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            batch_size=BATCH,
            max_steps=steps,
            seed=seed,
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        rows = Dataset.from_dict({"text": join_texts(train), "label": numbers})
        model.model_body.forward = run_in_bfloat16(model.model_body)
        Trainer(model=model, args=arguments, train_dataset=rows).train()
    known = [labels[number] for number in model.model_head.classes_]
    probabilities = pd.DataFrame(model.predict_proba(join_texts(test), as_numpy=True), columns=known)
    return probabilities.reindex(columns=labels, fill_value=0.0)


def main(train: Path, test: Path, encoder: Path, labels: list[str], seed: int, out: Path, most: int) -> None:
    """Read the rows, write the probabilities, and print version, steps, and seconds of training and scoring."""
    learned, held_out = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (train, test))
    steps = min(count_steps(learned["label"].tolist()), most)
    start = time.monotonic()
    scored = score_rows(learned, held_out, encoder, labels, seed, steps)
    seconds = time.monotonic() - start
    scored.insert(0, "id", held_out["id"])
    scored.to_csv(out, index=False)
    print(json.dumps({"version": version("setfit"), "steps": steps, "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    train_name, test_name, encoder_name, label_names, seed_text, out_name, *most_steps = sys.argv[1:]
    main(
        Path(train_name),
        Path(test_name),
        Path(encoder_name),
        label_names.split(","),
        int(seed_text),
        Path(out_name),
        int(most_steps[0]) if most_steps else MAX_STEPS,
    )
