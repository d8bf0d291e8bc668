"""Compare two revisions' models on the test rows that both have.

- Differences are means over seeds on the same rows, with the intervals of `amalgam.evaluation.bootstrap`.
- One measure is primary, the AUC of the student that ships. It was chosen before anyone looked, so its p-value is not
  corrected. The p-values of all others are corrected together by Holm's method.
- Models whose predictions are the same are not tested, and not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from amalgam.dvc import Notify, find_file
from amalgam.evaluation import bootstrap
from amalgam.evaluation.bootstrap import WITHOUT_INTERVAL, Estimate, encode_groups, encode_labels, estimate_models
from amalgam.evaluation.metrics import Floats, Ints
from amalgam.evaluation.predictions import read_predictions, stack_predictions
from amalgam.files import read_rows
from amalgam.review.revisions import PRIMARY, STUDENT, STUDENT_INT8, Revision

if TYPE_CHECKING:
    from dvc.repo import Repo

TEST = "test"  # the set of the task itself
_FEWEST = 5  # rows of a second label that an interval needs to mean anything


@dataclass(frozen=True, slots=True)
class Outputs:
    """A revision's predictions and the rows that they are for."""

    labels: list[str]  # in the task's order
    table: pd.DataFrame  # see `amalgam.evaluation.predictions`; `student` is the form that ships
    rows: dict[str, pd.DataFrame]  # by set (`test`, perhaps `transfer_test`), with their labels


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of both revisions over the rows and seeds that both have, and their paired difference."""

    measure: str  # the model and its metric, as in `student.auc`
    seeds: int  # number of seeds compared; 1 for a method without seeds
    outcome: str  # by the corrected p-value: `better`, `worse` or `unclear`
    old: float
    new: float
    change: float  # new - old
    low: float  # of the interval, which is not corrected
    high: float
    p: float
    corrected: float  # the p-value, corrected


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the models of two revisions differ on the same test rows."""

    rows: int  # number of rows compared
    old_rows: int  # rows of the older revision
    new_rows: int
    differences: list[Difference]  # the primary one first; if it is missing, the student's predictions are the same
    unchanged: list[str]  # models whose predictions are the same
    left_out: list[str]  # models that only one revision has
    flips: list[dict[str, Any]]  # see `list_flips`

    @property
    def primary(self) -> Difference | None:
        """The difference on which the verdict rests."""
        return next((one for one in self.differences if one.measure == PRIMARY), None)


def read_outputs(repo: "Repo", revision: Revision, notify: Notify) -> Outputs | None:
    """Read the predictions and their rows from DVC's cache or its remote; None if they are in neither."""
    title = f"the test rows and predictions of {revision.name}"
    found = find_file(repo, revision.find_output("data/predictions"), "predictions.csv", title, notify)
    if found is None:
        return None
    labels = [name.removeprefix("p_") for name in pd.read_csv(found, nrows=0).columns[4:]]
    table = read_predictions(found, labels)
    table = table[~table["model"].isin({STUDENT, STUDENT_INT8} - {revision.student})]
    rows = {}
    for name in (name for name in (TEST, "transfer_test") if (table["set"] == name).any()):
        path = find_file(repo, revision.find_output("data/prepared"), f"{name}.csv", title, notify)
        if path is None:
            return None
        rows[name] = read_rows(path)
    return Outputs(labels, table.replace({"model": {STUDENT_INT8: STUDENT}}), rows)


def find_obstacle(old: Outputs, new: Outputs, name: str = TEST) -> str:
    """Return why the rows of a set cannot be compared; empty if they can."""
    if old.labels != new.labels:
        return "the labels are not the same"
    first, second = (outputs.rows[name].set_index("id") for outputs in (old, new))
    shared = first.index.intersection(second.index)
    if not len(shared):
        return f"none of the {len(second)} test rows was among the {len(first)} before"
    for column in ("text", "label"):
        if differing := int((first.loc[shared, column] != second.loc[shared, column]).sum()):
            return f"{differing} of {len(shared)} test rows with the same id have a different {column}"
    counts = first.loc[shared, "label"].value_counts().reindex(old.labels, fill_value=0)
    if sorted(counts)[-2] < _FEWEST:
        return f"the {len(shared)} test rows that both have include fewer than {_FEWEST} of a second label"
    return ""


