"""The table of predictions: every model's probabilities for every test row, in one format for all models.

Columns: `set` (test or transfer_test), `model`, `seed` (0 where the method has none), `id`, then `p_<label>` for
each label in the task's order.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from amalgam.errors import DataError
from amalgam.files import write_text

Floats = NDArray[np.float64]

# Models in the order in which they are shown, with the names that people read.
MODEL_NAMES = {
    "teacher": "Teacher",
    "student": "Student",
    "student_int8": "Student, int8",
    "student_undistilled": "Undistilled student",
    "human_only": "Human-only teacher",
    "embedding_lr": "Embedding + LR",
    "tfidf_lr": "TF-IDF + LR",
    "llm_grader": "LLM as grader",
}
_DECIMALS = 6


def build_predictions(
    set_name: str, model: str, seed: int, ids: Iterable[str], probabilities: Floats, labels: list[str]
) -> pd.DataFrame:
    """Put probabilities [n rows, k labels] of one model and seed into the table's format."""
    values = dict(zip((f"p_{label}" for label in labels), np.round(probabilities, _DECIMALS).T, strict=True))
    return pd.DataFrame({"set": set_name, "model": model, "seed": seed, "id": list(ids), **values})


def write_predictions(path: Path, table: pd.DataFrame) -> None:
    """Write the table as CSV with 6 decimals."""
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format=f"%.{_DECIMALS}f"))


def read_predictions(path: Path, labels: list[str]) -> pd.DataFrame:
    """Read the table; DataError if its columns are not those of the task."""
    table = pd.read_csv(path, dtype={"set": str, "model": str, "id": str}, keep_default_na=False)
    wanted = ["set", "model", "seed", "id", *(f"p_{label}" for label in labels)]
    if list(table.columns) != wanted:
        raise DataError(f"{path} has the columns {list(table.columns)}, not {wanted}: run `dvc repro` to make it again")
    return table


def stack_predictions(table: pd.DataFrame, set_name: str, ids: list[str], labels: list[str]) -> dict[str, Floats]:
    """Return probabilities [s seeds, n rows, k labels] by model, in the order of `MODEL_NAMES`; rows are as in `ids`.

    DataError if a model does not have exactly one prediction for each row and seed.
    """
    stacks: dict[str, list[Floats]] = {}
    for (model, seed), part in table[table["set"] == set_name].groupby(["model", "seed"], sort=True):
        if sorted(part["id"]) != sorted(ids):
            raise DataError(
                f"the predictions of {model}, seed {seed}, do not match the rows of data/prepared/{set_name}.csv: "
                "run `dvc repro` to make them again"
            )
        ordered = part.set_index("id").loc[ids, [f"p_{label}" for label in labels]]
        stacks.setdefault(str(model), []).append(ordered.to_numpy(dtype=np.float64))
    return {model: np.stack(stacks[model]) for model in MODEL_NAMES if model in stacks}
