"""Choose the temperature and the decision and deferral thresholds from human-coded rows outside the test set.

A project may have only ten validation rows, so each departure from the model's own probabilities needs evidence. If
the validation rows do not show the wanted agreement, cross-validation decides which share of the rows needs no human.
If that does not show it either, every row needs a human. The checkpoint was chosen on the same validation rows, so the
student may do a little worse on new rows.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from amalgam.shipping.onnx import Floats, Ints, decide
from amalgam.tasks.texts import count_independent
from amalgam.training.checkpoint import compute_softmax

_MIN_TEXTS = 50  # with fewer, a quantile is not known to within about seven points
_MAX_ROWS = 100_000  # more than anyone would code
_MAX_TEMPERATURE = 20.0
_MAX_FOLDS = 20
_DECISIONS = np.round(np.arange(0.1, 0.91, 0.05), 2)
# Confidence that cross-validation has to reach. With it, the whole interval of the agreement on test rows is below the
# wanted agreement in fewer than one setting in twenty (docs/findings.md). At 0.95, almost every row would need a human.
_CONFIDENCE = 0.8
_EVERY_ROW = 2.0  # above every probability


@dataclass(frozen=True, slots=True)
class Calibration:
    """How probabilities become decisions."""

    temperature: float  # divides the logits; 1 leaves them unchanged
    threshold: float | None  # with two labels, the last one is chosen from this probability on; None: the likelier one
    ask_below: float  # a row needs a human if its label's probability is below this; above 1, every row does
    guaranteed: bool  # whether validation rows show the agreement above `ask_below`
    sentence: str  # the evidence, for the card


class Judged(NamedTuple):
    """Human-coded rows [n] with the labels of a model that was not trained on them."""

    certainty: Floats  # probability of the model's label
    right: npt.NDArray[np.bool_]  # whether that is the coders' label
    units: Ints  # index of each row's group of dependent rows, such as those of one person


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
    """Calibrate on the validation rows, of which there may be none, or else by cross-validation.

    For the validation rows, `logits` [rows, classes] are those of the shipped model, `labels` the human coders' class
    indices, and `units` the indices of their groups of dependent rows. `out_of_fold` are human-coded rows labelled by
    teachers of the other folds; `uncoded` are the shipped model's logits [texts, classes] of texts without a label. Of
    the rows that need no human, model and coders should agree on the share `agreement`.
    """
    temperature = find_temperature(logits, labels, confidence)
    probabilities = compute_softmax(logits, temperature)
    threshold = find_decision(probabilities[:, 1], labels, confidence) if logits.shape[1] == 2 else None
    chosen, certainty = decide(probabilities, threshold)
    tries = 1 if threshold is None else len(_DECISIONS)
    found = find_agreement(Judged(certainty, chosen == labels, units), agreement, confidence, tries=tries)
    if found is not None:
        sentence = (
            f"Of {len(labels)} validation rows, those whose label has at least this probability agree with the coders "
            f"in at least {agreement:.0%} of cases, with {confidence:.0%} confidence."
        )
        return Calibration(temperature, threshold, found, True, sentence)
    _, certainty = decide(compute_softmax(uncoded, temperature), threshold)
    return Calibration(temperature, threshold, *_carry_share(out_of_fold, certainty, agreement))


def _carry_share(judged: Judged, certainty: Floats, agreement: float) -> tuple[float, bool, str]:
    """Return `ask_below`, `guaranteed` and `sentence` from cross-validation; `certainty` is that of uncoded texts.

    Fold teachers are more certain than the shipped student, so a share of the rows is carried over, not a probability.
    With too few texts, the teachers' probability is used, which sends more rows to a human. The student learned from
    the texts' soft targets and is a little more certain of them than of new ones; that, too, sends more to a human.
    """
    if not (rows := len(judged.right)):
        none = "No human-coded row shows how often the labels are right: a human is asked about every row."
        return _EVERY_ROW, False, none
    wanted = f"an agreement of {agreement:.0%} with {_CONFIDENCE:.0%} confidence"
    threshold = find_agreement(judged, agreement, _CONFIDENCE)
    if threshold is None:
        more = count_more_rows(judged, agreement, _CONFIDENCE)
        help_ = f"about {more} more coded rows would show it" if more else "more rows like these would hardly help"
        found = f"In cross-validation, {rows} human-coded rows do not show {wanted}"
        return _EVERY_ROW, False, f"{found}, so a human is asked about every row; {help_}."
    share = float((judged.certainty >= threshold).mean())
    certain = f"the {share:.0%} whose labels are most certain show {wanted}"
    found = f"In cross-validation on {rows} human-coded rows, {certain}"
    if len(certainty) < _MIN_TEXTS:
        return threshold, False, f"{found}: they are those from this probability on."
    reached = f"this is the probability that as large a share of {len(certainty)} texts without a label reaches."
    return float(np.quantile(certainty, 1 - share)), False, f"{found}: {reached}"


def find_temperature(logits: Floats, labels: Ints, confidence: float) -> float:
    """Return the temperature (Guo et al. 2017, arXiv 1706.04599), or 1 where it does not clearly help.

    It helps if, in cross-validation, the log-loss of the left-out rows falls by more than chance (one-sided t-test).
    It never sharpens the probabilities: with few rows, that would make errors on new rows look certain.
    """
    from scipy import optimize, special, stats

    def measure_loss(rows: npt.NDArray[np.bool_], temperature: float) -> Floats:
        losses = -special.log_softmax(logits[rows] / temperature, axis=1)
        return np.asarray(losses[np.arange(len(losses)), labels[rows]])

    def fit(rows: npt.NDArray[np.bool_]) -> float:
        bounds = (0, math.log(_MAX_TEMPERATURE))
        found = optimize.minimize_scalar(lambda log: measure_loss(rows, math.exp(log)).mean(), bounds=bounds)
        return math.exp(found.x)

    if len(labels) < 2:
        return 1.0
    folds, gains = np.arange(len(labels)) % _MAX_FOLDS, np.zeros(len(labels))
    for fold in np.unique(folds):
        out = folds == fold
        gains[out] = measure_loss(out, 1.0) - measure_loss(out, fit(~out))
    if gains.std() == 0 or stats.ttest_1samp(gains, 0.0, alternative="greater").pvalue > 1 - confidence:
        return 1.0
    return round(fit(folds >= 0), 4)


def find_decision(probabilities: Floats, labels: Ints, confidence: float) -> float | None:
    """Return the probability from which the last label is chosen, or None where no threshold is better than 1/2.

    A threshold is better if it agrees with more of the coders' labels by McNemar's exact one-sided test, in which each
    row is decided by the threshold found on the others.
    """
    from scipy import stats

    right = (probabilities[:, None] >= _DECISIONS) == (labels[:, None] == 1)
    hits = right.sum(axis=0)
    # Among thresholds with equally many hits, the one nearest 1/2 is taken.
    nearest = np.argsort(np.abs(_DECISIONS - 0.5), kind="stable")
    found = nearest[(hits - right)[:, nearest].argmax(axis=1)]
    moved = right[np.arange(len(labels)), found]
    plain = (probabilities > 0.5) == (labels == 1)
    gained, lost = int((moved & ~plain).sum()), int((plain & ~moved).sum())
    if not gained or stats.binom.sf(gained - 1, gained + lost, 0.5) > 1 - confidence:
        return None
    return float(_DECISIONS[nearest[hits[nearest].argmax()]])


def find_agreement(judged: Judged, agreement: float, confidence: float, *, tries: int = 1) -> float | None:
    """Return the smallest certainty from which rows agree with the coders at the wanted share, or None.

    The set of most certain rows grows row by row and is tested each time until it first fails: fixed-sequence testing
    (Angelopoulos et al. 2021, Learn then Test, arXiv 2110.01052), which needs no correction for the number of sets. A
    set passes by the Clopper-Pearson bound for its number of independent rows (Kish 1965). The first set is a quarter
    of the rows, or as many as a set without an error needs if that is more. The error probability is divided among the
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
        if _bound_share(float(judged.right[chosen].mean()), independent, error) < agreement:
            break
        found = float(order[kept - 1])
    return found


