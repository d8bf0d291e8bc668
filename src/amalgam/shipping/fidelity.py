"""How much of the model's judgement the small one keeps, measured without any label."""

from typing import Any

import numpy as np

from amalgam.predicting.onnx import Floats


def measure_fidelity(reference: Floats, other: Floats) -> dict[str, Any]:
    """Compare the probabilities [texts, classes] of two models for the same texts.

    `auc_loss` is the AUC that the other model is expected to lose: the AUC of each model's scores if labels were
    drawn from the reference's probabilities, and the difference of the two. With more than two classes it is the mean
    over them, each against the rest. Negative values say that nothing is lost.
    """
    classes = range(1, 2) if reference.shape[1] == 2 else range(reference.shape[1])
    losses = [
        expect_auc(reference[:, number], reference[:, number]) - expect_auc(reference[:, number], other[:, number])
        for number in classes
    ]
    return {
        "texts": len(reference),
        "auc_loss": round(float(np.mean(losses)), 6),
        "max_difference": round(float(np.abs(reference - other).max()), 6),
        "decisions_changed": round(float((reference.argmax(axis=1) != other.argmax(axis=1)).mean()), 6),
    }


def expect_auc(probabilities: Floats, scores: Floats) -> float:
    """Return the AUC of scores for a label that each text has with its probability."""
    from sklearn.metrics import roc_auc_score

    labels = np.repeat([1, 0], len(scores))
    weights = np.concatenate([probabilities, 1 - probabilities])
    return float(roc_auc_score(labels, np.tile(scores, 2), sample_weight=weights))


def choose_precision(fidelity: dict[str, Any], allowed: float) -> str:
    """Return `int8` if it is expected to lose at most so much AUC, else `fp32`."""
    return "int8" if fidelity["auc_loss"] <= allowed else "fp32"
