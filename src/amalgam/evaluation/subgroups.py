"""For whom: the models on each subgroup of the test rows, beside all other rows."""

from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.abroca import Bools, measure_abroca, shuffle_members
from amalgam.evaluation.bootstrap import Resamples, draw_resamples, subtract_estimates, summarise_estimates
from amalgam.evaluation.metrics import Floats, Ints
from amalgam.evaluation.slices import MODELS, estimate_slice, is_small, keep_defined, list_parts
from amalgam.params import Evaluation
from amalgam.rows import SUBGROUP

_SHUFFLES = 500  # enough for a p-value of 0.002
_COMPARED = ("auc", "fpr")


def measure_subgroups(
    rows: pd.DataFrame,
    actual: Ints,
    units: Ints | None,
    stacks: dict[str, Floats],
    params: Evaluation,
    *,
    ordinal: bool,
) -> dict[str, Any]:
    """Measure teacher and student on every subgroup that the task names.

    Args:
        rows: the test rows [n]; the columns `subgroup_…` name the subgroups, and a row with an empty cell is in none.
        actual: class index of each row [n].
        units: group index of each row [n], whose rows depend on each other, or None.
        stacks: by model, probabilities [s seeds, n rows, k classes].
        params: seed, resamples and confidence.
        ordinal: whether the classes have an order.

    Returns:
        By column, subgroup and model: metrics with intervals, `auc_minus_rest` and `fpr_minus_rest` with intervals,
        and ABROCA (`abroca`) against all other rows with its p-value and the value below which chance alone would
        leave it, at the confidence of the intervals. A subgroup with too few rows has `small: 1` and no metrics.
    """
    names = [str(name) for name in rows if str(name).startswith(SUBGROUP)]
    if not names:
        return {}
    rng = np.random.default_rng(params.seed)
    resamples = draw_resamples(actual, units, resamples=params.resamples, rng=rng)
    found: dict[str, Any] = {}
    for name in names:
        cells = rows[name].to_numpy()
        found[name.removeprefix(SUBGROUP)] = {
            part: _measure_subgroup(actual, cells == part, cells != "", units, stacks, resamples, params, ordinal)
            for part in list_parts(cells)
        }
    return found


def _measure_subgroup(
    actual: Ints,
    member: Bools,
    known: Bools,
    units: Ints | None,
    stacks: dict[str, Floats],
    resamples: Resamples,
    params: Evaluation,
    ordinal: bool,
) -> dict[str, Any]:
    classes, rest = next(iter(stacks.values())).shape[2], known & ~member
    small = is_small(actual, member, classes)
    measured: dict[str, Any] = {"rows": int(member.sum()), "small": int(small)}
    for model in () if small else MODELS:
        part = estimate_slice(actual, units, stacks[model], member, resamples, ordinal=ordinal)
        measured[model] = summarise_estimates(keep_defined(part), params.confidence)
        if not is_small(actual, rest, classes):
            others = estimate_slice(actual, units, stacks[model], rest, resamples, ordinal=ordinal)
            differences = subtract_estimates(part, others, _COMPARED)
            named = {f"{name}_minus_rest": difference for name, difference in differences.items()}
            measured[model] |= summarise_estimates(keep_defined(named), params.confidence)
            chosen = None if units is None else np.unique(units[known], return_inverse=True)[1]
            measured[model] |= _test_abroca(actual[known], member[known], chosen, stacks[model][:, known], params)
    return measured


def _test_abroca(
    actual: Ints, member: Bools, units: Ints | None, stack: Floats, params: Evaluation
) -> dict[str, float]:
    """Return ABROCA, what chance would leave it below, and how often chance makes it as large (Ernst, 2004)."""
    rng = np.random.default_rng(params.seed)
    area = float(measure_abroca(actual, stack, member[None])[0])
    chance = measure_abroca(actual, stack, shuffle_members(actual, member, units, times=_SHUFFLES, rng=rng))
    chance = chance[np.isfinite(chance)]
    if not len(chance):
        return {"abroca": round(area, 4)}
    p = (1 + (chance >= area - 1e-12).sum()) / (1 + len(chance))
    return {
        "abroca": round(area, 4),
        "abroca_chance": round(float(np.quantile(chance, params.confidence)), 4),
        "abroca_p": round(float(p), 4),
    }
