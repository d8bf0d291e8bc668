"""Choose temperature, decision and deferral thresholds by human-coded rows outside the test set.

Each departure from the model's own word needs evidence, since a project may have ten validation rows. They are rows
that chose the checkpoint as well, so that the student may do a little better on them than on new ones. Where they vouch
for no agreement, cross-validation says which share of the rows may go without a human. Where that does not either, a
human is asked about every row.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from amalgam.predicting.onnx import Floats, Ints, compute_probabilities, decide
from amalgam.tasks.texts import count_independent

_FEWEST_TEXTS = 50  # of which a quantile is still known to about seven points
_MOST_ROWS = 100_000  # that anyone would code
_WARMEST = 20.0
_FOLDS = 20  # at most
_DECISIONS = np.round(np.arange(0.1, 0.91, 0.05), 2)  # thresholds that are tried
# With which cross-validation is to show an agreement. Then that on test rows lies below the one wanted, with its whole
# interval, in fewer than one setting of twenty (bench/README.md); with 0.95 hardly a row would go without a human.
_CONFIDENCE = 0.8
_ALL = 2.0  # above every probability: every row goes to a human

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How probabilities become decisions.

    Attributes:
        temperature: divides the logits; 1 leaves them.
        threshold: of two labels, the probability from which the last one is chosen; None chooses the likelier one.
        ask_below: a row goes to a human if its label has less than this probability; above 1 every row does.
        guaranteed: whether validation rows vouch for the agreement above `ask_below`.
        sentence: what that rests on.
    """

    temperature: float
    threshold: float | None
    ask_below: float
    guaranteed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Human-coded rows that a model labelled without having learned them.

    Attributes:
        certainty: probability of the label that was given [rows].
        right: whether it is that of the coders [rows].
        units: number of what each row depends on, such as a student [rows].
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
        logits: [rows, classes] of the model that ships.
        labels: class index of each row, by human coders.
        units: number of what each row depends on [rows].
        out_of_fold: what is asked where the validation rows vouch for no agreement: human-coded rows as teachers of
            other ones label them; perhaps none.
        uncoded: logits [texts, classes] that the model that ships has for texts it knows no label of.
        agreement: share of the rows that keep their label which is to agree with the coders.
        confidence: of each conclusion.
    """
    temperature = find_temperature(logits, labels, confidence)
    probabilities = compute_probabilities(logits, temperature)
    threshold = find_decision(probabilities[:, 1], labels, confidence) if logits.shape[1] == 2 else None
    chosen, certainty = _decide_certainly(probabilities, threshold)
    tries = 1 if threshold is None else len(_DECISIONS)
    validated = Judged(certainty, chosen == labels, units)
    asked = find_agreement(validated, agreement, confidence, tries=tries)
    if asked is not None:
        sentence = (
            f"Of {len(labels)} validation rows, those whose label has at least this probability agree with the coders "
            f"in at least {agreement:.0%}, with {confidence:.0%} confidence."
        )
        return Calibration(temperature, threshold, asked, True, sentence)
    _, sure = _decide_certainly(compute_probabilities(uncoded, temperature), threshold)
    asked, sentence = carry_share(out_of_fold, sure, agreement)
    return Calibration(temperature, threshold, asked, False, sentence)


def carry_share(judged: Judged, sure: Floats, agreement: float) -> tuple[float, str]:
    """Return the certainty below which a human is asked, and how cross-validation led to it.

    Teachers of other rows are more certain than what ships, a student of many teachers; so no probability is carried
    over from them but a share of the rows. Where there are no texts to carry it over, their probability has to do: it
    asks about more rows than it need. The student has learned their view of the texts, without a label, and is a
    little more certain of them than of new ones, so that rather too many rows go to a human.

    Args:
        judged: human-coded rows as teachers of other ones label them.
        sure: probability of the label that the model that ships gives to texts that nobody coded [texts].
        agreement: share of the rows that keep their label which is to agree with the coders.
    """
    rows = len(judged.right)
    if not rows:
        return _ALL, "No human-coded row shows how often the labels are right: a human is asked about every row."
    wanted = f"an agreement of {agreement:.0%} with {_CONFIDENCE:.0%} confidence"
    threshold = find_agreement(judged, agreement, _CONFIDENCE)
    if threshold is None:
        more = count_more_rows(judged, agreement, _CONFIDENCE)
        help_ = f"about {more} more coded rows would" if more else "more rows like these would hardly do so"
        found = f"In cross-validation {rows} human-coded rows do not show {wanted}"
        return _ALL, f"{found}, so a human is asked about every row; {help_}."
    share = float((judged.certainty >= threshold).mean())
    found = (
        f"In cross-validation on {rows} human-coded rows, the {share:.0%} whose labels are most certain show {wanted}"
    )
    if len(sure) < _FEWEST_TEXTS:
        return threshold, f"{found}: they are those from this probability on."
    finding = f"{found}: this is the probability that as large a share of {len(sure)} texts without a label reaches."
    return float(np.quantile(sure, 1 - share)), finding


def find_temperature(logits: Floats, labels: Ints, confidence: float) -> float:
    """Return the temperature (Guo et al. 2017, arXiv 1706.04599), or 1 where it does not clearly help.

    It helps if, in cross-validation, the log-loss of the rows left out falls by more than chance (t-test, one-sided).
    Only softening is considered: on few rows, sharpening would make the errors of new ones look certain.
    """
    from scipy import stats

    folds = np.arange(len(labels)) % _FOLDS
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

    Better is what agrees with more of the coders' labels, when each row is decided by a threshold that was found on
    the others, by McNemar's exact test, one-sided.
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

    The most certain rows are tested as one set that grows row by row, from the smallest set that is tested at all
    until the first that fails: fixed-sequence testing (Angelopoulos et al. 2021, Learn then Test, arXiv 2110.01052),
    which needs no correction for the number of sets. A set passes by the exact bound of Clopper and Pearson (1934),
    with as many rows as count as independent (Kish 1965). The smallest set is a quarter of the rows, or what a set
    without an error needs. The chance of an error is shared out among the `tries` of which the decision was chosen.
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
        while bound_share(share, count, 1 - confidence) < agreement and count < _MOST_ROWS:
            count = math.ceil(1.1 * count)
        needed.append(count / independent * rows / kept)
    fewest = min(needed, default=_MOST_ROWS)
    return math.ceil(fewest - rows) if fewest < _MOST_ROWS else None


def bound_share(share: float, rows: float, error: float) -> float:
    """Return the lower bound of a share of so many rows, wrong with this chance at most (Clopper and Pearson 1934)."""
    from scipy import stats

    return float(stats.beta.ppf(error, share * rows, (1 - share) * rows + 1)) if share else 0.0


def _count_needed(agreement: float, error: float) -> int:
    """Count the rows of the smallest set that passes without an error."""
    return math.ceil(math.log(error) / math.log(agreement))


def _decide_certainly(probabilities: Floats, threshold: float | None) -> tuple[Ints, Floats]:
    """Return the class chosen for each row, and its probability."""
    chosen = decide(probabilities, threshold)
    return chosen, np.take_along_axis(probabilities, chosen[:, None], axis=1)[:, 0]


def _choose_decision(hits: npt.NDArray[np.int_]) -> int:
    """Return the threshold with the most hits; of equals the one nearest 1/2."""
    return int(np.lexsort((np.abs(_DECISIONS - 0.5), -hits))[0])


def _measure_loss(logits: Floats, labels: Ints, temperature: float) -> Floats:
    from scipy.special import log_softmax

    losses: Floats = -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels]
    return losses


def _fit_temperature(logits: Floats, labels: Ints) -> float:
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log: _measure_loss(logits, labels, math.exp(log)).mean(),
        bounds=(0, math.log(_WARMEST)),
        method="bounded",
    )
    return math.exp(found.x)
