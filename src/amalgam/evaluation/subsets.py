"""Metrics of parts of the test rows: subgroups, periods, rows the student labels alone, rows several people rated."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import (
    SEED,
    Estimate,
    Resamples,
    draw_resamples,
    estimate_metrics,
    subtract,
    summarise_estimates,
)
from amalgam.evaluation.metrics import Bools, Floats, Ints, divide
from amalgam.files import SUBGROUP
from amalgam.shipping.onnx import decide
from amalgam.tasks.schema import LEAVE_OUT
from amalgam.tasks.texts import count_independent, parse_times
from amalgam.training.checkpoint import compute_softmax

_MODELS = ("teacher", "student")
_SHOWN = ("auc", "accuracy", "kappa", "quadratic_kappa", "fpr")
_AGREEMENT = ("accuracy", "kappa", "quadratic_kappa")
_FEWEST = 10  # rows of each label; with fewer, an interval is uninformative
_SHUFFLES = 500
_MOST_PERIODS = 12  # nobody reads more
_SMALLEST = 1e-12  # smallest probability whose logarithm is taken


@dataclass(frozen=True)
class CodedRows:
    """A set of human-coded rows, and the models' predictions for them."""

    rows: pd.DataFrame  # the table [n]
    actual: Ints  # class index of each row [n]
    groups: Ints | None  # group index of each row [n]; None where rows are independent
    stacks: dict[str, Floats]  # by model, probabilities [s seeds, n rows, k classes]
    ordinal: bool  # whether the classes have an order


def measure_subgroups(coded: CodedRows, confidence: float) -> dict[str, Any]:
    """Measure every subgroup of the columns `subgroup_…`, by column, subgroup and model; empty cells are skipped.

    `auc_minus_rest`, `fpr_minus_rest` and `abroca` compare with all other non-empty rows. ABROCA stays below
    `abroca_chance` by chance, at the confidence. A subgroup with too few rows has `small: 1` and no metrics.
    """
    return {
        str(name).removeprefix(SUBGROUP): _measure_parts(coded, cells, confidence, compared=True)
        for name, cells in coded.rows.filter(regex=f"^{SUBGROUP}").items()
    }


def measure_periods(coded: CodedRows, confidence: float) -> dict[str, Any]:
    """Measure every period of the column `time`, in order of time, as subgroups; DataError if a time is not a date."""
    if "time" not in coded.rows or not (coded.rows["time"] != "").any():
        return {}
    return _measure_parts(coded, name_periods(parse_times(coded.rows)), confidence, compared=False)


def name_periods(times: "pd.Series[pd.Timestamp]") -> "pd.Series[str]":
    """Name the day, month, quarter or year of each time: the shortest unit with at most twelve periods, or years."""
    for unit in ("%Y-%m-%d", "%Y-%m", "%Y-Q", "%Y"):
        named = times.dt.strftime(unit)
        if unit.endswith("Q"):
            named += times.dt.quarter.astype("Int64").astype("string")
        if named.nunique() <= _MOST_PERIODS:
            break
    return named.fillna("")


def _measure_parts(
    coded: CodedRows, column: "pd.Series[str]", confidence: float, *, compared: bool
) -> dict[str, dict[str, Any]]:
    """Measure the rows of each cell value, if `compared` also against all other values; empty cells are skipped."""
    cells = column.to_numpy()
    resamples = draw_resamples(coded.actual, coded.groups)
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(set(cells) - {""}):
        member, rest = cells == name, (cells != name) & (cells != "")
        small = _is_small(coded, member)
        found[name] = {"rows": int(member.sum()), "small": int(small)}
        for model in () if small else _MODELS:
            values = part = _estimate_part(coded, model, member, resamples)
            curves: dict[str, float] = {}
            if compared and not _is_small(coded, rest):
                others = _estimate_part(coded, model, rest, resamples)
                pairs = {metric: (part[metric], others[metric]) for metric in ("auc", "fpr")}
                changes = {f"{name}_minus_rest": replace(subtract(*pair), sides=pair) for name, pair in pairs.items()}
                values, curves = part | changes, _compare_curves(coded, model, member, member | rest, confidence)
            found[name][model] = summarise_estimates(values, confidence) | curves
    return found


