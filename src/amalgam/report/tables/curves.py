"""The numbers of the curves, for those who cannot see them."""

from collections import defaultdict

from amalgam.report.phrases import MODEL_NAMES, format_count, format_number
from amalgam.report.tables.table import Cell, Rows, Table

_RATES = (0.05, 0.1, 0.2, 0.3, 0.5)  # false positive rates at which a ROC curve is read


def tabulate_roc(rows: Rows) -> Table:
    """Read the ROC curve (fpr ascending, tpr) of each model at some false positive rates, between points linearly."""
    import numpy as np

    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        curves[row["model"]].append((row["fpr"], row["tpr"]))
    body = [
        (
            Cell(MODEL_NAMES[model]),
            [
                Cell(format_number(float(np.interp(rate, [fpr for fpr, _ in points], [tpr for _, tpr in points])), 2))
                for rate in _RATES
            ],
        )
        for model, points in curves.items()
    ]
    head = [f"at {format_number(rate, 2)}" for rate in _RATES]
    return Table("True positive rate at a false positive rate", "Model", head, body)


def tabulate_calibration(rows: Rows) -> Table:
    """List the bins of confidence of each model."""
    body = [
        (
            Cell(MODEL_NAMES[row["model"]]),
            [
                Cell(format_number(row["confidence"])),
                Cell(format_number(row["share"])),
                Cell(format_count(row["rows"])),
            ],
        )
        for row in rows
    ]
    return Table("Predictions by confidence", "Model", ["Mean probability", "Share right", "Predictions"], body)


def tabulate_training(rows: Rows) -> Table:
    """List the losses of one model at each step, means over the seeds that have one."""
    losses: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for kind in ("loss", "validation_loss"):
            if row[kind] == row[kind]:
                losses[row["step"]][kind].append(row[kind])
    body = [
        (
            Cell(format_count(step)),
            [
                Cell(format_number(sum(kinds[kind]) / len(kinds[kind])) if kinds[kind] else "")
                for kind in ("loss", "validation_loss")
            ],
        )
        for step, kinds in sorted(losses.items())
    ]
    return Table("Loss by optimizer step, mean over seeds", "Step", ["Training rows", "Validation rows"], body)