def compare_outputs(old: Outputs, new: Outputs, confidence: float, *, ordinal: bool) -> Comparison:
    """Compare all models on the rows that both revisions have; `find_obstacle` must find none for the test set."""
    measured: dict[str, tuple[float, float, Estimate]] = {}  # by measure: the older value, the newer one, the change
    unchanged: list[str] = []
    flips: list[dict[str, Any]] = []
    shared = 0
    for name in [TEST, *sorted((old.rows.keys() & new.rows.keys()) - {TEST})]:
        if find_obstacle(old, new, name):
            continue
        # The newer revision's rows that the older one has too, by id: equal rows give equal resamples.
        rows = new.rows[name][new.rows[name]["id"].isin(old.rows[name]["id"])].sort_values("id", ignore_index=True)
        actual, groups = encode_labels(rows, new.labels, f"data/prepared/{name}.csv"), encode_groups(rows)
        pairs = _stack_pairs(old, new, list(rows["id"]), name)
        changed = {model: pair for model, pair in pairs.items() if not np.array_equal(*pair)}
        prefix = "" if name == TEST else f"{name}."
        unchanged += [prefix + model for model in pairs if model not in changed]
        before, after = (
            estimate_models(actual, groups, {model: pair[side] for model, pair in changed.items()}, ordinal=ordinal)
            for side in (0, 1)
        )
        for model, metrics in after.items():
            for metric, second in metrics.items():
                if metric not in WITHOUT_INTERVAL:
                    first = before[model][metric]
                    change = bootstrap.subtract(second, first)
                    measured[f"{prefix}{model}.{metric}"] = first.value, second.value, change
        if name == TEST:
            shared, flips = len(rows), list_flips(rows, actual, *pairs[STUDENT], new.labels)
    models = [set(outputs.table.loc[outputs.table["set"] == TEST, "model"]) for outputs in (old, new)]
    return Comparison(
        rows=shared,
        old_rows=len(old.rows[TEST]),
        new_rows=len(new.rows[TEST]),
        differences=_list_differences(measured, confidence),
        unchanged=unchanged,
        left_out=sorted(models[0] ^ models[1]),
        flips=flips,
    )


def _stack_pairs(old: Outputs, new: Outputs, ids: list[str], name: str) -> dict[str, tuple[Floats, Floats]]:
    """Return the probabilities [s seeds, n rows, k labels] of both revisions, paired by seed, for each common model."""
    tables = [outputs.table[(outputs.table["set"] == name) & outputs.table["id"].isin(ids)] for outputs in (old, new)]
    before, after = (stack_predictions(table, name, ids, new.labels) for table in tables)
    pairs = {}
    for model in (model for model in after if model in before):
        first, second = (sorted(table.loc[table["model"] == model, "seed"].unique()) for table in tables)
        ours, theirs = pair_seeds(first, second)
        pairs[model] = before[model][list(map(first.index, ours))], after[model][list(map(second.index, theirs))]
    return pairs


def pair_seeds(old: Sequence[int], new: Sequence[int]) -> tuple[list[int], list[int]]:
    """Pair each seed with itself where both have it, the others by position; the rest is left out."""
    shared = sorted({*old} & {*new})
    count = min(len(old), len(new))
    first, second = ([*shared, *sorted({*seeds} - {*shared})][:count] for seeds in (old, new))
    return first, second


def list_flips(rows: pd.DataFrame, actual: Ints, old: Floats, new: Floats, labels: list[str]) -> list[dict[str, Any]]:
    """List the rows [n] that the student of one revision gets right and the other wrong, by majority over seeds.

    The probabilities are [s seeds, n rows, k labels]. Each flip has the row's id, text, question and label, the labels
    that the revisions predict (`old`, `new`) and their probabilities of the row's own label, means over seeds
    (`old_probability`, `new_probability`). The largest change of probability comes first.
    """
    votes, own = [], []
    for stack in (old, new):
        counts, means = np.eye(stack.shape[2])[stack.argmax(axis=2)].sum(axis=0), stack.mean(axis=0)
        votes.append((counts + means / 2).argmax(axis=1))  # among labels with equally many seeds, the likelier one
        own.append(np.round(means[np.arange(len(actual)), actual], 4))
    names = np.array(labels, dtype=object)
    found = rows[["id", "text", "question", "label"]].assign(
        old=names[votes[0]], new=names[votes[1]], old_probability=own[0], new_probability=own[1]
    )
    flips = found[(votes[0] == actual) != (votes[1] == actual)].to_dict("records")
    return sorted(flips, key=lambda flip: (-abs(flip["new_probability"] - flip["old_probability"]), flip["id"]))


def _list_differences(measured: dict[str, tuple[float, float, Estimate]], confidence: float) -> list[Difference]:
    """List the differences by measure, the primary one first."""
    names = sorted(measured, key=lambda name: name != PRIMARY)
    p_values = [round(bootstrap.find_p_value(measured[name][2]), 6) for name in names]
    kept = int(PRIMARY in measured)
    corrected = [*p_values[:kept], *bootstrap.correct_p_values(p_values[kept:])]
    differences = []
    for name, p, adjusted in zip(names, p_values, corrected, strict=True):
        old, new, change = measured[name]
        moved, ends = round(change.value, 6), bootstrap.find_interval(change, confidence)
        gains = (moved > 0) != name.endswith(".brier")
        outcome = "unclear" if adjusted >= 1 - confidence or not moved else "better" if gains else "worse"
        numbers = (round(number, 6) for number in (old, new, moved, *ends, p, adjusted))
        differences.append(Difference(name, len(change.points), outcome, *numbers))
    return differences