def _is_small(coded: CodedRows, member: Bools) -> bool:
    """Whether a part of the rows [n] has too few rows of some label to say anything about it."""
    classes = next(iter(coded.stacks.values())).shape[2]
    return int(np.bincount(coded.actual[member], minlength=classes).min()) < _FEWEST


def _estimate_part(coded: CodedRows, model: str, member: Bools, resamples: Resamples) -> dict[str, Estimate]:
    units = np.arange(len(coded.actual)) if coded.groups is None else coded.groups
    part = Resamples(resamples.rows[:, member], count_independent(units[member]))
    stack = coded.stacks[model][:, member]
    return estimate_metrics(coded.actual[member], stack, part, ordinal=coded.ordinal, names=_SHOWN)


def _compare_curves(coded: CodedRows, model: str, member: Bools, known: Bools, confidence: float) -> dict[str, float]:
    """Return ABROCA, and the value that it stays below if the groups are drawn by chance (Ernst, 2004)."""
    actual, stack, member = coded.actual[known], coded.stacks[model][:, known], member[known]
    units = None if coded.groups is None else np.unique(coded.groups[known], return_inverse=True)[1]
    shuffled = shuffle_members(actual, member, units, times=_SHUFFLES, rng=np.random.default_rng(SEED))
    area, *chance = measure_abroca(actual, stack, np.concatenate([member[None], shuffled]))
    values = {"abroca": area, "abroca_chance": np.nanquantile(chance, confidence)}
    return {name: round(float(value), 4) for name, value in values.items() if np.isfinite(value)}


def shuffle_members(actual: Ints, member: Bools, units: Ints | None, *, times: int, rng: np.random.Generator) -> Bools:
    """Draw random divisions [times, n] of the rows, independent of the model's scores.

    Membership is shuffled among rows of the same label; or among units of rows that depend on each other (say, the
    answers of one person), if each belongs to one group as a whole.
    """
    if units is not None:
        shares = np.bincount(units, weights=member) / np.maximum(np.bincount(units), 1)
        if np.isin(shares, (0, 1)).all():
            return np.stack([rng.permutation(shares == 1)[units] for _ in range(times)])
    drawn = np.tile(member, (times, 1))
    for index in np.unique(actual):
        rows = np.flatnonzero(actual == index)
        drawn[:, rows] = rng.permuted(drawn[:, rows], axis=1)
    return drawn


def measure_abroca(actual: Ints, stack: Floats, members: Bools) -> Floats:
    """Return ABROCA [r], the area between the ROC curves of two groups of rows (Gardner, Brooks and Baker, 2019).

    It is the mean over seeds and, with more than two classes, over each class against the rest; NaN if a group lacks
    positive or negative rows. `members` says which rows belong to the first group [r ways to divide them, n].
    """
    classes = stack.shape[2]
    positives = [classes - 1] if classes == 2 else range(classes)
    areas = [_measure_areas(actual == index, seed[:, index], members) for seed in stack for index in positives]
    return np.asarray(np.mean(areas, axis=0))


def _measure_areas(positive: Bools, scores: Floats, members: Bools) -> Floats:
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))  # the last row of each run of equal scores

    def trace(rows: Bools) -> Floats:
        """Return the share of the rows [r, n] with at least each score, NaN if there are none."""
        counts = np.pad(rows[:, order].cumsum(axis=1)[:, ends], ((0, 0), (1, 0))).astype(np.float64)
        return divide(counts, counts[:, -1:])

    curves = [(trace(part & ~positive), trace(part & positive)) for part in (members, ~members)]
    # Rotated by 45 degrees and stretched, a curve has no jumps.
    turned = [np.stack([fpr + tpr, tpr - fpr], axis=1) for fpr, tpr in curves]
    return np.array([_integrate(one, other) for one, other in zip(*turned, strict=True)])


