"""Draw the study's charts, and report what holds, what does not, and what is inconclusive."""

import shutil
from pathlib import Path

from runtime import run_stage

import pandas as pd

from amalgam.machine import notify
from amalgam.params import Params
from amalgam.study.engine import Store
from amalgam.study.results import list_findings, list_points, tabulate_points, write_results
from amalgam.tasks.schema import load_task

ROWS, CELLS, CHARTS = Path("study/rows"), Path("study/cells"), Path("study/charts")


def main(params: Params, root: Path) -> None:
    table = pd.read_parquet("study/results.parquet")
    done = table[table["fault"] == ""]
    labels = {name: load_task(Path("data/tasks") / name).label_names for name in sorted(set(done["task"]))}
    points = list_points(table, ROWS, Store(CELLS, CELLS), labels)
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
