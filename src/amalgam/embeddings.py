"""Frozen sentence embeddings, and logistic regression on them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


def embed_rows(encoder: Path, rows: pd.DataFrame, *, max_length: int) -> np.ndarray:
    """Return the mean of the encoder's last hidden states over the tokens of each row, at length 1 [rows, width]."""
    import torch
    from transformers import AutoModel

    from amalgam.machine import choose_device, open_autocast
    from amalgam.training.classifier import pool_mean
    from amalgam.training.encoding import encode_rows, load_tokenizer, sort_batches

    device = choose_device()
    model = AutoModel.from_pretrained(encoder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    model = model.to(device).eval()
    encoded = encode_rows(load_tokenizer(encoder), rows, max_length)
    vectors = np.zeros((len(rows), model.config.hidden_size))
    with torch.inference_mode(), open_autocast(device):
        for batch_rows in sort_batches(encoded.lengths, 64):
            batch = {name: tensor.to(device) for name, tensor in encoded.pad(batch_rows).items()}
            states = model(**batch).last_hidden_state.float()
            vectors[batch_rows] = pool_mean(states, batch["attention_mask"]).cpu().numpy()
    return vectors


def fit_logistic(
    vectors: np.ndarray, classes: np.ndarray, *, strength: float, weights: np.ndarray | None = None
) -> "LogisticRegression":
    """Fit logistic regression to class indices [rows]; `strength` is the inverse of the regularisation."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=2000).fit(vectors, classes, sample_weight=weights)


def predict_logistic(model: "LogisticRegression", vectors: np.ndarray, count: int) -> np.ndarray:
    """Return probabilities [rows, `count` classes]; a class that was not learned has probability 0."""
    probabilities = np.zeros((len(vectors), count))
    probabilities[:, model.classes_] = model.predict_proba(vectors)
    return probabilities
