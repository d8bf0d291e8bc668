"""Draw the study's charts, and say what holds, what does not, and what cannot be told."""

import shutil
from functools import cache, partial
from pathlib import Path

from runtime import run_stage

import pandas as pd

from amalgam.files import read_rows
from amalgam.machine import notify
from amalgam.params import Params
from amalgam.study.engine import Store
from amalgam.study.page import write_results
from amalgam.study.results import list_findings, list_points, tabulate_points
from amalgam.study.table import stack_members
from amalgam.tasks.schema import load_task

ROWS, CELLS, CHARTS = Path("study/rows"), Path("study/cells"), Path("study/charts")


def main(params: Params, root: Path) -> None:
    table = pd.read_parquet("study/results.parquet")
    done = table[table["fault"] == ""]
    labels = {name: load_task(Path("data/tasks") / name).label_names for name in sorted(set(done["task"]))}
    read = cache(read_rows)
    points = list_points(
        table,
        lambda row: read(ROWS / f"{row['task']}-{row['human_rows']}-{row['split']}" / "test.csv"),
        labels,
        partial(stack_members, Store(CELLS, CELLS)),
    )
    confidence = params.evaluation.confidence
    findings = list_findings(points, confidence)
    shutil.rmtree(CHARTS, ignore_errors=True)
    files = CHARTS, Path("study/report.html"), Path("metrics/study.json")
    write_results(tabulate_points(points, confidence), findings, table, *files)
    for finding in findings:
        notify(f"study, {finding.experiment}: {finding}")
    if failed := len(table) - len(done):
        notify(f"study: {failed} of {len(table)} cells failed; study/report.html says why")


if __name__ == "__main__":
    run_stage("study/dvc.yaml:results", main)
