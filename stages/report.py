"""Write report.html: the verdict, the numbers behind it and what exactly was run, in one page."""

from importlib.metadata import version
from pathlib import Path
from platform import python_version

from runtime import run_stage

import pandas as pd

from amalgam.evaluation.predictions import read_predictions, stack_predictions
from amalgam.files import hash_file, read_json, read_rows, write_text
from amalgam.params import Params, dump_tracked
from amalgam.report.content import Content
from amalgam.report.page import build_page
from amalgam.report.rows import list_mistakes, pick_rows
from amalgam.tasks.schema import load_task

METRICS = Path("metrics")
NAMES = (
    *("models", "comparisons", "ceiling", "data", "synthetic", "training", "speed", "cost", "subgroups", "periods"),
    *("selective", "summary"),
)
BASE = Path("models/base")
CURATED = Path("data/curated")
PREPARED = Path("data/prepared")
PREDICTIONS = Path("data/predictions/predictions.csv")
ROWS = 1000  # of each kind (kept, rejected) that the page includes
PACKAGES = (
    *("amalgam", "dvc", "numpy", "onnxruntime", "openai", "pandas", "scikit-learn", "scipy", "tokenizers", "torch"),
    *("transformers", "xllamacpp"),
)


def main(params: Params, root: Path) -> None:
    folder = Path("data/tasks") / params.task
    task = load_task(folder)
    content = Content(
        title=task.title,
        response=task.response,
        licence=task.licence,
        citation=task.citation,
        labels={label.name: label.definition for label in task.labels},
        params=dump_tracked(params),
        metrics={name: read_json(METRICS / f"{name}.json") for name in NAMES},
        plots={name: read_plot(name) for name in ("roc", "calibration", "confusion", "training")},
        pool=read_pool(),
        mistakes=find_mistakes(task.label_names),
        base_models={
            "Base model of the teacher": read_json(BASE / "encoder/amalgam.json"),
            "Language model": read_json(BASE / "llm/identity.json"),
        },
        inputs={str(path): hash_file(path) for path in list_inputs(folder)},
        versions={"python": python_version(), **{name: version(name) for name in PACKAGES}},
    )
    write_text(Path("report.html"), build_page(content))


def read_pool() -> pd.DataFrame:
    """Read synthetic rows of every label, and rejected ones for every reason."""
    kept = pick_rows(read_rows(CURATED / "synthetic.csv"), "label", ROWS)
    rejected = pick_rows(read_rows(CURATED / "rejects.csv"), "reason", ROWS)
    return pd.concat([kept, rejected], ignore_index=True).fillna("")


def find_mistakes(labels: list[str]) -> pd.DataFrame:
    """Find the test rows that the student gets wrong."""
    rows = read_rows(PREPARED / "test.csv")
    stacks = stack_predictions(read_predictions(PREDICTIONS, labels), "test", list(rows["id"]), labels)
    return list_mistakes(rows, stacks, labels)


def list_inputs(task: Path) -> list[Path]:
    """List the files whose hashes identify what the models learned from and were measured on."""
    sets = sorted(PREPARED.glob("*.csv"))
    return [task / "task.yaml", *sets, CURATED / "synthetic.csv", Path("data/mixed.csv"), PREDICTIONS]


def read_plot(name: str) -> pd.DataFrame:
    """Read one table of metrics/plots; labels stay text, even if they look like numbers."""
    texts = {"model": str, "label": str, "actual": str, "predicted": str}
    missing = {"loss": "", "validation_loss": ""}
    return pd.read_csv(METRICS / f"plots/{name}.csv", dtype=texts, na_values=missing, keep_default_na=False)


if __name__ == "__main__":
    run_stage("report", main)
