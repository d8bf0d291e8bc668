"""A run at a glance: predictions and speed of its models, differences, tables for plots, counts and the summary.

A model is the folder of a classifier, or an ONNX file, which uses the tokenizer of the seed's student.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.evaluation.bootstrap import Estimates, find_ratio, subtract_estimates, summarise_estimates
from amalgam.evaluation.metrics import Floats, Ints, assign_bins
from amalgam.evaluation.predictions import build_predictions
from amalgam.shipping.onnx import OnnxScorer
from amalgam.training.checkpoint import compute_softmax, measure_size, open_model, score_models

SHIPPED = {"int8": "student_int8", "fp32": "student"}  # the model whose file ships, by its precision
BASELINES = ("human_only", "embedding_lr", "tfidf_lr", "llm_grader")
_COMPARED = ("auc", "macro_f1", "accuracy", "kappa", "quadratic_kappa")  # more is better
_CHANCE = 0.5  # the AUC of guessing
_TIMED = ("teacher", "student", "student_int8")  # the control is as fast and as large as the student
_PASSES, _ROWS = 2, 128  # with 64 rows, starting a pass takes half of the time of the 8-bit student
_GRID = np.linspace(0, 1, 101)  # false positive rates at which curves of several seeds are averaged
_LOSSES = {"train_loss": "loss", "validation_loss": "validation_loss"}  # dvclive's name: the table's
_ENDS = ("", "_low", "_high")
_REQUESTS = ("completions", "requests", "rows")  # names that summaries use for the number of their requests
_USED = ("prompt_tokens", "completion_tokens", "cost_usd")


def list_models(folders: Mapping[str, Path], exported: Path, seed: int) -> dict[str, Path]:
    """Return the existing models of a seed, by name: those in `folders`, including `student`, and `student_int8`."""
    models = {model: folder / f"seed-{seed}" for model, folder in folders.items()}
    models["student_int8"] = exported / f"seed-{seed}" / "model.int8.onnx"
    return {model: path for model, path in models.items() if path.exists()}


def score_sets(
    sets: dict[str, pd.DataFrame], models: Mapping[int, Mapping[str, Path]], labels: list[str], bases: Sequence[Path]
) -> pd.DataFrame:
    """Return the predictions of every model, by seed and name, for every set: see `amalgam.evaluation.predictions`.

    `bases` are folders of the encoders that the models were trained from.
    """
    folders = [path for of_seed in models.values() for path in of_seed.values() if path.is_dir()]
    logits, tables = score_models(folders, sets, bases), []
    for name, rows in sets.items():
        found = dict(zip(folders, compute_softmax(logits[name]), strict=True))
        for seed, of_seed in models.items():
            for model, path in of_seed.items():
                scores = found[path] if path in found else OnnxScorer(path, of_seed["student"]).score(rows)
                tables.append(build_predictions(name, model, seed, rows["id"], scores, labels))
    return pd.concat(tables)


def measure_speed(models: Mapping[str, Path], rows: pd.DataFrame, bases: Sequence[Path]) -> dict[str, float]:
    """Return `<model>_rows_per_second` on this machine, `<model>_megabytes`, and the student to teacher ratio of both.

    The models take turns, so that a busy moment of the machine affects all, and the fastest pass counts.
    """
    rows, models = rows.head(_ROWS), {name: path for name, path in models.items() if name in _TIMED}
    opened = {
        name: open_model(path, bases) if path.is_dir() else OnnxScorer(path, models["student"]).score
        for name, path in models.items()
    }
    speeds = dict.fromkeys(models, 0.0)
    for _ in range(_PASSES):
        for name, score in opened.items():
            start = time.perf_counter()
            score(rows)
            speeds[name] = max(speeds[name], len(rows) / (time.perf_counter() - start))
    sizes = {
        name: (measure_size(path, bases) if path.is_dir() else path.stat().st_size) / 1e6
        for name, path in models.items()
    }
    found = {f"{name}_rows_per_second": speed for name, speed in speeds.items()}
    found["speedup"] = speeds["student"] / speeds["teacher"]
    shown = {name: float(f"{value:.2g}") for name, value in found.items()}
    shown |= {f"{name}_megabytes": float(f"{size:.3g}") for name, size in sizes.items()}
    return shown | {"size_ratio": float(f"{sizes['student'] / sizes['teacher']:.3g}")}


def compare_models(estimates: Estimates, shipped: str, confidence: float) -> dict[str, dict[str, float | str]]:
    """Return the paired differences that the report's verdict rests on, in the format of metrics/comparisons.json.

    `retention` is the share of the teacher's AUC above chance that the shipped model keeps.
    """
    if math.isnan(estimates["teacher"]["auc"].value):
        raise DataError("all rows of data/prepared/test.csv have the same label: raise `split.test`")
    # The strongest baseline is picked on the test set itself: this favours the baseline, never the teacher.
    best = max((model for model in BASELINES if model in estimates), key=lambda model: estimates[model]["auc"].value)
    pairs = {
        "gain_over_human_only": ("teacher", "human_only"),
        "gain_over_best_baseline": ("teacher", best),
        "student_minus_teacher": ("student", "teacher"),
        "student_minus_undistilled": ("student", "student_undistilled"),
        "int8_minus_student": ("student_int8", "student"),
    }
    differences: dict[str, dict[str, float | str]] = {
        name: dict(summarise_estimates(subtract_estimates(estimates[first], estimates[second], _COMPARED), confidence))
        for name, (first, second) in pairs.items()
        if first in estimates and second in estimates
    }
    differences["gain_over_best_baseline"]["baseline"] = best
    ratio = find_ratio(estimates[shipped]["auc"], estimates["teacher"]["auc"], confidence, above=_CHANCE)
    differences["retention"] = {
        f"auc_above_chance{end}": round(value, 4) for end, value in zip(_ENDS, ratio, strict=False)
    }
    return differences


def trace_roc(actual: Ints, predictions: dict[str, Floats], labels: list[str]) -> pd.DataFrame:
    """Return ROC curves (model, fpr, tpr, label), averaged over seeds at fixed fpr (Fawcett, 2006, section 8.2).

    With two labels, there is one curve, of the last one; with more, one curve per label against the rest. A label that
    no row has gets none.
    """
    from sklearn.metrics import roc_curve

    tables = []
    for model, stack in predictions.items():
        for index in np.unique(actual) if len(labels) > 2 else [1]:
            # Where a curve rises straight up, its upper end counts.
            curves = [roc_curve(actual == index, seed[:, index])[:2] for seed in stack]
            rates = np.mean([np.interp(_GRID, *curve) for curve in curves], axis=0)
            points = {"fpr": np.r_[0, _GRID], "tpr": np.r_[0, rates].round(4)}  # at first nothing is positive
            tables.append(pd.DataFrame({"model": model, **points, "label": labels[index]}))
    return pd.concat(tables, ignore_index=True)


def bin_calibration(actual: Ints, predictions: dict[str, Floats]) -> pd.DataFrame:
    """Return one line per model and bin of the top probability, over all seeds.

    `confidence` is the mean top probability of the bin, `share` the share of correct predictions, `rows` their count.
    """
    tables = []
    for model, stack in predictions.items():
        top, right = stack.max(axis=2).ravel(), (stack.argmax(axis=2) == actual).ravel()
        bins = pd.DataFrame({"confidence": top, "share": right.astype(float)}).groupby(assign_bins(top))
        tables.append(bins.mean().round(4).assign(rows=bins.size()).reset_index(drop=True))
        tables[-1].insert(0, "model", model)
    return pd.concat(tables, ignore_index=True)


def list_confusions(actual: Ints, predictions: dict[str, Floats], labels: list[str]) -> pd.DataFrame:
    """Return one line per model, seed and row (model, actual, predicted), as in DVC's confusion template."""
    names = np.array(labels, dtype=object)
    tables = [
        pd.DataFrame({"model": model, "actual": names[actual], "predicted": names[seed.argmax(axis=1)]})
        for model, stack in predictions.items()
        for seed in stack
    ]
    return pd.concat(tables, ignore_index=True)


