"""Cheap classifiers on the human rows alone: what the teacher has to beat."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from amalgam.embeddings import embed_rows

_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # inverse regularisation; the validation rows choose


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted baseline: its probabilities for the rows that were asked for, and the strength chosen."""

    probabilities: np.ndarray
    strength: float


def fit_tfidf(
    train: pd.DataFrame, validation: pd.DataFrame, rows: pd.DataFrame, labels: list[str], *, refit: bool = False
) -> Fitted:
    """Fit logistic regression on TF-IDF of words and pairs of words; probabilities [rows, classes].

    With `refit`, what the validation rows chose is fitted once more, on them as well.
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    vectors = vectorizer.fit_transform(join_question(train))
    model = _choose_fit(
        (vectors, train["label"]),
        (vectorizer.transform(join_question(validation)), validation["label"]),
        labels,
    )
    if refit:
        learned = pd.concat([train, validation], ignore_index=True)
        model.fit(vectorizer.fit_transform(join_question(learned)), learned["label"])
    return Fitted(_align(model, vectorizer.transform(join_question(rows)), labels), model.C)


def fit_embedding(
    encoder: Path,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    rows: pd.DataFrame,
    labels: list[str],
    *,
    max_length: int,
    refit: bool = False,
) -> Fitted:
    """Fit logistic regression on frozen sentence embeddings; probabilities [rows, classes]; see `fit_tfidf`."""
    learned, held_out, scored = (embed_rows(encoder, part, max_length=max_length) for part in (train, validation, rows))
    model = _choose_fit((learned, train["label"]), (held_out, validation["label"]), labels)
    if refit:
        model.fit(np.concatenate([learned, held_out]), pd.concat([train["label"], validation["label"]]))
    return Fitted(_align(model, scored, labels), model.C)


def join_question(rows: pd.DataFrame) -> list[str]:
    """Join each question with its response, for methods that read one text."""
    return (rows["question"] + " " + rows["text"]).str.strip().tolist()


def _choose_fit(
    train: tuple[np.ndarray, pd.Series], validation: tuple[np.ndarray, pd.Series], labels: list[str]
) -> LogisticRegression:
    """Fit with each strength, and return the fit with the least validation loss."""
    fits = [LogisticRegression(C=strength, max_iter=2000).fit(*train) for strength in _STRENGTHS]
    # log_loss wants the columns in alphabetical order.
    ordered = sorted(labels)
    losses = [log_loss(validation[1], _align(fit, validation[0], ordered), labels=ordered) for fit in fits]
    return fits[int(np.argmin(losses))]


def _align(fit: LogisticRegression, vectors: np.ndarray, labels: list[str]) -> np.ndarray:
    """Put the columns into the order of `labels`; a class that was not in train has probability 0."""
    probabilities = np.zeros((vectors.shape[0], len(labels)))
    probabilities[:, [labels.index(label) for label in fit.classes_]] = fit.predict_proba(vectors)
    return probabilities
