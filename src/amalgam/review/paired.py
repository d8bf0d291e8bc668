"""Two revisions' models on the test rows that both have: paired differences, and which are more than chance.

- Differences are means over seeds on the same rows, with the intervals of `amalgam.evaluation.bootstrap`.
- One measure is primary, the AUC of the student that ships: it was chosen before anyone looked, so its p-value stands
  alone. Those of all others are corrected together by Holm's method (Holm, 1979), which holds however they depend on
  each other.
- Models whose predictions are the same pose no question, and are not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from amalgam.evaluation.bootstrap import (
    WITHOUT_DIFFERENCE,
    Resamples,
    draw_resamples,
    estimate_metrics,
    find_interval,
    find_p_value,
    subtract_estimates,
)
from amalgam.evaluation.compare import encode_groups, encode_labels
from amalgam.evaluation.metrics import Floats, Ints
from amalgam.params import Evaluation
from amalgam.review.flips import Flip, find_flips
from amalgam.review.matching import TEST, find_obstacle, list_models, share_rows, stack_pair
from amalgam.review.outputs import Outputs

PRIMARY = "student.auc"
_LESS_IS_BETTER = frozenset({"brier"})


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of both revisions, and the paired difference `new - old` with its interval.

    Attributes:
        measure: the model and its metric, as in `student.auc`.
        old: the older revision's value, over the rows and seeds that both have.
        new: the newer one's.
        change: the difference.
        low: the lower end of its interval, which stands for itself.
        high: the upper end.
        p: the p-value, for itself.
        corrected: the p-value after correction.
        outcome: by the corrected p-value, `better`, `worse` or `unclear`.
        seeds: how many were compared; 1 for a method without seeds.
    """

    measure: str
    old: float
    new: float
    change: float
    low: float
    high: float
    p: float
    corrected: float
    outcome: str
    seeds: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the models of two revisions say of the same test rows.

    Attributes:
        rows: number of test rows that were compared.
        old_rows: number of those that the older revision has.
        new_rows: number of those that the newer one has.
        differences: the primary measure first.
        unchanged: the models whose predictions are the same.
        left_out: the models that only one revision has.
        flips: rows on which the student turned from right to wrong or back.
    """

    rows: int
    old_rows: int
    new_rows: int
    differences: list[Difference]
    unchanged: list[str]
    left_out: list[str]
    flips: list[Flip]

    @property
    def primary(self) -> Difference | None:
        """The measure on which the verdict rests; None where the student's predictions are the same."""
        return next((difference for difference in self.differences if difference.measure == PRIMARY), None)


def compare_outputs(old: Outputs, new: Outputs, params: Evaluation, *, ordinal: bool) -> Comparison:
    """Compare all models on the rows that both revisions have; `find_obstacle` must find none for the test set.

    Raises:
        DataError: a model has not exactly one prediction for each row and seed.
    """
    differences: list[Difference] = []
    unchanged: list[str] = []
    for name in [TEST, *sorted((old.rows.keys() & new.rows.keys()) - {TEST})]:
        if find_obstacle(old, new, name):
            continue
        rows = share_rows(old, new, name)
        actual = encode_labels(rows, new.labels, f"data/prepared/{name}.csv")
        resamples = draw_resamples(actual, encode_groups(rows))
        for model in (model for model in list_models(new, name) if model in list_models(old, name)):
            title = model if name == TEST else f"{name}.{model}"
            stacks = stack_pair(old, new, model, list(rows["id"]), name)
            if np.array_equal(*stacks):
                unchanged.append(title)
            else:
                differences += _subtract_model(title, actual, stacks, resamples, params.confidence, ordinal)
    rows = share_rows(old, new)
    return Comparison(
        rows=len(rows),
        old_rows=len(old.rows[TEST]),
        new_rows=len(new.rows[TEST]),
        differences=correct_differences(differences, params.confidence),
        unchanged=unchanged,
        left_out=sorted(set(list_models(old)) ^ set(list_models(new))),
        flips=find_flips(rows, *stack_pair(old, new, "student", list(rows["id"])), new.labels),
    )


def correct_differences(differences: Sequence[Difference], confidence: float) -> list[Difference]:
    """Put the primary measure first, correct the p-values of all others, and say what each difference is."""
    primary = [one for one in differences if one.measure == PRIMARY]
    others = [one for one in differences if one.measure != PRIMARY]
    corrected = [one.p for one in primary] + correct_p_values([one.p for one in others])
    return [
        replace(one, corrected=round(p, 6), outcome=_name_outcome(one, p < 1 - confidence))
        for one, p in zip(primary + others, corrected, strict=True)
    ]


def correct_p_values(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's method."""
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected


def _subtract_model(
    title: str, actual: Ints, stacks: tuple[Floats, Floats], resamples: Resamples, confidence: float, ordinal: bool
) -> list[Difference]:
    old, new = (estimate_metrics(actual, stack, resamples, ordinal=ordinal) for stack in stacks)
    differences = []
    for metric, change in subtract_estimates(
        new, old, [name for name in new if name not in WITHOUT_DIFFERENCE]
    ).items():
        low, high = find_interval(change, confidence)
        difference = Difference(
            measure=f"{title}.{metric}",
            old=round(old[metric].value, 6),
            new=round(new[metric].value, 6),
            change=round(change.value, 6),
            low=round(low, 6),
            high=round(high, 6),
            p=round(find_p_value(change), 6),
            corrected=1.0,
            outcome="unclear",
            seeds=len(change.points),
        )
        differences.append(difference)
    return differences


def _name_outcome(difference: Difference, is_clear: bool) -> str:
    if not is_clear or not difference.change:
        return "unclear"
    gains = (difference.change > 0) != (difference.measure.rpartition(".")[2] in _LESS_IS_BETTER)
    return "better" if gains else "worse"
