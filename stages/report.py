"""Write report.html: the verdict, the numbers behind it and what exactly was run, in one page."""

from pathlib import Path
from typing import Any

import pandas as pd
from runtime import run_stage

from amalgam.files import read_json, write_text
from amalgam.params import Params, list_tracked_keys
from amalgam.report.page import Content, build_page, load_library, pick_rows
from amalgam.rows import iterate_rows
from amalgam.tasks.schema import load_task

METRICS = Path("metrics")
BASE = Path("models/base")
CURATED = Path("data/curated")
KEPT, REJECTED = 60, 40  # rows that the page shows of the pool


def main(params: Params, root: Path) -> None:
    task = load_task(Path("data/tasks") / params.task)
    metrics = {
        name: read_json(METRICS / f"{name}.json")
        for name in ("models", "comparisons", "data", "synthetic", "training", "speed")
    }
    content = Content(
        title=task.title,
        response=task.response,
        licence=task.licence,
        citation=task.citation,
        labels={label.name: label.definition for label in task.labels},
        params=select_tracked(params),
        plots={name: read_plot(name) for name in ("roc", "calibration", "confusion", "training")},
        kept=pick_rows(iterate_rows(CURATED / "synthetic.csv"), "label", KEPT),
        rejected=pick_rows(iterate_rows(CURATED / "rejects.csv"), "reason", REJECTED),
        base_models={
            "Base model of the teacher": read_json(BASE / "encoder/amalgam.json"),
            "Language model": read_json(BASE / "llm/identity.json"),
        },
        **metrics,
    )
    write_text(Path("report.html"), build_page(content, load_library()))


def select_tracked(params: Params) -> dict[str, Any]:
    """Leave out what changes only how fast results come: this stage does not run again for it."""
    tracked = set(list_tracked_keys())
    return {
        name: {key: part for key, part in value.items() if f"{name}.{key}" in tracked}
        if isinstance(value, dict)
        else value
        for name, value in params.model_dump().items()
    }


def read_plot(name: str) -> list[dict[str, Any]]:
    """Read one table of metrics/plots; labels stay text, even where they look like numbers."""
    texts = {"model": str, "label": str, "actual": str, "predicted": str}
    table = pd.read_csv(
        METRICS / f"plots/{name}.csv", dtype=texts, na_values={"loss": "", "validation_loss": ""}, keep_default_na=False
    )
    return table.to_dict("records")


if __name__ == "__main__":
    run_stage("report", main)
