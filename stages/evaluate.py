"""Measure every model on the human-coded test rows, and write the metrics that Git tracks."""

from collections import Counter
from pathlib import Path

from runtime import run_stage

import pandas as pd

from amalgam.evaluation import summary
from amalgam.evaluation.bootstrap import encode_groups, encode_labels, estimate_models, summarise_estimates
from amalgam.evaluation.predictions import read_predictions, stack_predictions, write_predictions
from amalgam.evaluation.subsets import CodedRows, measure_ceiling, measure_periods, measure_selective, measure_subgroups
from amalgam.evaluation.summary import compare_models, list_models, measure_speed, score_sets
from amalgam.files import read_json, read_rows, write_json, write_text
from amalgam.params import Params
from amalgam.shipping.onnx import OnnxScorer
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
# Folders whose summary.json has the counts of earlier stages; they are cached outputs, which Git does not see.
COUNTED = {
    "prepared": PREPARED,
    "baselines": BASELINES,
    "synthesis": Path("data/curated"),
    "judge": Path("data/judgements"),
    "label": Path("data/labelled"),
    "teacher": TRAINED["teacher"],
    "student": TRAINED["student"],
}


def main(params: Params, root: Path) -> None:
    task, confidence = load_task(Path("data/tasks") / params.task), params.evaluation.confidence
    precision = read_json(EXPORTED / "summary.json")["precision"]
    sets = {path.stem: read_rows(path) for path in sorted(PREPARED.glob("*test.csv"))}  # test, perhaps transfer_test
    trained = {seed: list_models(TRAINED, EXPORTED, seed) for seed in params.seeds}
    scored = score_sets(sets, trained, task.label_names, BASES)
    baselines = read_predictions(BASELINES / "predictions.csv", task.label_names)
    write_predictions(PREDICTIONS, pd.concat([scored, baselines]))

    # The table as it was written: whoever reads the file gets the same numbers.
    table = read_predictions(PREDICTIONS, task.label_names)
    models = {}
    for name, rows in sets.items():
        actual, groups = encode_labels(rows, task.label_names, f"{PREPARED}/{name}.csv"), encode_groups(rows)
        stacks = stack_predictions(table, name, list(rows["id"]), task.label_names)
        estimates = estimate_models(actual, groups, stacks, ordinal=task.ordinal)
        models[name] = {model: summarise_estimates(metrics, confidence) for model, metrics in estimates.items()}
        if name == "test":
            comparisons = compare_models(estimates, summary.SHIPPED[precision], confidence)
            write_json(METRICS / "comparisons.json", comparisons)
            write_parts(CodedRows(rows, actual, groups, stacks, task.ordinal), task.label_names, confidence)
            write_table("intervals", summary.list_intervals(models[name]))
            write_table("roc", summary.trace_roc(actual, stacks, task.label_names))
            write_table("calibration", summary.bin_calibration(actual, stacks))
            both = {model: stacks[model] for model in ("teacher", "student")}
            write_table("confusion", summary.list_confusions(actual, both, task.label_names))
    write_json(METRICS / "models.json", models.pop("test") | models)
    curves = {(model, seed): TRAINED[model] / f"seed-{seed}/curves" for model in TRAINED for seed in params.seeds}
    write_table("training", summary.read_training(curves))
    write_counts()
    write_json(METRICS / "speed.json", measure_speed(trained[params.seeds[0]], sets["test"], BASES))
    files = {name: read_json(METRICS / f"{name}.json") for name in SUMMARISED}
    write_json(METRICS / "summary.json", summary.summarise_run(files, precision))


def write_parts(coded: CodedRows, labels: list[str], confidence: float) -> None:
    """Write how far raters agree on the test rows, and metrics by subgroup, by period, and of the file that ships."""
    shipped = read_json(EXPORTED / "summary.json")
    # Use the file that ships, whatever its precision: the thresholds were found with it.
    seed = f"seed-{shipped['seed']}"
    student = OnnxScorer(EXPORTED / seed / shipped["model"], STUDENTS / seed).score(coded.rows)
    selective = measure_selective(coded.actual, coded.groups, student, shipped["calibration"], confidence)
    ceiling = measure_ceiling(coded, labels, confidence)
    write_json(METRICS / "ceiling.json", {"human_ceiling": ceiling} if ceiling else {})
    write_json(METRICS / "selective.json", {"selective": selective | {"basis": shipped["calibration"]["sentence"]}})
    for name, parts in (
        ("subgroups", measure_subgroups(coded, confidence)),
        ("periods", measure_periods(coded, confidence)),
    ):
        write_json(METRICS / f"{name}.json", {name: parts} if parts else {})


def write_counts() -> None:
    """Write the counts of earlier stages."""
    mixed = Counter(read_rows(Path("data/mixed.csv"))["origin"])
    summaries = {name: read_json(folder / "summary.json") for name, folder in COUNTED.items()}
    for name, counts in summary.gather_counts(summaries, mixed).items():
        write_json(METRICS / f"{name}.json", counts)


def write_table(name: str, table: pd.DataFrame) -> None:
    """Write a table for a plot."""
    write_text(METRICS / f"plots/{name}.csv", table.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    run_stage("evaluate", main)
