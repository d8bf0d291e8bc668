"""By period: the models on the test rows of each stretch of time."""

from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import draw_resamples, summarise_estimates
from amalgam.evaluation.metrics import Floats, Ints
from amalgam.evaluation.slices import MODELS, estimate_slice, is_small, keep_defined, list_parts
from amalgam.params import Evaluation
from amalgam.tasks.texts import parse_times

_MOST = 12  # periods; more are no longer read
_UNITS = {"day": "%Y-%m-%d", "month": "%Y-%m", "quarter": "", "year": "%Y"}


def measure_periods(
    rows: pd.DataFrame,
    actual: Ints,
    units: Ints | None,
    stacks: dict[str, Floats],
    params: Evaluation,
    *,
    ordinal: bool,
) -> dict[str, Any]:
    """Measure teacher and student on the test rows of each period, in order of time.

    Args:
        rows: the test rows [n], perhaps with a column `time`; a row without a time is in no period.
        actual: class index of each row [n].
        units: group index of each row [n], whose rows depend on each other, or None.
        stacks: by model, probabilities [s seeds, n rows, k classes].
        params: seed, resamples and confidence.
        ordinal: whether the classes have an order.

    Returns:
        By period and model, metrics with intervals; a period with too few rows has `small: 1` and no metrics. Empty
        where the task names no date.

    Raises:
        DataError: a time is no date.
    """
    if "time" not in rows or not (rows["time"] != "").any():
        return {}
    names = name_periods(parse_times(rows)).to_numpy()
    rng = np.random.default_rng(params.seed)
    resamples = draw_resamples(actual, units, resamples=params.resamples, rng=rng)
    found: dict[str, Any] = {}
    for name in list_parts(names):
        member = names == name
        small = is_small(actual, member, next(iter(stacks.values())).shape[2])
        found[name] = {"rows": int(member.sum()), "small": int(small)}
        for model in () if small else MODELS:
            part = estimate_slice(actual, units, stacks[model], member, resamples, ordinal=ordinal)
            found[name][model] = summarise_estimates(keep_defined(part), params.confidence)
    return found


def name_periods(times: "pd.Series[pd.Timestamp]") -> "pd.Series[str]":
    """Name the day, month, quarter or year of each time, the shortest of which there are at most twelve."""
    for unit, form in _UNITS.items():
        named = _name_quarters(times) if unit == "quarter" else times.dt.strftime(form)
        if named.nunique() <= _MOST:
            break
    return named.fillna("")


def _name_quarters(times: "pd.Series[pd.Timestamp]") -> "pd.Series[str]":
    return (times.dt.strftime("%Y-Q") + times.dt.quarter.astype("Int64").astype("string")).where(times.notna())
