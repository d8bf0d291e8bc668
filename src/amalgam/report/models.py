"""The models: their metrics, curves and confusion matrices, and the metrics by subgroup and period."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from amalgam.report.charts import (
    build_figure,
    draw_calibration,
    draw_points,
    draw_roc,
    draw_training,
    place_point,
)
from amalgam.report.content import Cell, Content, Figure, Table, tabulate_estimates
from amalgam.report.phrases import METRIC_NAMES, MODEL_NAMES, Numbers, format_count, format_number, format_share

MIN_BIN = 10  # predictions of a bin of the calibration chart; the share right of fewer is mostly chance
_RATES = (0.05, 0.1, 0.2, 0.3, 0.5)  # false positive rates at which a ROC curve is read
_MOST_DRAWN = 12  # subgroups of one column; the table has all
_LONGEST_NAME = 24  # characters of a subgroup's name in a chart
_SUBGROUP_METRICS = {
    "auc": "AUC",
    "auc_minus_rest": "AUC minus the rest",
    "fpr": "False positive rate",
    "fpr_minus_rest": "minus the rest",
    "abroca": "ABROCA",
    "abroca_p": "p",
}
_PERIOD_METRICS = {name: METRIC_NAMES[name] for name in ("auc", "accuracy", "kappa", "quadratic_kappa")}


def build_models(content: Content) -> dict[str, Any]:
    """Put the metrics of all models into tables."""
    models = content.metrics["models"]
    sets = {"Human-coded test rows": models}
    if "transfer_test" in models:
        caption = "Transfer test: human-coded answers to another question than the models were trained on"
        sets[caption] = models["transfer_test"]
    tables = []
    for caption, found in sets.items():
        rows = [([name], found[model]) for model, name in MODEL_NAMES.items() if model in found]
        tables.append(tabulate_estimates(caption, ["Model"], rows, METRIC_NAMES))
    return {"tables": tables}


def build_curves(content: Content) -> dict[str, Any] | None:
    """Draw the curves of which the run has points."""
    figures = []
    for number, label in enumerate(content.labels):
        if len(rows := content.select("roc", "label", label)):
            caption = f"ROC for “{label}”, mean over seeds. The dotted line is guessing."
            title = f"ROC curves for the label {label}"
            figures.append(build_figure(f"roc-{number}", title, caption, draw_roc(rows), tabulate_roc(rows)))
    bins = content.plots.get("calibration", pd.DataFrame({"rows": []}))
    if len(drawn := bins[bins["rows"] >= MIN_BIN]):
        caption = (
            "Calibration: how often a prediction of that confidence is right. On the dotted line, confidence is what "
            f"it claims to be. Bins of fewer than {MIN_BIN} predictions are not drawn."
        )
        columns = bins[["model", "confidence", "share", "rows"]].itertuples(index=False)
        body = [[MODEL_NAMES[at[0]], format_number(at[1]), format_number(at[2]), format_count(at[3])] for at in columns]
        head = ["Model", "Mean probability", "Share right", "Predictions"]
        numbers = Table("Predictions by confidence", head, body)
        title = "Calibration of all models"
        figures.append(build_figure("calibration", title, caption, draw_calibration(drawn), numbers))
    for model, name in MODEL_NAMES.items():
        if len(rows := content.select("training", "model", model)):
            caption = f"Training of the {name.lower()}: loss on training and validation rows, a line for each seed."
            title, numbers = f"Training curves of the {name.lower()}", tabulate_training(rows)
            figures.append(build_figure(f"training-{model}", title, caption, draw_training(rows), numbers))
    return {"figures": figures} if figures else None


def build_groups(content: Content) -> dict[str, Any] | None:
    """Collect charts and tables by subgroup and by period."""
    subgroups, periods = content.metrics["subgroups"].get("subgroups", {}), content.metrics["periods"].get("periods")
    if not subgroups and not periods:
        return None
    parts = [
        {
            "figures": _draw_groups(content, f"group-{number}", column, groups),
            "table": tabulate_groups(groups, column, _SUBGROUP_METRICS),
            "small": [name for name, values in groups.items() if values.get("small")],
        }
        for number, (column, groups) in enumerate(subgroups.items())
    ]
    by_period = periods and {
        "figures": _draw_groups(content, "period", "period", periods),
        "table": tabulate_groups(periods, "period", _PERIOD_METRICS),
    }
    return {"subgroups": parts, "periods": by_period}


def tabulate_roc(rows: pd.DataFrame) -> Table:
    """Read the ROC curve (fpr ascending, tpr) of each model at some false positive rates, between points linearly."""
    body = [
        [MODEL_NAMES[str(model)], *(format_number(rate, 2) for rate in np.interp(_RATES, curve["fpr"], curve["tpr"]))]
        for model, curve in rows.groupby("model", sort=False)
    ]
    head = ["Model", *(f"at {format_number(rate, 2)}" for rate in _RATES)]
    return Table("True positive rate at a false positive rate", head, body)


def tabulate_training(rows: pd.DataFrame) -> Table:
    """List the losses of one model at each step, means over the seeds that have one."""
    means = rows.groupby("step")[["loss", "validation_loss"]].mean()
    body = [
        [format_count(step), *("" if np.isnan(loss) else format_number(loss) for loss in losses)]
        for step, *losses in means.itertuples()
    ]
    return Table("Loss by optimizer step, mean over seeds", ["Step", "Training rows", "Validation rows"], body)


def tabulate_confusion(lines: pd.DataFrame, name: str, labels: list[str]) -> Table:
    """Count a model's actual against predicted labels over all seeds; shares are of the actual label."""
    counts = lines.value_counts(["actual", "predicted"])
    rows: list[list[Cell]] = []
    for actual in labels:
        found = [int(counts.get((actual, predicted), 0)) for predicted in labels]
        shares = [count / max(1, sum(found)) for count in found]
        texts = zip((format_share(share, 1) for share in shares), map(format_count, found), strict=True)
        tints = [round(share * 10) for share in shares]
        rows.append([actual, *((*text, tint) for text, tint in zip(texts, tints, strict=True))])
    return Table(name, ["Human label", *(f"predicted {label}" for label in labels)], rows)


