"""How far a grader's labels agree with the intended ones."""

from typing import Any

import pandas as pd


def summarise_agreement(intended: pd.Series, judged: pd.Series, labels: list[str]) -> dict[str, Any]:
    """Return counts, Cohen's kappa, accuracy and macro precision, recall and F1 over the graded rows.

    Args:
        intended: the labels that were asked for.
        judged: the grader's labels, "" where it gave none; such rows are counted and left out of the measures.
        labels: all labels of the task.
    """
    from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

    graded = judged != ""
    summary: dict[str, Any] = {"rows": len(judged), "unparsed": int((~graded).sum())}
    if not graded.any():
        return summary
    truth, found = intended[graded], judged[graded]
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, found, labels=labels, average="macro", zero_division=0
    )
    measures = {
        "accuracy": (truth == found).mean(),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }
    if truth.nunique() > 1 or found.nunique() > 1:  # else chance agreement is complete and kappa undefined
        measures["kappa"] = cohen_kappa_score(truth, found, labels=labels)
    return summary | {name: round(float(value), 4) for name, value in measures.items()}
