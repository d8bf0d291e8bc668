"""Build the verdict, the models' metrics and curves, and their metrics by subgroup and period."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.predictions import MODEL_NAMES
from amalgam.report import charts
from amalgam.report.charts import BLUE, GREY, Look, build_figure, place_point
from amalgam.report.content import (
    METRIC_NAMES,
    Cell,
    Content,
    Numbers,
    Table,
    format_count,
    format_difference,
    format_interval,
    format_number,
)

MIN_BIN = 10  # predictions in a bin of the calibration chart; with fewer, the share correct is mostly chance
_RATES = (0.05, 0.1, 0.2, 0.3, 0.5)  # false positive rates at which a ROC curve is read
_MOST_DRAWN = 12  # subgroups of one column; the table lists all
_LONGEST_NAME = 24  # characters of a subgroup's name in a chart
# What the chart calls each difference of metrics/comparisons.json.
_DIFFERENCES = {
    "gain_over_human_only": "Teacher minus\nhuman-only teacher",
    "gain_over_best_baseline": "Teacher minus\nbest baseline",
    "student_minus_teacher": "Student minus\nteacher",
    "student_minus_undistilled": "Student minus\nundistilled student",
    "int8_minus_student": "Student, int8,\nminus student",
}
_CLEAR, _UNCLEAR = "interval excludes 0", "interval includes 0"
_SUBGROUP_METRICS = {
    "auc": "AUC",
    "auc_minus_rest": "AUC minus the rest",
    "fpr": "False positive rate",
    "fpr_minus_rest": "minus the rest",
    "abroca": "ABROCA",
}
_PERIOD_METRICS = {name: METRIC_NAMES[name] for name in ("auc", "accuracy", "kappa", "quadratic_kappa")}


def build_verdict(content: Content) -> dict[str, Any]:
    """Decide every comparison, and draw the models and their differences; the sentences are in the template."""
    models, comparisons = content.metrics["models"], content.metrics["comparisons"]
    scored = {name: models[model] for model, name in MODEL_NAMES.items() if "auc_low" in models.get(model, {})}
    points = [place_point(name, name, values) for name, values in scored.items()]
    spec = charts.draw_points(points, "AUC on the test rows")
    caption = f"AUC of each model with its {content.confidence} interval."
    figures = [build_figure("auc", "AUC of all models", caption, spec)]
    outcomes, points, rows = {}, [], []
    for key, name in _DIFFERENCES.items():
        if values := comparisons.get(key):
            outcomes[key] = "better" if values["auc_low"] > 0 else "worse" if values["auc_high"] < 0 else "unclear"
            points.append(place_point(name, _UNCLEAR if outcomes[key] == "unclear" else _CLEAR, values))
            rows.append(([name.replace("\n", " ")], values))
    caption = (
        f"Paired differences in AUC on the same rows and seeds, with {content.confidence} intervals. "
        "Right of zero, the model named first is better."
    )
    looks = {_CLEAR: Look(BLUE), _UNCLEAR: Look(GREY, shape="diamond")}
    spec = charts.draw_points(points, "Difference in AUC", looks, signed=True)
    numbers = _tabulate_estimates("Paired differences", ["Models"], rows, METRIC_NAMES, signed=True)
    figures.append(build_figure("differences", "Paired differences in AUC", caption, spec, numbers))
    return {"outcomes": outcomes, "figures": figures}


def build_models(content: Content) -> dict[str, Any]:
    """Put the metrics of all models into tables."""
    models = content.metrics["models"]
    sets = {"Human-coded test rows": models}
    if "transfer_test" in models:
        caption = "Transfer test: human-coded answers to a question that the models were not trained on"
        sets[caption] = models["transfer_test"]
    tables = []
    for caption, found in sets.items():
        rows = [([name], found[model]) for model, name in MODEL_NAMES.items() if model in found]
        tables.append(_tabulate_estimates(caption, ["Model"], rows, METRIC_NAMES))
    return {"tables": tables}


def build_curves(content: Content) -> dict[str, Any] | None:
    """Draw the curves for which the run has points."""
    roc, bins, training = (content.plots[name] for name in ("roc", "calibration", "training"))
    figures = []
    for number, label in enumerate(content.labels):
        if len(rows := roc[roc["label"] == label]):
            caption = f"ROC for “{label}”, mean over seeds. The dotted line is guessing."
            title, numbers = f"ROC curves for the label {label}", _tabulate_roc(rows)
            figures.append(build_figure(f"roc-{number}", title, caption, charts.draw_roc(rows), numbers))
    if len(drawn := bins[bins["rows"] >= MIN_BIN]):
        caption = (
            "Calibration: how often predictions of a given confidence are correct. On the dotted line, the share of "
            f"correct predictions equals the confidence. Bins of fewer than {MIN_BIN} predictions are not drawn."
        )
        body = [
            [MODEL_NAMES[model], format_number(confidence), format_number(share), format_count(rows)]
            for model, confidence, share, rows in bins[["model", "confidence", "share", "rows"]].itertuples(index=False)
        ]
        numbers = Table("Predictions by confidence", ["Model", "Mean probability", "Accuracy", "Predictions"], body)
        spec = charts.draw_calibration(drawn)
        figures.append(build_figure("calibration", "Calibration of all models", caption, spec, numbers))
    for model, name in MODEL_NAMES.items():
        if len(rows := training[training["model"] == model]):
            caption = f"Training of the {name.lower()}: loss on training and validation rows, one line per seed."
            title, numbers = f"Training curves of the {name.lower()}", _tabulate_training(rows)
            figures.append(build_figure(f"training-{model}", title, caption, charts.draw_training(rows), numbers))
    return {"figures": figures} if figures else None


def build_groups(content: Content) -> dict[str, Any] | None:
    """Collect charts and tables by subgroup and by period."""
    subgroups, periods = (content.metrics[name].get(name, {}) for name in ("subgroups", "periods"))
    parts = [
        _describe_groups(content, f"group-{number}", column, groups, _SUBGROUP_METRICS)
        for number, (column, groups) in enumerate(subgroups.items())
    ]
    by_period = [_describe_groups(content, "period", "period", periods, _PERIOD_METRICS)] if periods else []
    return {"subgroups": parts, "periods": by_period} if parts or by_period else None


def _tabulate_estimates(
    caption: str,
    head: Sequence[str],
    rows: Sequence[tuple[Sequence[Cell], Numbers]],
    metrics: Mapping[str, str],
    *,
    signed: bool = False,
) -> Table:
    """Put metrics (titles by name) and their intervals into a table after the columns of `head`.

    A metric that no row has is left out.
    """

    def write(values: Numbers, metric: str) -> Cell:
        if metric not in values:
            return ""
        is_signed = signed or metric.endswith("_minus_rest")
        small = format_interval(values, metric, signed=is_signed)
        if f"{metric}_chance" in values:
            small = f"chance gives up to {format_number(values[f'{metric}_chance'])}"
        return (format_difference if is_signed else format_number)(values[metric]), small

    found = [metric for metric in metrics if any(metric in values for _, values in rows)]
    body = [[*cells, *(write(values, metric) for metric in found)] for cells, values in rows]
    return Table(caption, [*head, *(metrics[metric] for metric in found)], body)


def _tabulate_roc(rows: pd.DataFrame) -> Table:
    """Read the ROC curve (fpr ascending, tpr) of each model at some false positive rates, by linear interpolation."""
    body = [
        [MODEL_NAMES[str(model)], *(format_number(rate, 2) for rate in np.interp(_RATES, curve["fpr"], curve["tpr"]))]
        for model, curve in rows.groupby("model", sort=False)
    ]
    head = ["Model", *(f"at {format_number(rate, 2)}" for rate in _RATES)]
    return Table("True positive rate at a false positive rate", head, body)


def _tabulate_training(rows: pd.DataFrame) -> Table:
    """List the losses of one model at each step, averaged over the seeds that have one."""
    means = rows.groupby("step")[["loss", "validation_loss"]].mean()
    body = [
        [format_count(step), *("" if np.isnan(loss) else format_number(loss) for loss in losses)]
        for step, *losses in means.itertuples()
    ]
    return Table("Loss by optimizer step, mean over seeds", ["Step", "Training rows", "Validation rows"], body)


def _describe_groups(
    content: Content, key: str, column: str, groups: Mapping[str, Numbers], metrics: Mapping[str, str]
) -> dict[str, Any]:
    """Draw the subgroups of a column, and put them into a table, one line per model."""
    small = [name for name in groups if groups[name].get("small")]
    large = [name for name in groups if name not in small]
    drawn = _shorten(large[:_MOST_DRAWN])
    figures = []
    for metric, title in {"auc": "AUC", "fpr": "False positive rate"}.items():
        points = [
            place_point(short, MODEL_NAMES[model], groups[name][model], metric)
            for name, short in drawn.items()
            for model in MODEL_NAMES
            if f"{metric}_low" in groups[name].get(model, {})
        ]
        if points:
            caption = f"{title} by {column}, with {content.confidence} intervals."
            caption += f" The first {_MOST_DRAWN} are drawn; the table lists all." if len(large) > _MOST_DRAWN else ""
            spec = charts.draw_points(points, title)
            figures.append(build_figure(f"{key}-{metric}", f"{title} by {column}", caption, spec))
    rows: list[tuple[list[Cell], Numbers]] = []
    for name, values in groups.items():
        models = {model: shown for model, shown in MODEL_NAMES.items() if model in values} or {"": "too few rows"}
        count = format_count(values["rows"])
        rows += [([name, count, shown], values.get(model, {})) for model, shown in models.items()]
    table = _tabulate_estimates(f"Test rows by {column}", [column, "Rows", "Model"], rows, metrics)
    return {"figures": figures, "table": table, "small": small}


def _shorten(names: Sequence[str]) -> dict[str, str]:
    """Return each name on one line, cut for a chart; names that would look the same are numbered."""
    short: dict[str, str] = {}
    for name in names:
        line, number = " ".join(name.split()), 1
        cut = line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"
        while cut in short.values():
            number += 1
            cut = f"{line[: _LONGEST_NAME - 5]}… ({number})"
        short[name] = cut
    return short
