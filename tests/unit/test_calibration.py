import numpy as np
import pytest

from amalgam.shipping.calibration import Calibration, Judged, calibrate, find_agreement, find_decision, find_temperature
from amalgam.shipping.export import measure_fidelity


def judge(certainty: np.ndarray, right: np.ndarray, group: int = 1) -> Judged:
    """Make rows; each `group` of them depend on each other."""
    return Judged(certainty, right, np.arange(len(right)) // group)


def make_logits(probabilities: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros(len(probabilities)), np.log(probabilities / (1 - probabilities))], axis=1)


NO_ROWS = make_logits(np.zeros(0)), np.zeros(0, dtype=np.int64)
NOTHING = judge(np.zeros(0), np.zeros(0, dtype=bool))


def calibrate_by(
    logits: np.ndarray, labels: np.ndarray, judged: Judged = NOTHING, uncoded: np.ndarray = NO_ROWS[0], **wanted: float
) -> Calibration:
    wanted = {"agreement": 0.9, "confidence": 0.95} | wanted
    return calibrate(logits, labels, np.arange(len(labels)), judged, uncoded, **wanted)


@pytest.mark.parametrize(("rows", "group", "lowest"), [(28, 1, None), (29, 1, 0.5), (60, 2, 0.5), (60, 3, None)])
def test_29_independent_rows_without_an_error_show_90_percent(rows: int, group: int, lowest: float | None) -> None:
    judged = judge(np.linspace(1, 0.5, rows), np.ones(rows, dtype=bool), group)
    assert find_agreement(judged, 0.9, 0.95) == lowest


def test_the_share_that_cross_validation_shows_is_carried_over() -> None:
    teachers = np.linspace(1, 0.9, 100)  # more certain than the student
    student = np.linspace(0.5, 0.89, 200)
    judged = judge(teachers, (np.arange(100) != 50) & (np.arange(100) < 70))
    found = calibrate_by(*NO_ROWS, judged, make_logits(student))
    assert (found.temperature, found.threshold, found.guaranteed) == (1.0, None, False)
    share = float((teachers >= find_agreement(judged, 0.9, 0.8)).mean())
    assert 0.6 < share < 0.8
    assert (student >= found.ask_below).mean() == pytest.approx(share, abs=0.006)
    assert f"the {share:.0%} whose labels are most certain show an agreement of 90% with 80%" in found.sentence
    few = calibrate_by(*NO_ROWS, judged, make_logits(student[:49]))  # too few texts: the teachers' own probability
    assert (teachers >= few.ask_below).mean() == share
    assert few.sentence.endswith("they are those from this probability on.")


def test_it_is_said_how_many_more_rows_would_do() -> None:
    certainty = np.linspace(1, 0.5, 40)
    right = np.arange(40) < 12
    for rows, more in (
        (judge(certainty, right), "; about 14 more coded rows would show it."),  # 16 without an error mean 54 in all
        (judge(certainty, right, group=2), "; about 67 more coded rows would show it."),
        (judge(certainty, np.arange(40) % 2 == 0), "; more rows like these would hardly help."),
        # An error among the first rows counts, although all 40 together show the agreement.
        (judge(certainty, np.arange(40) != 3), "; about 140 more coded rows would show it."),
    ):
        found = calibrate_by(*NO_ROWS, rows)
        assert found.ask_below == 2.0
        assert found.sentence.startswith("In cross-validation, 40 human-coded rows do not show an agreement of 90%")
        assert found.sentence.endswith(more)
    assert find_agreement(judge(np.tile(certainty, 3), np.tile(right, 3)), 0.9, 0.8) is not None


def test_a_guarantee_is_broken_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(0)
    broken = given_ = 0
    for _ in range(600):
        certainty = rng.random(100)
        # Rows agree by chance certainty**0.35, so the true agreement above t is known.
        found = find_agreement(judge(certainty, rng.random(100) < certainty**0.35), 0.85, 0.9)
        if found is not None:
            given_ += 1
            broken += (1 - found**1.35) / (1.35 * (1 - found)) < 0.85
    assert given_ > 100
    assert broken / 600 <= 0.1


def test_ten_validation_rows_allow_no_guarantee_and_many_do() -> None:
    few = np.array([0.1, 0.2, 0.3, 0.1, 0.9, 0.8, 0.7, 0.9, 0.95, 0.6])
    made = calibrate_by(make_logits(few), np.array([0] * 4 + [1] * 6))
    assert (made.temperature, made.threshold, made.ask_below, made.guaranteed) == (1.0, None, 2.0, False)
    rng = np.random.default_rng(1)
    probabilities = rng.random(400).clip(0.001, 0.999)
    labels = (rng.random(400) < probabilities).astype(np.int64)
    made = calibrate_by(make_logits(probabilities), labels, agreement=0.85)
    assert made.guaranteed
    assert 0.6 < made.ask_below < 0.95


def test_a_temperature_needs_evidence_and_never_sharpens() -> None:
    rng = np.random.default_rng(2)
    true = rng.random(300).clip(0.02, 0.98)
    labels = (rng.random(300) < true).astype(np.int64)
    logits = make_logits(true)
    assert find_temperature(3 * logits, labels, 0.95) == pytest.approx(3, rel=0.3)
    for factor, rows in ((1, 300), (1 / 3, 300), (3, 2), (1, 1)):
        assert find_temperature(factor * logits[:rows], labels[:rows], 0.95) == 1


def test_a_decision_moves_only_on_evidence() -> None:
    probabilities = np.linspace(0.02, 0.98, 97)
    labels = (probabilities >= 0.3).astype(np.int64)
    assert find_decision(probabilities, labels, 0.95) == pytest.approx(0.3)
    few = slice(None, None, 12)
    assert find_decision(probabilities[few], labels[few], 0.95) is None
    assert find_decision(probabilities, (probabilities >= 0.5).astype(np.int64), 0.95) is None


def test_fidelity_is_what_is_lost_of_the_order() -> None:
    exact = np.stack([1 - (p := np.linspace(0.01, 0.99, 50)), p], axis=1)
    near, turned = measure_fidelity(exact, exact**1.02), measure_fidelity(exact, exact[::-1])
    assert (near["auc_loss"], near["max_difference"] > 0) == (0, True)
    assert (turned["auc_loss"] > 0.3, turned["decisions_changed"]) == (True, 1)
    three = np.random.default_rng(0).dirichlet([1, 1, 1], size=40)
    same = measure_fidelity(three, three)
    assert (same["texts"], same["auc_loss"], same["max_difference"], same["decisions_changed"]) == (40, 0, 0, 0)
