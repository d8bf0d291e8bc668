"""A run at a glance: tables that are drawn, counts of earlier stages, and the numbers by which a change is judged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.metrics import Floats, Ints, assign_bins

_GRID = np.linspace(0, 1, 101)  # false positive rates at which curves of several seeds are averaged
_LOSSES = {"train_loss": "loss", "validation_loss": "validation_loss"}  # dvclive's name: the table's
Parts = Mapping[str, Mapping[str, Any]]
_ENDS = ("", "_low", "_high")
_REQUESTS = ("completions", "requests", "rows")  # what summaries call the number of their requests
_COSTS = ("requests", "prompt_tokens", "completion_tokens", "cost_usd")


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
    columns = ["model", "seed", "step", *_LOSSES.values()]
    tables = [pd.DataFrame(columns=columns)]
    for (model, seed), folder in curves.items():
        losses = {
            name: pd.read_csv(file, sep="\t", index_col="step").iloc[:, 0]
            for recorded, name in _LOSSES.items()
            if (file := folder / f"plots/metrics/{recorded}.tsv").is_file()
        }
        if losses:
            tables.append(pd.DataFrame(losses).rename_axis("step").reset_index().assign(model=model, seed=seed))
    return pd.concat(tables[1:] or tables, ignore_index=True)[columns]


def gather_counts(summaries: Mapping[str, Any], mixed: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Return what metrics/data.json, metrics/cost.json and metrics/training.json hold, by their names.

    `summaries` are those of prepared, synthesis, judge, label, baselines, teacher and student, `mixed` rows by origin.
    """
    baselines, teacher, student = (summaries[name] for name in ("baselines", "teacher", "student"))
    grader = baselines.get("llm_grader")
    asked = {name: summaries[name] for name in ("synthesis", "judge")}
    asked |= {"label": summaries["label"]} if summaries["label"]["rows"] else {}
    runs = {
        "teacher": teacher["seeds"],
        "student": student["seeds"],
        "student_undistilled": student.get("undistilled") or {},
        "human_only": baselines["human_only"]["seeds"],
    }
    training = {model: {f"seed_{seed}": run for seed, run in seeds.items()} for model, seeds in runs.items() if seeds}
    counts = {
        "mixed": dict(sorted(mixed.items())),
        "learned": teacher["learned"],
        "held_out": teacher["held_out"],
        "grader": grader and {"rows": grader["requests"], "unparsed": grader["unparsed"]},
    }
    return _drop_nulls(
        {
            "data": summaries["prepared"] | counts,
            "cost": sum_costs({**asked, "grader": grader}),
            "training": {"training": training, "guard": teacher.get("guard")},
        }
    )


def sum_costs(summaries: Mapping[str, Mapping[str, Any] | None]) -> dict[str, dict[str, float]]:
    """Return requests, tokens and cost in US dollars of each kind of work that was done, and of all as `llm`.

    All that the run rests on counts, also what came from the journal or the cache and so cost nothing this time. An
    unknown cost is left out, and then also that of all.
    """
    costs: dict[str, dict[str, float]] = {}
    for work, summary in summaries.items():
        if summary is not None:
            requests = next((summary[name] for name in _REQUESTS if name in summary), None)
            costs[work] = _drop_nulls({name: summary.get(name) for name in _COSTS} | {"requests": requests})
    known = [name for name in _COSTS if all(name in cost for cost in costs.values())]
    return costs | {"llm": {name: round(sum(cost[name] for cost in costs.values()), 6) for name in known}}


def name_shipped(precision: str) -> str:
    """Return the name, in the other metric files, of the student whose file ships."""
    return "student_int8" if precision == "int8" else "student"


def summarise_run(files: Mapping[str, Parts], precision: str) -> dict[str, dict[str, float]]:
    """Pick the numbers of metrics/summary.json from the files of these names; one that is not there is left out.

    `student` is the file that ships: its kappa is Cohen's with the coders, by squared distance where labels have an
    order; `retention` what it keeps of the teacher's AUC above chance; `coverage` the share of the rows that need no
    human, and `agreement` the coders' with it there. `gain` is the teacher's in AUC, paired by row and seed.
    """
    models, gains, shipped = files["models"], files["comparisons"], name_shipped(precision)
    student, gain = models[shipped], gains["gain_over_human_only"]
    alone, llm = files["selective"].get("selective", {}), files["cost"].get("llm", {})
    summary = {
        "student": {
            **_pick_auc(student),
            "kappa": student.get("quadratic_kappa", student.get("kappa")),
            "retention": gains["retention"].get("auc_above_chance"),
            "coverage": alone.get("coverage"),
            "agreement": alone.get("agreement"),
            "rows_per_second": files["speed"].get(f"{shipped}_rows_per_second"),
            "megabytes": files["speed"].get(f"{shipped}_megabytes"),
            "bits": 8 if precision == "int8" else 32,
        },
        "teacher": _pick_auc(models["teacher"]),
        "human_only": _pick_auc(models["human_only"]),
        "gain": {
            **{f"over_human_only{end}": gain.get(f"auc{end}") for end in _ENDS},
            "over_best_baseline": gains["gain_over_best_baseline"].get("auc"),
        },
        "llm": {"requests": llm.get("requests"), "usd": llm.get("cost_usd")},
        "learned": {origin: files["data"]["learned"].get(origin) for origin in ("human", "synthetic")},
    }
    return _drop_nulls(summary)


def _pick_auc(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"auc{end}": values.get(f"auc{end}") for end in _ENDS}


def _drop_nulls(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys without a value, at every depth: DVC compares numbers only."""
    return {
        name: _drop_nulls(part) if isinstance(part, dict) else part for name, part in values.items() if part is not None
    }
