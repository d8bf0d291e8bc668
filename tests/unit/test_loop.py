import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import PreTrainedModel

from amalgam.machine import set_seed
from amalgam.params import Training
from amalgam.training.classifier import load_classifier
from amalgam.training.encoding import encode_rows, load_tokenizer
from amalgam.training.loop import (
    DivergedError,
    Examples,
    Loss,
    Merit,
    Outcome,
    build_optimizer,
    compute_logits,
    scale_rate,
    train_model,
)
from amalgam.training.losses import CrossEntropy, encode_targets
from amalgam.training.merits import RankingMerit, estimate_area_error
from tests.pipeline.toy import LABELS

PARAMS = Training(
    learning_rate=2e-3,
    batch_size=8,
    steps=12,
    steps_for=1000,
    warmup=0.25,
    weight_decay=0.01,
    evaluate_every=3,
    patience=9,
)
CPU = torch.device("cpu")
Weights = dict[str, torch.Tensor]


class Run:
    """One training of the tiny encoder, and what it came to."""

    def __init__(self, encoder: Path, rows: pd.DataFrame, folder: Path) -> None:
        self.encoder, self.folder = encoder, folder
        encoded = [encode_rows(load_tokenizer(encoder), part, 24, list(LABELS)) for part in (rows[:40], rows[40:])]
        self.train, self.held_out = (Examples(part, CrossEntropy(encode_targets(part.labels, 2))) for part in encoded)
        self.steps = 0

    def __call__(
        self,
        merit: Merit | None,
        *,
        seed: int = 1,
        loss: Loss | None = None,
        judge: Loss | None = None,
        phases: Sequence[np.ndarray] = (),
        **changes: object,
    ) -> Outcome:
        set_seed(seed)
        self.model: PreTrainedModel = load_classifier(self.encoder, list(LABELS))
        return train_model(
            self.model,
            Examples(self.train.encoded, loss or self.train.loss, phases),
            Examples(self.held_out.encoded, judge or self.held_out.loss) if merit else None,
            merit,
            PARAMS.model_copy(update=changes),
            seed=seed,
            curves=self.folder / "curves",
            advance=self.count,
        )

    def count(self, _item: object) -> None:
        self.steps += 1

    @property
    def weights(self) -> Weights:
        return {name: weight.clone() for name, weight in self.model.state_dict().items()}

    def look(self) -> np.ndarray:
        return compute_logits(self.model, self.held_out.encoded, CPU)


