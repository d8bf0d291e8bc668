"""Choose temperature, decision and deferral thresholds by human-coded rows outside the test set.

A project may have ten validation rows, so each departure from the model's own probabilities needs evidence. Where the
validation rows show no agreement, cross-validation says which share of the rows needs no human. Where that shows none
either, every row needs a human. The validation rows chose the checkpoint too, so the student may do a little worse on
new rows.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from amalgam.shipping.onnx import Floats, Ints, compute_probabilities, decide
from amalgam.tasks.texts import count_independent

_MIN_TEXTS = 50  # a quantile of fewer is not known to about seven points
_MAX_ROWS = 100_000  # more than anyone would code
_MAX_TEMPERATURE = 20.0
_MAX_FOLDS = 20
_DECISIONS = np.round(np.arange(0.1, 0.91, 0.05), 2)
# Confidence that cross-validation has to reach. With it, the agreement on test rows lies below the one wanted, with its
# whole interval, in fewer than one setting of twenty (docs/findings.md). With 0.95 almost every row would need a human.
_CONFIDENCE = 0.8
_EVERY_ROW = 2.0  # above every probability

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How probabilities become decisions.

    Attributes:
        temperature: divides the logits; 1 leaves them.
        threshold: of two labels, the probability from which the last one is chosen; None chooses the likelier one.
        ask_below: a row needs a human if its label has less than this probability; above 1 every row does.
        guaranteed: whether validation rows show the agreement above `ask_below`.
        sentence: the evidence, for the card.
    """

    temperature: float
    threshold: float | None
    ask_below: float
    guaranteed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Human-coded rows with the labels of a model that did not learn them; each array is [rows].

    Attributes:
        certainty: probability of the model's label.
        right: whether it is the coders' label.
        units: number of the group of dependent rows, such as those of one person.
    """

    certainty: Floats
    right: Bools
    units: Ints


def calibrate(
    logits: Floats,
    labels: Ints,
    units: Ints,
    out_of_fold: Judged,
    uncoded: Floats,
    *,
    agreement: float,
    confidence: float,
) -> Calibration:
    """Calibrate by the validation rows, of which there may be none, or else by cross-validation.

    Args:
        logits: [rows, classes] of the shipped model for the validation rows.
        labels: class index of each row, by human coders.
        units: number of the group of dependent rows [rows].
        out_of_fold: human-coded rows labelled by teachers of the other folds, perhaps none.
        uncoded: logits [texts, classes] of the shipped model for texts without a label.
        agreement: wanted share of rows without a human on which model and coders agree.
        confidence: of each conclusion.
    """
    temperature = find_temperature(logits, labels, confidence)
    probabilities = compute_probabilities(logits, temperature)
    threshold = find_decision(probabilities[:, 1], labels, confidence) if logits.shape[1] == 2 else None
    chosen, certainty = decide(probabilities, threshold)
    tries = 1 if threshold is None else len(_DECISIONS)
    found = find_agreement(Judged(certainty, chosen == labels, units), agreement, confidence, tries=tries)
    if found is not None:
        sentence = (
            f"Of {len(labels)} validation rows, those whose label has at least this probability agree with the coders "
            f"in at least {agreement:.0%}, with {confidence:.0%} confidence."
        )
        return Calibration(temperature, threshold, found, True, sentence)
    _, certainty = decide(compute_probabilities(uncoded, temperature), threshold)
    ask_below, sentence = carry_share(out_of_fold, certainty, agreement)
    return Calibration(temperature, threshold, ask_below, False, sentence)


def carry_share(judged: Judged, certainty: Floats, agreement: float) -> tuple[float, str]:
    """Return the certainty below which a row needs a human, and the sentence that says why.

    Fold teachers are more certain than the shipped student, so a share of the rows is carried over, not a probability.
    With too few texts the teachers' probability is taken, which sends more rows to a human. The student learned from
    the texts' soft targets and is a little more certain of them than of new ones; that errs on the same side.

    Args:
        judged: human-coded rows labelled by teachers of the other folds.
        certainty: of the shipped model's labels for texts without a label [texts].
        agreement: as in `calibrate`.
    """
    rows = len(judged.right)
    if not rows:
        return _EVERY_ROW, "No human-coded row shows how often the labels are right: a human is asked about every row."
    wanted = f"an agreement of {agreement:.0%} with {_CONFIDENCE:.0%} confidence"
    threshold = find_agreement(judged, agreement, _CONFIDENCE)
    if threshold is None:
        more = count_more_rows(judged, agreement, _CONFIDENCE)
        help_ = f"about {more} more coded rows would" if more else "more rows like these would hardly do so"
        found = f"In cross-validation {rows} human-coded rows do not show {wanted}"
        return _EVERY_ROW, f"{found}, so a human is asked about every row; {help_}."
    share = float((judged.certainty >= threshold).mean())
    found = (
        f"In cross-validation on {rows} human-coded rows, the {share:.0%} whose labels are most certain show {wanted}"
    )
    if len(certainty) < _MIN_TEXTS:
        return threshold, f"{found}: they are those from this probability on."
    reached = f"this is the probability that as large a share of {len(certainty)} texts without a label reaches."
    return float(np.quantile(certainty, 1 - share)), f"{found}: {reached}"


def find_temperature(logits: Floats, labels: Ints, confidence: float) -> float:
    """Return the temperature (Guo et al. 2017, arXiv 1706.04599), or 1 where it does not clearly help.

    It helps if, in cross-validation, the log-loss of the rows left out falls by more than chance (t-test, one-sided).
    It never sharpens: on few rows that would make the errors on new ones look certain.
    """
    from scipy import stats

    folds = np.arange(len(labels)) % _MAX_FOLDS
    gains = np.zeros(len(labels))
    for fold in np.unique(folds):
        out = folds == fold
        if out.all():
            return 1.0
        fitted = _fit_temperature(logits[~out], labels[~out])
        gains[out] = _measure_loss(logits[out], labels[out], 1.0) - _measure_loss(logits[out], labels[out], fitted)
    if len(gains) < 2 or gains.std() == 0:
        return 1.0
    helps = stats.ttest_1samp(gains, 0.0, alternative="greater").pvalue <= 1 - confidence
    return round(_fit_temperature(logits, labels), 4) if helps else 1.0


def find_decision(probabilities: Floats, labels: Ints, confidence: float) -> float | None:
    """Return the probability of the last label from which it is chosen, or None where no other than 1/2 is better.

    A threshold is better if it agrees with more of the coders' labels by McNemar's exact test, one-sided, where each
    row is decided by the threshold that was found on the others.
    """
    from scipy import stats

    right = (probabilities[:, None] >= _DECISIONS) == (labels[:, None] == 1)
    found = np.array([_choose_decision(right.sum(axis=0) - row) for row in right], dtype=np.int64)
    moved = right[np.arange(len(labels)), found]
    plain = (probabilities > 0.5) == (labels == 1)
    gained, lost = int((moved & ~plain).sum()), int((plain & ~moved).sum())
    if not gained or stats.binom.sf(gained - 1, gained + lost, 0.5) > 1 - confidence:
        return None
    return float(_DECISIONS[_choose_decision(right.sum(axis=0))])


def find_agreement(judged: Judged, agreement: float, confidence: float, *, tries: int = 1) -> float | None:
    """Return the smallest certainty from which rows agree with the coders at the share wanted, or None.

    The set of most certain rows grows row by row and is tested each time, until it first fails: fixed-sequence testing
    (Angelopoulos et al. 2021, Learn then Test, arXiv 2110.01052), which needs no correction for the number of sets. A
    set passes by the bound of Clopper and Pearson, with as many rows as count as independent (Kish 1965). The first
    set is a quarter of the rows, or what a set without an error needs. The chance of an error is shared out among the
    `tries` from which the decision threshold was chosen.
    """
    error = (1 - confidence) / tries
    order = np.sort(judged.certainty)[::-1]
    needed, found = _count_needed(agreement, error), None
    for kept in range(max(needed, math.ceil(len(order) / 4)), len(order) + 1):
        chosen = judged.certainty >= order[kept - 1]
        independent = count_independent(np.unique(judged.units[chosen], return_inverse=True)[1])
        if independent < needed:
            continue
        if bound_share(float(judged.right[chosen].mean()), independent, error) < agreement:
            break
        found = float(order[kept - 1])
    return found


def count_more_rows(judged: Judged, agreement: float, confidence: float) -> int | None:
    """Return how many more rows like these would show the agreement, or None where no number would.

    It takes the set of most certain rows that would need the fewest, if its agreement stayed as it is.
    """
    rows, order = len(judged.right), np.argsort(-judged.certainty, kind="stable")
    independent = count_independent(np.unique(judged.units, return_inverse=True)[1]) / rows
    needed: list[float] = []
    for kept in range(_count_needed(agreement, 0.5), rows + 1):  # a smaller set says nothing
        share = float(judged.right[order[:kept]].mean())
        count = _count_needed(agreement, 1 - confidence)
        while bound_share(share, count, 1 - confidence) < agreement and count < _MAX_ROWS:
            count = math.ceil(1.1 * count)
        needed.append(count / independent * rows / kept)
    fewest = min(needed, default=_MAX_ROWS)
    return math.ceil(fewest - rows) if fewest < _MAX_ROWS else None


def bound_share(share: float, rows: float, error: float) -> float:
    """Return the lower bound of a share of so many rows, wrong with this chance at most (Clopper and Pearson 1934)."""
    from scipy import stats

    return float(stats.beta.ppf(error, share * rows, (1 - share) * rows + 1)) if share else 0.0


def _count_needed(agreement: float, error: float) -> int:
    """Count the rows of the smallest set that passes without an error."""
    return math.ceil(math.log(error) / math.log(agreement))


def _choose_decision(hits: npt.NDArray[np.int_]) -> int:
    """Return the threshold with the most hits; of equals the one nearest 1/2."""
    return int(np.lexsort((np.abs(_DECISIONS - 0.5), -hits))[0])


def _measure_loss(logits: Floats, labels: Ints, temperature: float) -> Floats:
    from scipy.special import log_softmax

    losses: Floats = -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels]
    return losses


def _fit_temperature(logits: Floats, labels: Ints) -> float:
    from scipy.optimize import minimize_scalar

    def measure(log: float) -> float:
        return float(_measure_loss(logits, labels, math.exp(log)).mean())

    return math.exp(minimize_scalar(measure, bounds=(0, math.log(_MAX_TEMPERATURE)), method="bounded").x)