def list_intervals(models: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return one line per model and metric (model, metric, value, low, high) from metrics with their intervals."""
    lines = [
        (model, name, value, metrics[f"{name}_low"], metrics[f"{name}_high"])
        for model, metrics in models.items()
        for name, value in metrics.items()
        if f"{name}_low" in metrics
    ]
    return pd.DataFrame(lines, columns=["model", "metric", "value", "low", "high"])


def read_training(curves: dict[tuple[str, int], Path]) -> pd.DataFrame:
    """Read dvclive's curves of each (model, seed) into one table (model, seed, step, loss, validation_loss)."""
    columns = ["model", "seed", "step", *_LOSSES.values()]
    tables = []
    for (model, seed), folder in curves.items():
        losses = {
            name: pd.read_csv(file, sep="\t", index_col="step").iloc[:, 0]
            for recorded, name in _LOSSES.items()
            if (file := folder / f"plots/metrics/{recorded}.tsv").is_file()
        }
        if losses:
            tables.append(pd.DataFrame(losses).rename_axis("step").reset_index().assign(model=model, seed=seed))
    return pd.concat(tables or [pd.DataFrame()], ignore_index=True).reindex(columns=columns)


def gather_counts(summaries: Mapping[str, Any], mixed: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Return the contents of metrics/data.json, metrics/cost.json and metrics/training.json, by name.

    `summaries` are those of the stages, `mixed` the rows by origin. All costs that the run rests on count, including
    those of answers from the journal or the cache. `labelled` is how many of the synthetic rows learned are real texts
    that the LLM labelled; it is left out if it labelled none.
    """
    baselines, teacher, student = (summaries[name] for name in ("baselines", "teacher", "student"))
    grader = baselines.get("llm_grader")
    labelled = summaries["label"] if summaries["label"]["rows"] else None
    asked = {"synthesis": summaries["synthesis"], "judge": summaries["judge"], "label": labelled, "grader": grader}
    costs: dict[str, dict[str, Any]] = {
        work: {"requests": next(summary[name] for name in _REQUESTS if name in summary)}
        | {name: summary[name] for name in _USED}
        for work, summary in asked.items()
        if summary
    }
    known = [name for name in ("requests", *_USED) if all(cost[name] is not None for cost in costs.values())]
    costs["llm"] = {name: round(sum(cost[name] for cost in costs.values()), 6) for name in known}
    runs = {
        "teacher": teacher["seeds"],
        "student": student["seeds"],
        "student_undistilled": student.get("undistilled"),
        "human_only": baselines["human_only"]["seeds"],
    }
    training = {model: {f"seed_{seed}": run for seed, run in seeds.items()} for model, seeds in runs.items() if seeds}
    counts = {
        "mixed": dict(sorted(mixed.items())),
        # The mix takes labelled texts first, and the guard may leave out the written rows alone.
        "learned": teacher["learned"]
        | {"labelled": min(labelled["rows"], teacher["learned"]["synthetic"]) if labelled else None},
        "held_out": teacher["held_out"],
        "grader": grader and {"rows": grader["requests"], "unparsed": grader["unparsed"]},
    }
    return _drop_nulls(
        {
            "data": summaries["prepared"] | counts,
            "cost": costs,
            "training": {"training": training, "guard": teacher.get("guard")},
        }
    )


def summarise_run(files: Mapping[str, Mapping[str, Mapping[str, Any]]], precision: str) -> dict[str, dict[str, float]]:
    """Pick the numbers of metrics/summary.json from the files of these names; a missing number is left out.

    `student` is the file that ships: its kappa is Cohen's with the coders, by squared distance if labels have an order.
    """
    models, gains, shipped = files["models"], files["comparisons"], SHIPPED[precision]
    alone, llm, speed = files["selective"].get("selective", {}), files["cost"].get("llm", {}), files["speed"]
    aucs = {
        name: {f"auc{end}": models[model].get(f"auc{end}") for end in _ENDS}
        for name, model in (("student", shipped), ("teacher", "teacher"), ("human_only", "human_only"))
    }
    aucs["student"] |= {
        "kappa": models[shipped].get("quadratic_kappa", models[shipped].get("kappa")),
        "retention": gains["retention"].get("auc_above_chance"),
        "coverage": alone.get("coverage"),
        "agreement": alone.get("agreement"),
        "rows_per_second": speed.get(f"{shipped}_rows_per_second"),
        "megabytes": speed.get(f"{shipped}_megabytes"),
        "bits": 8 if precision == "int8" else 32,
    }
    gain = {f"over_human_only{end}": gains["gain_over_human_only"].get(f"auc{end}") for end in _ENDS}
    gain["over_best_baseline"] = gains["gain_over_best_baseline"].get("auc")
    others = {
        "gain": gain,
        "llm": {"requests": llm.get("requests"), "usd": llm.get("cost_usd")},
        "learned": {origin: files["data"]["learned"].get(origin) for origin in ("human", "synthetic")},
    }
    return _drop_nulls(aucs | others)


def _drop_nulls(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys without a value, at every depth: DVC compares only numbers."""
    return {
        name: _drop_nulls(part) if isinstance(part, dict) else part for name, part in values.items() if part is not None
    }