@pytest.fixture
def run(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> Run:
    return Run(encoder, comments, tmp_path)


class Script:
    """A merit whose values, and their error, are given beforehand; it keeps the logits that it was shown."""

    def __init__(self, *values: float, error: float = 0.0) -> None:
        self.values, self.error = list(values), error
        self.seen: list[np.ndarray] = []

    def __call__(self, logits: np.ndarray) -> tuple[float, float]:
        self.seen.append(logits)
        return self.values[len(self.seen) - 1], self.error


def is_equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_seed_decides_every_weight(run: Run) -> None:
    outcomes, weights = [], []
    for seed in (1, 1, 2):
        outcomes.append(run(RankingMerit(run.held_out.encoded.labels), seed=seed))
        weights.append(run.weights)
    assert outcomes[0] == outcomes[1]
    assert is_equal(weights[0], weights[1])
    assert not is_equal(weights[0], weights[2])


def test_training_learns(run: Run) -> None:
    outcome = run(RankingMerit(run.held_out.encoded.labels), steps=60, evaluate_every=20, learning_rate=5e-3)
    assert outcome.validation_merit > 0.9
    assert outcome.validation_loss < math.log(2)


@pytest.mark.parametrize(
    ("merits", "error", "best"),
    [
        ((1.0, 3.0, 2.0, 0.0), 0.0, 2),
        ((1.0, 1.0, 1.0, 0.0), 0.0, 3),
        ((4.0, 3.0, 2.0, 1.0), 0.0, 1),
        ((4.0, 3.0, 2.0, 1.0), 2.0, 3),  # the last within one error of the best
        ((1.0, 4.0, 1.0, 3.5), 1.0, 4),
    ],
)
def test_the_best_look_decides_which_weights_are_kept(
    run: Run, merits: tuple[float, ...], error: float, best: int
) -> None:
    merit = Script(*merits, error=error)
    outcome = run(merit)
    assert (outcome.steps, outcome.best_step, outcome.validation_merit) == (12, 3 * best, merits[best - 1])
    np.testing.assert_array_equal(run.look(), merit.seen[best - 1])
    assert not np.array_equal(merit.seen[0], merit.seen[1])
    assert outcome.validation_loss == float(run.held_out.loss(torch.tensor(run.look()), np.arange(20)))
    assert outcome.train_rows == 40


def test_training_stops_when_patience_ends(run: Run) -> None:
    outcome = run(Script(2.0, 1.0, 1.5, 9.0), patience=2)
    assert (outcome.steps, outcome.best_step) == (9, 3)
    assert run.steps == 9


def test_the_last_step_is_looked_at_as_well(run: Run) -> None:
    assert run(Script(1.0, 2.0), steps=5).best_step == 5
    assert run(Script(1.0), steps=2, evaluate_every=50).best_step == 2


def test_curves_hold_the_steps_and_no_clock(run: Run) -> None:
    run(Script(1.0, 1.0, 1.0, 1.0))
    plots = run.folder / "curves/plots/metrics"
    for name in ("train_loss", "validation_loss"):
        curve = pd.read_csv(plots / f"{name}.tsv", sep="\t")
        assert list(curve) == ["step", name]
        assert curve["step"].tolist() == [3, 6, 9, 12]
        assert curve[name].between(0.1, 2).all()
    assert {path.name for path in (run.folder / "curves").rglob("*") if path.is_file()} == {
        "metrics.json",
        "train_loss.tsv",
        "validation_loss.tsv",
    }


def break_after(count: int) -> Callable[[torch.Tensor, np.ndarray], torch.Tensor]:
    """Make a loss that is no number from the call `count` on."""
    calls = iter(range(10**6))
    return lambda logits, rows: logits.sum() * (math.nan if next(calls) >= count else 0.0)


def test_a_loss_that_is_no_number_gives_one_sentence(run: Run) -> None:
    words = "the loss is no longer a number at step 3, and no weights are kept: lower the learning rate of this stage"
    with pytest.raises(DivergedError, match=words):
        run(Script(), loss=break_after(2))
    assert run.steps == 2
    with pytest.raises(DivergedError, match="at step 5, and the weights of step 3 are the last good ones"):
        run(None, loss=break_after(4))
    with pytest.raises(DivergedError, match="at step 6, and the weights of step 3 are the last good ones"):
        run(Script(1.0), judge=break_after(1))


def test_what_diverges_leaves_the_last_good_weights(run: Run) -> None:
    run(Script(1.0), steps=3, judge=run.held_out.loss)
    merit = Script(1.0, 2.0)
    with pytest.raises(DivergedError):
        run(merit, judge=break_after(1))
    np.testing.assert_array_equal(run.look(), merit.seen[0])


def test_without_validation_the_last_step_is_kept(run: Run) -> None:
    outcome = run(None)
    assert (outcome.steps, outcome.best_step) == (12, 12)
    assert outcome.to_dict() == {
        **{"steps": 12, "best_step": 12, "train_rows": 40},
        **{"validation_merit": None, "validation_loss": None},
    }
    assert {path.stem for path in run.folder.rglob("*.tsv")} == {"train_loss"}
    last = run.weights
    run(Script(1.0, 2.0, 3.0, 4.0))
    assert is_equal(last, run.weights)


class Diary:
    """A loss that writes down the rows that it sees."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def __call__(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        self.rows.append(rows)
        return logits.square().mean()


def test_phases_come_one_after_the_other(run: Run) -> None:
    diary = Diary()
    run(None, loss=diary, phases=[np.arange(10), np.arange(30, 40)])
    assert len(diary.rows) == 12
    assert set(np.concatenate(diary.rows[:6])) == set(range(10))
    assert set(np.concatenate(diary.rows[6:])) == set(range(30, 40))


def test_an_outcome_is_ready_for_json() -> None:
    outcome = Outcome(steps=9, best_step=6, validation_merit=2 / 3, validation_loss=1 / 3, train_rows=40)
    assert json.loads(json.dumps(outcome.to_dict())) == {
        **{"steps": 9, "best_step": 6, "train_rows": 40},
        **{"validation_merit": 0.666667, "validation_loss": 0.333333},
    }


def test_the_rate_rises_then_falls() -> None:
    assert [scale_rate(step, PARAMS) for step in (0, 1, 2, 3, 12)] == [1 / 3, 2 / 3, 1.0, 1.0, 0.0]
    rates = [scale_rate(step, PARAMS) for step in range(3, 13)]
    assert np.allclose(np.diff(rates), -1 / 9)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 7])
def test_every_step_has_a_rate(warmup: float, steps: int) -> None:
    params = PARAMS.model_copy(update={"warmup": warmup, "steps": steps})
    rates = [scale_rate(step, params) for step in range(steps + 1)]
    assert all(0 < rate <= 1 for rate in rates[:-1])
    assert 0 <= rates[-1] <= 1


def test_biases_and_norms_do_not_decay(run: Run) -> None:
    model = load_classifier(run.encoder, list(LABELS))
    decayed, plain = build_optimizer(model, PARAMS).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    names = {id(weight): name for name, weight in model.named_parameters()}
    plain_names = {names[id(weight)] for weight in plain["params"]}
    assert plain_names == {name for name in names.values() if name.endswith("bias") or "LayerNorm" in name}
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_ranking_merit_by_hand() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 2.0], [1.0, 0.0]])
    assert RankingMerit(np.array([0, 1, 1, 0]))(logits)[0] == 1.0
    assert RankingMerit(np.array([1, 1, 0, 0]))(logits)[0] == 0.25
    assert RankingMerit(np.array([1, 1, 1, 1]))(logits)[0] == 0.5  # nothing to rank
    three = np.array([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [2.0, 0.0, 0.0]])
    assert RankingMerit(np.array([0, 1, 0]))(three)[0] == 1.0  # a class that is not there does not count


def test_the_error_of_an_area_is_the_spread_over_samples() -> None:
    draw = np.random.default_rng(1)
    actual = np.repeat([1, 0], [12, 18])
    areas = [roc_auc_score(actual, draw.normal(actual * 1.2, 1)) for _ in range(800)]
    assert estimate_area_error(float(np.mean(areas)), 12, 18) == pytest.approx(np.std(areas), rel=0.1)
    assert 0 < estimate_area_error(1.0, 4, 6) < estimate_area_error(0.8, 4, 6)
