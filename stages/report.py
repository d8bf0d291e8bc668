"""Write report.html: the verdict, the numbers behind it and what exactly was run, in one page."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from runtime import run_stage

import pandas as pd

from amalgam.evaluation.predictions import read_predictions, stack_predictions
from amalgam.files import hash_file, read_json, write_text
from amalgam.params import Params, dump_tracked
from amalgam.report.browser import Browser, pick_rows
from amalgam.report.content import Content
from amalgam.report.mistakes import browse_mistakes, list_mistakes
from amalgam.report.page import build_page
from amalgam.report.pool import browse_pool
from amalgam.report.sweeps import collect_likeness, collect_sweeps
from amalgam.rows import iterate_dicts, iterate_rows, read_rows
from amalgam.tasks.schema import load_task

METRICS = Path("metrics")
NAMES = (
    *("models", "comparisons", "ceiling", "data", "synthetic", "training", "speed", "cost", "subgroups", "periods"),
    *("selective", "summary"),
)
BASE = Path("models/base")
CURATED = Path("data/curated")
PREPARED = Path("data/prepared")
SWEEPS = Path("data/sweeps")
PREDICTIONS = Path("data/predictions/predictions.csv")
# What the page takes along of the rows, so that it stays below 5 MB.
KEPT, REJECTED, MISTAKES = 1000, 1000, 1000
POOL_BYTES, MISTAKE_BYTES = 2_000_000, 1_000_000
PACKAGES = (
    *("amalgam", "dvc", "numpy", "onnxruntime", "openai", "pandas", "scikit-learn", "scipy", "tokenizers", "torch"),
    *("transformers", "xllamacpp"),
)


def main(params: Params, root: Path) -> None:
    folder = Path("data/tasks") / params.task
    task = load_task(folder)
    metrics = {name: read_json(METRICS / f"{name}.json") for name in NAMES}
    content = Content(
        title=task.title,
        response=task.response,
        licence=task.licence,
        citation=task.citation,
        labels={label.name: label.definition for label in task.labels},
        params=dump_tracked(params),
        plots={name: read_plot(name) for name in ("roc", "calibration", "confusion", "training")},
        synthetic_rows=browse_responses(metrics["synthetic"]["synthesis"]["responses"], params.synthesis.temperature),
        mistakes=browse_errors(task.label_names),
        base_models={
            "Base model of the teacher": read_json(BASE / "encoder/amalgam.json"),
            "Language model": read_json(BASE / "llm/identity.json"),
        },
        inputs={str(path): hash_file(path) for path in list_inputs(folder)},
        versions={"python": python_version(), **{name: version(name) for name in PACKAGES}},
        sweeps=collect_sweeps(
            iterate_experiments(), dump_tracked(params), metrics["models"], metrics["training"].get("guard", {})
        ),
        likeness=collect_likeness(iterate_experiments(), dump_tracked(params), metrics["synthetic"]),
        **metrics,
    )
    write_text(Path("report.html"), build_page(content))


def browse_responses(total: int, temperature: float) -> Browser | None:
    """Collect synthetic rows of every label, and rejected ones of every reason."""
    kept = pick_rows(iterate_rows(CURATED / "synthetic.csv"), "label", KEPT)
    rejected = pick_rows(iterate_rows(CURATED / "rejects.csv"), "reason", REJECTED)
    return browse_pool(kept, rejected, total=total, temperature=temperature, size=POOL_BYTES)


def browse_errors(labels: list[str]) -> Browser | None:
    """Collect the test rows that the student gets wrong."""
    rows = read_rows(PREPARED / "test.csv")
    stacks = stack_predictions(read_predictions(PREDICTIONS, labels), "test", list(rows["id"]), labels)
    mistakes = list_mistakes(rows, stacks, labels)
    return browse_mistakes(mistakes, len(rows), limit=MISTAKES, size=MISTAKE_BYTES)


def iterate_experiments() -> Iterator[dict[str, str]]:
    """Yield what `amalgam experiments` wrote, file by file."""
    for path in sorted(SWEEPS.glob("*.csv")):
        yield from iterate_rows(path)


def list_inputs(task: Path) -> list[Path]:
    """List the files of which the hash says what the models learned from and were measured on."""
    sets = sorted(PREPARED.glob("*.csv"))
    return [task / "task.yaml", *sets, CURATED / "synthetic.csv", Path("data/mixed.csv"), PREDICTIONS]


def read_plot(name: str) -> list[dict[str, Any]]:
    """Read one table of metrics/plots; labels stay text, even where they look like numbers."""
    texts = {"model": str, "label": str, "actual": str, "predicted": str}
    table = pd.read_csv(
        METRICS / f"plots/{name}.csv", dtype=texts, na_values={"loss": "", "validation_loss": ""}, keep_default_na=False
    )
    return list(iterate_dicts(table))


if __name__ == "__main__":
    run_stage("report", main)