def _integrate(one: Floats, other: Floats) -> float:
    """Return the exact area between two piecewise linear curves [2, points], as it was before they were rotated."""
    if not np.isfinite([one[:, -1], other[:, -1]]).all():
        return float("nan")
    knots = np.unique(np.concatenate([one[0], other[0]]))
    gaps = np.interp(knots, *one) - np.interp(knots, *other)
    left, right = gaps[:-1], gaps[1:]
    both = np.abs(left) + np.abs(right)
    means = np.where(left * right >= 0, both, divide(left**2 + right**2, both, 0.0)) / 2
    return float((np.diff(knots) * means).sum() / 2)


def measure_selective(
    actual: Ints, groups: Ints | None, probabilities: Floats, calibration: Mapping[str, Any], confidence: float
) -> dict[str, float]:
    """Return rows, `coverage` (the share of them that needs no human), and `agreement` with coders on that share.

    The agreement is left out if every row needs a human. The thresholds were not chosen on the test rows, so the
    figures hold for new rows like them. Terms are as in Geifman and El-Yaniv (2017, arXiv 1705.08500); agreement is
    their selective accuracy.

    `probabilities` [n rows, k classes] are those of the student that ships, at temperature 1; `calibration` has the
    fields of `amalgam.shipping.calibration.Calibration`.
    """
    scaled = compute_softmax(np.log(np.maximum(probabilities, _SMALLEST)), calibration["temperature"])
    chosen, certainty = decide(scaled, calibration["threshold"])
    alone = certainty >= calibration["ask_below"]
    right = alone & (chosen == actual)
    resamples = draw_resamples(np.zeros_like(actual), groups)  # a label may be missing: neither share needs it
    found = {"coverage": _estimate_share(alone, np.ones_like(alone), resamples.rows, resamples.independent)}
    if alone.any():
        independent = count_independent(np.arange(alone.sum()) if groups is None else groups[alone])
        # If a model labels every row, that is no chance; if it is right about every row, it may be.
        found["agreement"] = replace(_estimate_share(right, alone, resamples.rows, independent), decisive=independent)
    shares = summarise_estimates(found, confidence)
    return {"rows": len(actual), "ask_below": round(calibration["ask_below"], 4), **shares}


def _estimate_share(hits: Bools, of: Bools, weights: Floats, independent: float) -> Estimate:
    """Estimate the share of hits among the rows `of` [n], for one seed; a resample without such rows gets the share."""
    point = hits.sum() / of.sum()
    drawn = divide(weights @ hits, weights @ of, point)
    return Estimate(np.array([point]), drawn[:, None], independent, (0.0, 1.0))


def measure_ceiling(coded: CodedRows, labels: list[str], confidence: float) -> dict[str, float]:
    """Return rows, raters (columns rater1, rater2, …), and the agreement of two raters, averaged over pairs.

    Rows that not all raters rated are left out. A rating that is not a label is a category of its own; for ordinal
    labels, it has no place in the order, so its row is left out. Empty if no row has a rating of every rater.
    """
    cells = coded.rows.filter(regex=r"^rater\d+$")
    known = cells.isin(labels) if coded.ordinal else (cells != "") & (cells != LEAVE_OUT)
    rated = known.all(axis=1).to_numpy()
    if cells.shape[1] < 2 or not rated.any():
        return {}
    kept = cells[rated]
    categories = [*labels, *sorted(set(kept.to_numpy().ravel()) - set(labels))]
    codes = [kept[rater].map(categories.index).to_numpy() for rater in kept]
    units = None if coded.groups is None else np.unique(coded.groups[rated], return_inverse=True)[1]
    resamples = draw_resamples(np.zeros(len(kept), dtype=np.int64), units)  # agreement needs no label in particular
    pairs = [
        estimate_metrics(one, np.eye(len(categories))[other][None], resamples, ordinal=coded.ordinal, names=_AGREEMENT)
        for one, other in combinations(codes, 2)
    ]
    estimates = {}
    for name, estimate in pairs[0].items():
        points = np.mean([pair[name].points for pair in pairs], axis=0)
        drawn = np.mean([pair[name].resampled for pair in pairs], axis=0)
        # If all ratings are of one category, kappa is undefined: the raters agree.
        estimates[name] = replace(estimate, points=points, resampled=np.nan_to_num(drawn, nan=1.0))
    return {"rows": len(kept), "raters": cells.shape[1], **summarise_estimates(estimates, confidence)}
