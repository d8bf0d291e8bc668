"""Measure every model on the human-coded test rows, and write the metrics that Git tracks."""

from collections import Counter
from pathlib import Path

from runtime import run_stage

import pandas as pd

from amalgam.evaluation.bootstrap import summarise_estimates
from amalgam.evaluation.compare import Estimates, compare_models, encode_groups, encode_labels, estimate_models
from amalgam.evaluation.curves import bin_calibration, list_confusions, list_intervals, read_training, trace_roc
from amalgam.evaluation.predictions import read_predictions, stack_predictions, write_predictions
from amalgam.evaluation.selective import measure_ceiling, measure_selective
from amalgam.evaluation.subgroups import CodedRows, measure_periods, measure_subgroups
from amalgam.evaluation.summary import gather_counts, name_shipped, summarise_run
from amalgam.evaluation.trained import list_trained, measure_speed, score_sets
from amalgam.files import read_json, write_json, write_text
from amalgam.params import Params
from amalgam.predicting.onnx import OnnxScorer
from amalgam.rows import read_rows
from amalgam.tasks.schema import load_task

PREPARED = Path("data/prepared")
BASELINES = Path("data/baselines")
PREDICTIONS = Path("data/predictions/predictions.csv")
METRICS = Path("metrics")
SUMMARISED = ("models", "comparisons", "selective", "speed", "cost", "data")
STUDENTS = Path("models/students")
EXPORTED = Path("models/exported")
BASES = [Path("models/base/encoder"), Path("models/base/student")]
TRAINED = {"teacher": Path("models/teacher"), "student": STUDENTS, "student_undistilled": STUDENTS / "undistilled"}
# Folders whose summary.json has what earlier stages counted; cached outputs, so that Git does not see them.
COUNTED = {
    "prepared": PREPARED,
    "baselines": BASELINES,
    "synthesis": Path("data/curated"),
    "judge": Path("data/judgements"),
    "teacher": TRAINED["teacher"],
    "student": TRAINED["student"],
}


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
        estimates[name] = estimate_models(actual, groups, stacks, ordinal=task.ordinal)
        if name == "test":
            coded = CodedRows(rows, actual, groups, stacks, task.ordinal)
            write_parts(coded, task.label_names, params.evaluation.confidence)
            write_plots(coded, params.seeds, task.label_names)
    write_models(estimates, name_shipped(precision), params.evaluation.confidence)
    mixed = Counter(read_rows(Path("data/mixed.csv"))["origin"])
    counts = gather_counts({name: read_json(folder / "summary.json") for name, folder in COUNTED.items()}, mixed)
    for name, part in counts.items():
        write_json(METRICS / f"{name}.json", part)
    write_json(METRICS / "speed.json", measure_speed(models[params.seeds[0]], sets["test"]))
    files = {name: read_json(METRICS / f"{name}.json") for name in SUMMARISED}
    write_json(METRICS / "summary.json", summarise_run(files, precision))


def write_models(estimates: dict[str, Estimates], shipped: str, confidence: float) -> None:
    """Write the metrics of all models with their intervals, and the paired differences on the test set."""
    models = {
        name: {model: summarise_estimates(metrics, confidence) for model, metrics in part.items()}
        for name, part in estimates.items()
    }
    write_table("intervals", list_intervals(models["test"]))
    write_json(METRICS / "models.json", models.pop("test") | models)
    write_json(METRICS / "comparisons.json", compare_models(estimates["test"], shipped, confidence))


def write_parts(coded: CodedRows, labels: list[str], confidence: float) -> None:
    """Write how far raters agree on the test rows, how the models do by subgroup and period, and what ships alone."""
    shipped = read_json(EXPORTED / "summary.json")
    # The file that ships, whatever its precision: its thresholds were found with it.
    seed = f"seed-{shipped['seed']}"
    student = OnnxScorer(EXPORTED / seed / shipped["model"], STUDENTS / seed).score(coded.rows)
    selective = measure_selective(coded.actual, coded.groups, student, shipped["calibration"], confidence)
    parts = {
        "ceiling": {
            "human_ceiling": measure_ceiling(coded.rows, coded.groups, labels, confidence, ordinal=coded.ordinal)
        },
        "selective": {"selective": selective | {"basis": shipped["calibration"]["sentence"]}},
        "subgroups": {"subgroups": measure_subgroups(coded, confidence)},
        "periods": {"periods": measure_periods(coded, confidence)},
    }
    for name, part in parts.items():
        write_json(METRICS / f"{name}.json", {key: value for key, value in part.items() if value})


def write_plots(coded: CodedRows, seeds: list[int], labels: list[str]) -> None:
    """Write the tables that `dvc plots` and the report draw."""
    curves = {(model, seed): folder / f"seed-{seed}/curves" for model, folder in TRAINED.items() for seed in seeds}
    write_table("roc", trace_roc(coded.actual, coded.stacks, labels))
    write_table("calibration", bin_calibration(coded.actual, coded.stacks))
    both = {model: coded.stacks[model] for model in ("teacher", "student")}
    write_table("confusion", list_confusions(coded.actual, both, labels))
    write_table("training", read_training(curves))


def write_table(name: str, table: pd.DataFrame) -> None:
    """Write a table that is drawn."""
    write_text(METRICS / f"plots/{name}.csv", table.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    run_stage("evaluate", main)
