"""Which test rows and seeds of two revisions can be compared, and the predictions for them in the same order."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.evaluation.metrics import Floats
from amalgam.evaluation.predictions import MODELS
from amalgam.review.outputs import Outputs

TEST = "test"  # the set of the task itself
_FEWEST = 5  # rows of a second label below which an interval says nothing


def find_obstacle(old: Outputs, new: Outputs, name: str = TEST) -> str:
    """Say why the rows of a set cannot be compared; empty where they can."""
    if old.labels != new.labels:
        return "the labels are not the same"
    first, second = (outputs.rows[name].set_index("id") for outputs in (old, new))
    shared = first.index.intersection(second.index)
    if not len(shared):
        return f"none of the {len(second)} test rows was one of the {len(first)} before"
    for column in ("text", "label"):
        if differing := int((first.loc[shared, column] != second.loc[shared, column]).sum()):
            return f"{differing} of {len(shared)} test rows with the same id have another {column}"
    counts = first.loc[shared, "label"].value_counts().reindex(old.labels, fill_value=0)
    if sorted(counts)[-2] < _FEWEST:
        return f"the {len(shared)} test rows that both have hold fewer than {_FEWEST} of a second label"
    return ""


def share_rows(old: Outputs, new: Outputs, name: str = TEST) -> pd.DataFrame:
    """Return the newer revision's rows that the older one has as well.

    They are in order of their ids, not of the file, so that the same rows give the same resamples.
    """
    rows = new.rows[name]
    return rows[rows["id"].isin(old.rows[name]["id"])].sort_values("id", ignore_index=True)


def list_models(outputs: Outputs, name: str = TEST) -> list[str]:
    """List the models with predictions for a set, in the order in which they are shown."""
    found = set(outputs.table.loc[outputs.table["set"] == name, "model"])
    return [model for model in MODELS if model in found]


def stack_pair(old: Outputs, new: Outputs, model: str, ids: list[str], name: str = TEST) -> tuple[Floats, Floats]:
    """Return a model's probabilities [s seeds, n rows, k labels] in both revisions, paired by seed.

    Raises:
        DataError: it has not exactly one prediction for each row and seed.
    """
    parts = [_select_model(outputs, name, model) for outputs in (old, new)]
    pairs = pair_seeds(*(sorted(part["seed"].unique()) for part in parts))
    first, second = (
        np.stack([_order_rows(part[part["seed"] == pair[side]], model, name, ids, new.labels) for pair in pairs])
        for side, part in enumerate(parts)
    )
    return first, second


def pair_seeds(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, int]]:
    """Pair each seed with itself where both have it, the others by position; what is left over is left out."""
    shared = sorted(set(old) & set(new))
    others = zip(sorted(set(old) - set(shared)), sorted(set(new) - set(shared)), strict=False)
    return [*((seed, seed) for seed in shared), *others]


def _select_model(outputs: Outputs, name: str, model: str) -> pd.DataFrame:
    return outputs.table[(outputs.table["set"] == name) & (outputs.table["model"] == model)]


def _order_rows(part: pd.DataFrame, model: str, name: str, ids: list[str], labels: list[str]) -> Floats:
    ordered = part[part["id"].isin(ids)].set_index("id")
    if sorted(ordered.index) != sorted(ids):
        raise DataError(
            f"the predictions of {model} are not for the rows of data/prepared/{name}.csv: "
            "run `dvc repro` to make them again"
        )
    return ordered.loc[ids, [f"p_{label}" for label in labels]].to_numpy(dtype=np.float64)
