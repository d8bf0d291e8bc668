"""Measure what synthetic rows are worth, by what a simple classifier learns from them."""

from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import (
    encode_groups,
    encode_labels,
    estimate_models,
    subtract_estimates,
    summarise_estimates,
)
from amalgam.training.embeddings import embed_rows

_STRENGTH = 10.0  # inverse regularisation, the same for all, so that only the rows differ

Tables = dict[str, list[pd.DataFrame]]


def measure_auc(
    encoder: Path, tables: Tables, human: pd.DataFrame, test: pd.DataFrame, labels: list[str], confidence: float
) -> dict[str, dict[str, float]]:
    """Train logistic regression on frozen embeddings of each table, alone and with the human rows; measure the AUC.

    Args:
        encoder: folder of the encoder.
        tables: by name, synthetic rows that were written one or more times, each table as often; the others are
            compared with the first.
        human: human-coded train rows.
        test: human-coded rows on which everything is measured.
        labels: the task's.
        confidence: of the intervals.

    Returns:
        By name: `auc`, `with_human`, and for both the paired difference from the first table with its interval.
    """
    from sklearn.linear_model import LogisticRegression

    written = [rows for several in tables.values() for rows in several]
    everything = pd.concat([human, test, *written], ignore_index=True)[["question", "text", "label"]]
    vectors = embed_rows(encoder, everything, max_length=128)
    cuts = np.cumsum([len(human), len(test), *map(len, written)])
    base, measured, *parts = np.split(np.arange(len(everything)), cuts[:-1])
    waiting = iter(parts)
    predictions = {}
    for name, several in tables.items():
        drawn = [next(waiting) for _ in several]
        for kind, before in (("auc", base[:0]), ("with_human", base)):
            probabilities = []
            for part in drawn:
                rows = np.concatenate([before, part])
                fit = LogisticRegression(C=_STRENGTH, max_iter=2000).fit(vectors[rows], everything["label"].iloc[rows])
                order = [list(fit.classes_).index(label) for label in labels]
                probabilities.append(fit.predict_proba(vectors[measured])[:, order])
            predictions[f"{name}/{kind}"] = np.stack(probabilities)
    actual = encode_labels(test, labels, "the test rows")
    estimates = estimate_models(actual, encode_groups(test), predictions, ordinal=False)
    found: dict[str, dict[str, float]] = {name: {} for name in tables}
    first = next(iter(tables))
    for name in tables:
        for kind in ("auc", "with_human"):
            one, other = estimates[f"{name}/{kind}"], estimates[f"{first}/{kind}"]
            change = summarise_estimates(subtract_estimates(one, other, ("auc",)), confidence)
            found[name] |= {kind: one["auc"].value, f"{kind}_change": change["auc"]}
            found[name] |= {f"{kind}_low": change["auc_low"], f"{kind}_high": change["auc_high"]}
    return found
