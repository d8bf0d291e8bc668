import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from amalgam.evaluation.abroca import measure_abroca, shuffle_members


def stack_scores(*seeds):
    return np.stack([np.stack([1 - scores, scores], axis=1) for scores in seeds])


def integrate_directly(actual, scores, member, points=200_001):
    """Integrate by a very fine grid, as scikit-learn gives the curves."""
    grid = (np.arange(points) + 0.5) / points
    curves = [
        np.interp(grid, *roc_curve(actual[part], scores[part], drop_intermediate=False)[:2])
        for part in (member, ~member)
    ]
    return np.abs(curves[0] - curves[1]).mean()


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), digits=st.integers(1, 6))
def test_the_area_equals_a_direct_integral(seed, digits):
    rng = np.random.default_rng(seed)
    actual, member = np.arange(80) % 2, rng.permutation(np.arange(80) // 2 % 2 == 0)
    scores = np.clip(rng.random(80) * 0.6 + 0.4 * actual * rng.random(80), 0, 1).round(digits)
    found = measure_abroca(actual, stack_scores(scores), member[None])
    assert found == pytest.approx([integrate_directly(actual, scores, member)], abs=2e-5)


def test_curves_that_do_not_cross_are_as_far_apart_as_their_auc():
    actual, member = np.tile([0, 1], 100), np.repeat([True, False], 100)
    scores = np.where(member, actual, np.tile([0.2, 0.1], 100))  # perfect for one group, reversed for the other
    assert measure_abroca(actual, stack_scores(scores), member[None]) == pytest.approx([1.0])
    rng = np.random.default_rng(1)
    guessed = np.where(member, actual, rng.random(200))
    gap = 1 - roc_auc_score(actual[~member], guessed[~member])
    assert measure_abroca(actual, stack_scores(guessed), member[None]) == pytest.approx([gap])


def test_the_area_is_the_mean_over_seeds_and_classes_and_not_defined_without_a_label():
    rng = np.random.default_rng(2)
    actual, member = np.arange(90) % 3, rng.random(90) < 0.5
    stack = rng.dirichlet(np.ones(3), size=(2, 90))
    expected = [integrate_directly(actual == index, seed[:, index], member) for seed in stack for index in range(3)]
    assert measure_abroca(actual, stack, member[None]) == pytest.approx([np.mean(expected)], abs=2e-5)
    assert np.isnan(measure_abroca(actual, stack, (actual == 0)[None])).all()


def test_membership_moves_within_a_label_or_among_whole_units():
    rng = np.random.default_rng(3)
    actual, units = np.arange(60) % 2, np.arange(60) // 3
    loose, bound = rng.random(60) < 0.4, (units % 4 == 0)
    drawn = shuffle_members(actual, loose, units, times=20, rng=rng)
    for label in (0, 1):
        assert (drawn[:, actual == label].sum(axis=1) == loose[actual == label].sum()).all()
    drawn = shuffle_members(actual, bound, units, times=20, rng=rng)
    assert (drawn.sum(axis=1) == bound.sum()).all()
    assert (drawn.reshape(20, 20, 3).std(axis=2) == 0).all()
    assert len(np.unique(drawn, axis=0)) > 15


def test_p_values_of_groups_that_do_not_differ_are_uniform():
    rng = np.random.default_rng(4)
    values = []
    for _ in range(120):
        actual, member = rng.integers(0, 2, size=80), rng.random(80) < 0.4
        stack = stack_scores(1 / (1 + np.exp(-(actual + rng.normal(size=80)))))
        area = measure_abroca(actual, stack, member[None])[0]
        chance = measure_abroca(actual, stack, shuffle_members(actual, member, None, times=39, rng=rng))
        values.append((1 + (chance >= area).sum()) / 40)
    shares = [np.mean(np.array(values) <= level) for level in (0.1, 0.5, 0.9)]
    assert shares == pytest.approx([0.1, 0.5, 0.9], abs=0.1)
