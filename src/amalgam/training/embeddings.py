"""Logistic regression on frozen sentence embeddings, and the baselines, on embeddings or on TF-IDF."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTH = 10.0  # inverse regularisation of logistic regression on unit vectors; the usual 1 regularises too much
_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # of the baselines; the validation rows choose one


def embed_rows(encoder: Path, rows: pd.DataFrame, *, max_length: int) -> np.ndarray:
    """Return the mean of the encoder's last hidden states over each row's tokens, scaled to length 1 [rows, width]."""
    import torch
    from transformers import AutoModel

    from amalgam.machine import choose_device
    from amalgam.training.classifier import pool_mean
    from amalgam.training.encoding import compute_logits, encode_rows, load_tokenizer

    device = choose_device()
    model = AutoModel.from_pretrained(encoder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    model.to(device)

    def compute(**batch: torch.Tensor) -> torch.Tensor:
        return pool_mean(model(**batch).last_hidden_state.float(), batch["attention_mask"])

    return compute_logits(compute, encode_rows(load_tokenizer(encoder), rows, max_length), device).astype(np.float64)


def fit_logistic(
    vectors: Any, classes: Any, *, strength: float, weights: np.ndarray | None = None
) -> "LogisticRegression":
    """Fit logistic regression to class indices or names [rows]; `strength` is the inverse of the regularisation."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=2000).fit(vectors, classes, sample_weight=weights)


def predict_logistic(model: "LogisticRegression", vectors: Any, count: int) -> np.ndarray:
    """Return probabilities [rows, `count` classes]; a class that was not learned has probability 0."""
    found = model.predict_proba(vectors)
    probabilities = np.zeros((len(found), count))
    probabilities[:, model.classes_] = found
    return probabilities


def index_labels(rows: pd.DataFrame, labels: list[str]) -> np.ndarray:
    """Return the class index of each row's label [rows], -1 where the label is empty."""
    return pd.Index(labels).get_indexer(pd.Index(rows["label"])).astype(np.int64)


def read_targets(rows: pd.DataFrame, labels: list[str]) -> np.ndarray:
    """Return the class index of each row [rows], or distributions [rows, classes] if any row has a soft label.

    A soft label is a JSON list of probabilities in the column `soft`; if it is "", the row's `label` counts.
    """
    classes = index_labels(rows, labels)
    soft = rows["soft"].fillna("").to_numpy() if "soft" in rows else np.array([])
    if not any(soft):
        return classes
    targets: np.ndarray = np.eye(len(labels))[classes]
    for place in np.flatnonzero(soft != ""):
        targets[place] = json.loads(soft[place])
    return targets


def fit_head(
    vectors: np.ndarray,
    classes: np.ndarray,
    count: int,
    weights: np.ndarray | None = None,
    *,
    strength: float = STRENGTH,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weights [classes, width] and biases [classes] of the head by logistic regression on embeddings [rows, width].

    Fine-tuning from this head, rather than from a random one, distorts the encoder less (Kumar et al. 2022, arXiv
    2202.10054). A class without rows gets weights of zero and a bias of minus ten. `weights` are those of the rows.
    """
    present = np.unique(classes)
    slopes, biases = np.zeros((count, vectors.shape[1])), np.full(count, -10.0)
    if len(present) < 2:
        biases[present] = 0
        return slopes, biases
    model = fit_logistic(vectors, classes, strength=strength, weights=weights)
    fitted, offsets = model.coef_, model.intercept_
    if len(present) == 2:  # the score of the second class becomes one per class
        fitted, offsets = np.concatenate([-fitted, fitted]) / 2, np.concatenate([-offsets, offsets]) / 2
    slopes[present], biases[present] = fitted, offsets
    return slopes, biases


def fit_baseline(
    train: pd.DataFrame,
    validation: pd.DataFrame,
    rows: pd.DataFrame,
    labels: list[str],
    *,
    refit: bool = False,
    encoder: Path | None = None,
    max_length: int = 0,
) -> tuple[np.ndarray, float]:
    """Fit logistic regression to TF-IDF of words and word pairs, or to embeddings if an encoder is given.

    Return probabilities of the rows [rows, classes], and the strength with the lowest loss on the validation rows. With
    `refit`, the chosen model is fitted again, on the validation rows as well.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import log_loss

    if encoder:
        known, held, asked = (embed_rows(encoder, part, max_length=max_length) for part in (train, validation, rows))
    else:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        texts = [(part["question"] + " " + part["text"]).str.strip().tolist() for part in (train, validation, rows)]
        known, held = vectorizer.fit_transform(texts[0]), vectorizer.transform(texts[1])
    classes, held_out = index_labels(train, labels), index_labels(validation, labels)
    numbers, fits = range(len(labels)), [fit_logistic(known, classes, strength=strength) for strength in _STRENGTHS]
    losses = [log_loss(held_out, predict_logistic(fit, held, len(labels)), labels=numbers) for fit in fits]
    model = fits[int(np.argmin(losses))]
    if refit:
        both = np.concatenate([known, held]) if encoder else vectorizer.fit_transform(texts[0] + texts[1])
        model.fit(both, np.concatenate([classes, held_out]))
    return predict_logistic(model, asked if encoder else vectorizer.transform(texts[2]), len(labels)), model.C
