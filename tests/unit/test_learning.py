from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amalgam.embeddings import embed_rows
from amalgam.training.classifier import add_pooling, begin_head, find_head, load_classifier
from amalgam.training.encoding import encode_rows, load_tokenizer
from amalgam.training.learning import balance_classes, fit_head, order_rows, plan_learning
from amalgam.training.loop import compute_logits
from tests.pipeline.toy import LABELS
from tests.unit.training import TEACHER


def plan(encoder: Path, mixed: pd.DataFrame, **changes: object):
    return plan_learning(encoder, mixed, list(LABELS), TEACHER.model_copy(update=changes))


@pytest.fixture
def mixed(comments: pd.DataFrame) -> pd.DataFrame:
    """Twenty human rows and twenty synthetic ones, of which the last four have the wrong label."""
    human = comments.iloc[:20].assign(origin="human", shots="")
    shots = [f"{human['id'].iloc[number]} {human['id'].iloc[-1 - number]}" for number in range(20)]
    synthetic = comments.iloc[20:40].assign(origin="synthetic", shots=shots)
    wrong = synthetic["label"].iloc[-4:].map(dict(zip(LABELS, LABELS[::-1], strict=True)))
    synthetic.loc[wrong.index, "label"] = wrong
    return pd.concat([human, synthetic], ignore_index=True)


def test_plain_mixing_takes_every_row_at_its_word(encoder: Path, mixed: pd.DataFrame) -> None:
    found = plan(encoder, mixed)
    assert found.targets.argmax(axis=1).tolist() == [LABELS.index(label) for label in mixed["label"]]
    assert found.targets.max(axis=1).tolist() == [1.0] * 40 == found.weights.tolist()
    assert [phase.tolist() for phase in found.phases] == [list(range(40))]
    assert found.head is None


def test_human_rows_count_as_much_as_is_asked(encoder: Path, mixed: pd.DataFrame) -> None:
    assert plan(encoder, mixed, human_weight=3.0).weights.tolist() == [3.0] * 20 + [1.0] * 20


@pytest.mark.parametrize(
    ("order", "phases"),
    [
        ("joint", [[0, 1, 2, 3]]),
        ("human_then_synthetic", [[0, 2], [1, 3]]),
        ("synthetic_then_human", [[1, 3], [0, 2]]),
    ],
)
def test_orders(order: str, phases: list[list[int]]) -> None:
    human = np.array([True, False, True, False])
    assert [phase.tolist() for phase in order_rows(human, order)] == phases
    assert [phase.tolist() for phase in order_rows(human | True, order)] == [[0, 1, 2, 3]]  # no empty phase


@pytest.mark.parametrize("kind", ["quality", "importance"])
def test_wrong_labels_count_less(encoder: Path, mixed: pd.DataFrame, kind: str) -> None:
    weights = plan(encoder, mixed, synthetic_weights=kind).weights
    assert weights[:20].tolist() == [1.0] * 20
    assert weights[20:].mean() == pytest.approx(1.0)
    assert weights[36:].mean() < weights[20:36].mean()


def test_inconsistent_rows_are_never_drawn(encoder: Path, mixed: pd.DataFrame) -> None:
    found = plan(encoder, mixed, synthetic_weights="consistency")
    (phase,) = found.phases
    assert set(range(20)) <= set(phase.tolist()) < set(range(40))
    assert (found.weights[phase] == 1.0).all()


def test_soft_labels_lie_between_the_label_and_the_human_view(encoder: Path, mixed: pd.DataFrame) -> None:
    hard, half, soft = (plan(encoder, mixed, soft_labels=share).targets for share in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half, (hard + soft) / 2)
    np.testing.assert_array_equal(hard[:20], soft[:20])
    np.testing.assert_allclose(soft.sum(axis=1), 1.0)
    assert soft[20:].max() < 1.0


def test_class_weights_make_classes_count_alike(encoder: Path, mixed: pd.DataFrame) -> None:
    classes, weights = np.array([0, 0, 0, 2]), np.array([1.0, 1.0, 2.0, 1.0])
    weighted = weights * balance_classes(classes, weights, 3)
    assert weighted[:3].sum() == pytest.approx(weighted[3])
    assert weighted.sum() == pytest.approx(weights.sum())
    uneven = mixed.drop(mixed.index[mixed["label"] == LABELS[0]][:10]).reset_index(drop=True)
    totals = pd.Series(plan(encoder, uneven, class_weights=True).weights).groupby(uneven["label"]).sum()
    assert totals.iloc[0] == pytest.approx(totals.iloc[1])


def test_the_head_begins_as_the_logistic_regression(encoder: Path, mixed: pd.DataFrame) -> None:
    from sklearn.linear_model import LogisticRegression

    human = mixed.iloc[:20]
    vectors = embed_rows(encoder, human, max_length=24)
    reference = LogisticRegression(C=10.0, max_iter=2000).fit(vectors, human["label"]).predict_proba(vectors)
    model = load_classifier(encoder, list(LABELS))
    head = plan(encoder, mixed, head="embedding").head
    assert head is not None
    begin_head(model, *head)
    module = add_pooling(model.float(), "mean")
    logits = compute_logits(module, encode_rows(load_tokenizer(encoder), human, 24), find_head(model).weight.device)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, reference, atol=0.02)  # of bfloat16


def test_a_class_without_rows_begins_as_unlikely() -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 4))
    weights, biases = fit_head(vectors, np.array([0, 2] * 6), 3)
    assert weights.shape == (3, 4)
    assert (biases[1], weights[1].any()) == (-10.0, False)
    weights, biases = fit_head(vectors, np.zeros(12, dtype=int), 3)
    assert (weights.any(), biases.tolist()) == (False, [0, -10, -10])


def test_a_mix_of_one_kind_needs_no_view_of_the_other(encoder: Path, mixed: pd.DataFrame) -> None:
    for kind in ("human", "synthetic"):
        part = mixed[mixed["origin"] == kind].reset_index(drop=True)
        found = plan(encoder, part, synthetic_weights="importance", soft_labels=0.5, order="synthetic_then_human")
        assert found.weights.tolist() == [1.0] * 20
        assert [len(phase) for phase in found.phases] == [20]
