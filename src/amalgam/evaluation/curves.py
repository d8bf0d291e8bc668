"""Tables behind the plots: metrics with intervals, ROC, calibration, confusion and training curves."""

from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.evaluation.metrics import Floats, Ints, assign_bins

_GRID = np.linspace(0, 1, 101)  # false positive rates at which curves of several seeds are averaged
_LOSSES = {"train_loss": "loss", "validation_loss": "validation_loss"}  # dvclive's name: the table's


def trace_roc(actual: Ints, predictions: dict[str, Floats], labels: list[str]) -> pd.DataFrame:
    """Return ROC curves (model, fpr, tpr, label), the mean over seeds at fixed fpr (Fawcett, 2006, section 8.2).

    For two labels the curve of the last one, for more one curve a label against the rest. A label that no row or
    every row has gets none.
    """
    from sklearn.metrics import roc_curve

    tables = [pd.DataFrame(columns=["model", "fpr", "tpr", "label"])]
    for model, stack in predictions.items():
        for index in [1] if len(labels) == 2 else range(len(labels)):
            positive = actual == index
            if not positive.all() and positive.any():
                # Where a curve rises straight up, its upper end counts.
                rates = np.mean([np.interp(_GRID, *roc_curve(positive, seed[:, index])[:2]) for seed in stack], axis=0)
                points = {"fpr": np.r_[0, _GRID], "tpr": np.r_[0, rates].round(4)}  # at first nothing is positive
                tables.append(pd.DataFrame({"model": model, **points, "label": labels[index]}))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def bin_calibration(actual: Ints, predictions: dict[str, Floats]) -> pd.DataFrame:
    """Return, for each model and bin of the top probability, all seeds together (model, confidence, share, rows).

    `confidence` is the mean top probability of the bin, `share` the share of right predictions, `rows` their count.
    """
    tables = []
    for model, stack in predictions.items():
        top, right = stack.max(axis=2).ravel(), (stack.argmax(axis=2) == actual).ravel()
        bins = pd.DataFrame({"confidence": top, "share": right.astype(float)}).groupby(assign_bins(top))
        tables.append(bins.mean().round(4).assign(rows=bins.size()).reset_index(drop=True))
        tables[-1].insert(0, "model", model)
    return pd.concat(tables, ignore_index=True)


def list_confusions(actual: Ints, predictions: dict[str, Floats], labels: list[str]) -> pd.DataFrame:
    """Return one line a model, seed and row (model, actual, predicted), the form of DVC's confusion template."""
    names = np.array(labels, dtype=object)
    tables = [
        pd.DataFrame({"model": model, "actual": names[actual], "predicted": names[seed.argmax(axis=1)]})
        for model, stack in predictions.items()
        for seed in stack
    ]
    return pd.concat(tables, ignore_index=True)


def list_intervals(models: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return one line a model and metric (model, metric, value, low, high) from metrics with their intervals."""
    lines = [
        (model, name, value, metrics[f"{name}_low"], metrics[f"{name}_high"])
        for model, metrics in models.items()
        for name, value in metrics.items()
        if f"{name}_low" in metrics
    ]
    return pd.DataFrame(lines, columns=["model", "metric", "value", "low", "high"])


def read_training(curves: dict[tuple[str, int], Path]) -> pd.DataFrame:
    """Read dvclive's curves of each (model, seed) into one table (model, seed, step, loss, validation_loss)."""
    tables = []
    for (model, seed), folder in curves.items():
        run = pd.DataFrame({"step": pd.Series(dtype="int64")})
        for recorded, name in _LOSSES.items():
            path = folder / "plots" / "metrics" / f"{recorded}.tsv"
            curve = pd.read_csv(path, sep="\t") if path.is_file() else pd.DataFrame({"step": [], recorded: []})
            curve = curve[["step", recorded]].rename(columns={recorded: name}).astype({"step": "int64"})
            run = run.merge(curve, on="step", how="outer")
        tables.append(run.sort_values("step", ignore_index=True).assign(model=model, seed=seed))
    columns = ["model", "seed", "step", *_LOSSES.values()]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