def count_more_rows(judged: Judged, agreement: float, confidence: float) -> int | None:
    """Return how many more rows like these would show the agreement, or None if no number would.

    The count is for the set of most certain rows that `find_agreement` tests first, assuming that its agreement stays
    as it is. With more rows this set is a smaller share of them, down to a quarter; the share that needs fewest counts.
    """
    rows, order, error = len(judged.right), np.sort(judged.certainty)[::-1], 1 - confidence
    counts, quarter = [_count_needed(agreement, error)], math.ceil(len(order) / 4)
    while counts[-1] < _MAX_ROWS:
        counts.append(math.ceil(1.1 * counts[-1]))
    fewest = float(_MAX_ROWS)
    least, most = max(quarter, _count_needed(agreement, 0.5)), max(quarter, counts[0])  # a smaller set shows nothing
    for kept in range(least, min(most, rows) + 1):
        chosen = judged.certainty >= order[kept - 1]
        passes = _bound_share(float(judged.right[chosen].mean()), np.array(counts), error) >= agreement
        if passes.any():
            independent = count_independent(np.unique(judged.units[chosen], return_inverse=True)[1])
            fewest = min(fewest, counts[int(passes.argmax())] / independent * rows)
    return math.ceil(fewest - rows) if fewest < _MAX_ROWS else None


def _bound_share(share: float, rows: npt.ArrayLike, error: float) -> Floats:
    """Return the lower bound of a share of `rows`, wrong with at most this probability (Clopper and Pearson 1934)."""
    from scipy import stats

    counts = np.asarray(rows, dtype=np.float64)
    return np.asarray(stats.beta.ppf(error, share * counts, (1 - share) * counts + 1) if share else 0 * counts)


def _count_needed(agreement: float, error: float) -> int:
    """Count the rows of the smallest set that passes without an error."""
    return math.ceil(math.log(error) / math.log(agreement))
