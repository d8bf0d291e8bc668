"""Measure every model on the human-coded test rows, and write the metrics that Git tracks."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from runtime import run_stage

from amalgam.evaluation.bootstrap import summarise_estimates
from amalgam.evaluation.compare import Estimates, compare_models, encode_groups, encode_labels, estimate_models
from amalgam.evaluation.curves import bin_calibration, list_confusions, read_training, trace_roc
from amalgam.evaluation.metrics import Floats, Ints
from amalgam.evaluation.predictions import build_predictions, read_predictions, stack_predictions, write_predictions
from amalgam.evaluation.speed import measure_speed
from amalgam.files import read_json, write_json, write_text
from amalgam.params import Params
from amalgam.rows import iterate_rows, read_rows
from amalgam.tasks.schema import load_task
from amalgam.training.scoring import score_rows

PREPARED = Path("data/prepared")
BASELINES = Path("data/baselines")
PREDICTIONS = Path("data/predictions/predictions.csv")
METRICS = Path("metrics")
TRAINED = {"teacher": Path("models/teacher"), "student": Path("models/students")}


def main(params: Params, root: Path) -> None:
    task = load_task(Path("data/tasks") / params.task)
    sets = {path.stem: read_rows(path) for path in sorted(PREPARED.glob("*test.csv"))}  # test, perhaps transfer_test
    scored = score_sets(sets, params.seeds, task.label_names)
    baselines = read_predictions(BASELINES / "predictions.csv", task.label_names)
    write_predictions(PREDICTIONS, pd.concat([scored, baselines]))

    # The table as it was written: whoever reads the file gets the same numbers.
    table = read_predictions(PREDICTIONS, task.label_names)
    estimates: dict[str, Estimates] = {}
    for name, rows in sets.items():
        actual = encode_labels(rows, task.label_names, f"{PREPARED}/{name}.csv")
        stacks = stack_predictions(table, name, list(rows["id"]), task.label_names)
        estimates[name] = estimate_models(actual, encode_groups(rows), stacks, params.evaluation, ordinal=task.ordinal)
        if name == "test":
            write_plots(actual, stacks, params.seeds, task.label_names)
    write_models(estimates, params.evaluation.confidence)
    write_counts()
    folders = [folder / f"seed-{params.seeds[0]}" for folder in TRAINED.values()]
    write_json(METRICS / "speed.json", measure_speed(*folders, sets["test"]))


def score_sets(sets: dict[str, pd.DataFrame], seeds: list[int], labels: list[str]) -> pd.DataFrame:
    """Score every set with every seed of teacher and student."""
    return pd.concat(
        build_predictions(name, model, seed, rows["id"], score_rows(folder / f"seed-{seed}", rows), labels)
        for name, rows in sets.items()
        for model, folder in TRAINED.items()
        for seed in seeds
    )


def write_models(estimates: dict[str, Estimates], confidence: float) -> None:
    """Write the metrics of all models with their intervals, and the paired differences on the test set."""
    models = {
        name: {model: summarise_estimates(metrics, confidence) for model, metrics in part.items()}
        for name, part in estimates.items()
    }
    write_json(METRICS / "models.json", models.pop("test") | models)
    write_json(METRICS / "comparisons.json", compare_models(estimates["test"], confidence))


def write_plots(actual: Ints, stacks: dict[str, Floats], seeds: list[int], labels: list[str]) -> None:
    """Write the tables that `dvc plots` and the report draw."""
    curves = {(model, seed): folder / f"seed-{seed}/curves" for model, folder in TRAINED.items() for seed in seeds}
    plots = {
        "roc": trace_roc(actual, stacks, labels),
        "calibration": bin_calibration(actual, stacks),
        "confusion": list_confusions(actual, {model: stacks[model] for model in TRAINED}, labels),
        "training": read_training(curves),
    }
    for name, plot in plots.items():
        write_text(METRICS / f"plots/{name}.csv", plot.to_csv(index=False, lineterminator="\n"))


def write_counts() -> None:
    """Write what earlier stages counted; they keep it in cached outputs, where Git does not see it."""
    prepared, baselines = read_json(PREPARED / "summary.json"), read_json(BASELINES / "summary.json")
    mixed = Counter(row["origin"] for row in iterate_rows(Path("data/mixed.csv")))
    synthesis = {"synthesis": "data/curated", "judge": "data/judgements"}
    counts = {name: read_json(Path(folder) / "summary.json") for name, folder in synthesis.items()}
    runs = {model: read_json(folder / "summary.json") for model, folder in TRAINED.items()}
    runs["human_only"] = baselines["human_only"]
    training = {
        model: {f"seed_{seed}": run for seed, run in summary["seeds"].items()} for model, summary in runs.items()
    }
    write_json(METRICS / "data.json", drop_nulls(prepared | {"mixed": dict(sorted(mixed.items()))}))
    write_json(METRICS / "synthetic.json", drop_nulls(counts | {"grader": baselines.get("llm_grader")}))
    write_json(METRICS / "training.json", drop_nulls({"training": training}))


def drop_nulls(value: Any) -> Any:
    """Leave out keys without a value, at every depth: DVC compares numbers only."""
    if isinstance(value, dict):
        return {name: drop_nulls(part) for name, part in value.items() if part is not None}
    return value


if __name__ == "__main__":
    run_stage("evaluate", main)
