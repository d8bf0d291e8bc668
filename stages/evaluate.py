"""Measure every model on the human-coded test rows, and write the metrics that Git tracks."""

from collections import Counter
from pathlib import Path

from runtime import run_stage

import pandas as pd

from amalgam.evaluation.bootstrap import summarise_estimates
from amalgam.evaluation.ceiling import measure_ceiling
from amalgam.evaluation.compare import Estimates, compare_models, encode_groups, encode_labels, estimate_models
from amalgam.evaluation.counts import gather_counts
from amalgam.evaluation.curves import bin_calibration, list_confusions, list_intervals, read_training, trace_roc
from amalgam.evaluation.metrics import Floats, Ints
from amalgam.evaluation.periods import measure_periods
from amalgam.evaluation.predictions import read_predictions, stack_predictions, write_predictions
from amalgam.evaluation.selective import measure_selective
from amalgam.evaluation.speed import measure_speed
from amalgam.evaluation.subgroups import measure_subgroups
from amalgam.evaluation.summary import name_shipped, summarise_run
from amalgam.evaluation.trained import list_trained, score_sets
from amalgam.files import read_json, write_json, write_text
from amalgam.params import Params
from amalgam.rows import iterate_rows, read_rows
from amalgam.shipping.onnx import OnnxScorer
from amalgam.tasks.schema import Task, load_task

PREPARED = Path("data/prepared")
BASELINES = Path("data/baselines")
PREDICTIONS = Path("data/predictions/predictions.csv")
METRICS = Path("metrics")
SUMMARISED = ("models", "comparisons", "selective", "speed", "cost", "data")
STUDENTS = Path("models/students")
EXPORTED = Path("models/exported")
BASES = [Path("models/base/encoder"), Path("models/base/student")]
TRAINED = {"teacher": Path("models/teacher"), "student": STUDENTS, "student_undistilled": STUDENTS / "undistilled"}


def main(params: Params, root: Path) -> None:
    task, precision = load_task(Path("data/tasks") / params.task), read_json(EXPORTED / "summary.json")["precision"]
    sets = {path.stem: read_rows(path) for path in sorted(PREPARED.glob("*test.csv"))}  # test, perhaps transfer_test
    models = {seed: list_trained(TRAINED, EXPORTED, BASES, seed) for seed in params.seeds}
    scored = score_sets(sets, models, task.label_names, BASES[0])
    baselines = read_predictions(BASELINES / "predictions.csv", task.label_names)
    write_predictions(PREDICTIONS, pd.concat([scored, baselines]))

    # The table as it was written: whoever reads the file gets the same numbers.
    table = read_predictions(PREDICTIONS, task.label_names)
    estimates: dict[str, Estimates] = {}
    for name, rows in sets.items():
        actual, groups = encode_labels(rows, task.label_names, f"{PREPARED}/{name}.csv"), encode_groups(rows)
        stacks = stack_predictions(table, name, list(rows["id"]), task.label_names)
        estimates[name] = estimate_models(actual, groups, stacks, params.evaluation, ordinal=task.ordinal)
        if name == "test":
            write_parts(rows, actual, groups, stacks, task, params)
            write_plots(actual, stacks, params.seeds, task.label_names)
    write_models(estimates, name_shipped(precision), params.evaluation.confidence)
    write_counts()
    write_json(METRICS / "speed.json", measure_speed(models[params.seeds[0]], sets["test"]))
    files = {name: read_json(METRICS / f"{name}.json") for name in SUMMARISED}
    write_json(METRICS / "summary.json", summarise_run(files, precision))


def write_models(estimates: dict[str, Estimates], shipped: str, confidence: float) -> None:
    """Write the metrics of all models with their intervals, and the paired differences on the test set."""
    models = {
        name: {model: summarise_estimates(metrics, confidence) for model, metrics in part.items()}
        for name, part in estimates.items()
    }
    intervals = list_intervals(models["test"])
    write_text(METRICS / "plots/intervals.csv", intervals.to_csv(index=False, lineterminator="\n"))
    write_json(METRICS / "models.json", models.pop("test") | models)
    write_json(METRICS / "comparisons.json", compare_models(estimates["test"], shipped, confidence))


def write_parts(
    rows: pd.DataFrame, actual: Ints, groups: Ints | None, stacks: dict[str, Floats], task: Task, params: Params
) -> None:
    """Write how far raters agree on the test rows, how the models do by subgroup and period, and what ships alone."""
    measured = (rows, actual, groups, stacks, params.evaluation)
    shipped = read_json(EXPORTED / "summary.json")
    # The file that ships, whatever its precision: its thresholds were found with it.
    seed = f"seed-{shipped['seed']}"
    student = OnnxScorer(EXPORTED / seed / shipped["model"], STUDENTS / seed).score(rows)
    ceiling = measure_ceiling(rows, groups, task.label_names, params.evaluation, ordinal=task.ordinal)
    selective = measure_selective(actual, groups, student, shipped["calibration"], params.evaluation)
    parts = {
        "ceiling": {"human_ceiling": ceiling},
        "selective": {"selective": selective | {"basis": shipped["calibration"]["sentence"]}},
        "subgroups": {"subgroups": measure_subgroups(*measured, ordinal=task.ordinal)},
        "periods": {"periods": measure_periods(*measured, ordinal=task.ordinal)},
    }
    for name, part in parts.items():
        write_json(METRICS / f"{name}.json", {key: value for key, value in part.items() if value})


def write_plots(actual: Ints, stacks: dict[str, Floats], seeds: list[int], labels: list[str]) -> None:
    """Write the tables that `dvc plots` and the report draw."""
    curves = {(model, seed): folder / f"seed-{seed}/curves" for model, folder in TRAINED.items() for seed in seeds}
    plots = {
        "roc": trace_roc(actual, stacks, labels),
        "calibration": bin_calibration(actual, stacks),
        "confusion": list_confusions(actual, {model: stacks[model] for model in ("teacher", "student")}, labels),
        "training": read_training(curves),
    }
    for name, plot in plots.items():
        write_text(METRICS / f"plots/{name}.csv", plot.to_csv(index=False, lineterminator="\n"))


def write_counts() -> None:
    """Write what earlier stages counted; they keep it in cached outputs, where Git does not see it."""
    folders = {
        "prepared": PREPARED,
        "baselines": BASELINES,
        "synthesis": Path("data/curated"),
        "judge": Path("data/judgements"),
        "teacher": TRAINED["teacher"],
        "student": TRAINED["student"],
    }
    summaries = {name: read_json(folder / "summary.json") for name, folder in folders.items()}
    mixed = Counter(row["origin"] for row in iterate_rows(Path("data/mixed.csv")))
    for name, counts in gather_counts(summaries, mixed).items():
        write_json(METRICS / f"{name}.json", counts)


if __name__ == "__main__":
    run_stage("evaluate", main)