def tabulate_groups(groups: Mapping[str, Numbers], column: str, metrics: Mapping[str, str]) -> Table:
    """Put subgroups or periods into a table, a line for each model."""
    rows: list[tuple[list[Cell], Numbers]] = []
    for name, values in groups.items():
        models = [model for model in MODEL_NAMES if model in values]
        count = format_count(values["rows"])
        rows += [([name, count, MODEL_NAMES[model]], values[model]) for model in models]
        rows += [] if models else [([name, count, "too few rows"], {})]
    return tabulate_estimates(f"Test rows by {column}", [column, "Rows", "Model"], rows, metrics)


def _draw_groups(content: Content, key: str, column: str, groups: Mapping[str, Numbers]) -> list[Figure]:
    large = [(name, values) for name, values in groups.items() if not values.get("small")]
    figures = []
    for metric, title in {"auc": "AUC", "fpr": "False positive rate"}.items():
        points = [
            place_point(_shorten(name), MODEL_NAMES[model], values[model], metric)
            for name, values in large[:_MOST_DRAWN]
            for model in MODEL_NAMES
            if f"{metric}_low" in values.get(model, {})
        ]
        if points:
            caption = f"{title} by {column}, with {content.confidence} intervals."
            if len(large) > _MOST_DRAWN:
                caption += f" The first {_MOST_DRAWN}; the table has all."
            spec = draw_points(points, title)
            figures.append(build_figure(f"{key}-{metric}", f"{title} by {column}", caption, spec))
    return figures


def _shorten(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"
