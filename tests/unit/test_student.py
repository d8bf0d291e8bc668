import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from amalgam.training.architectures import build_student
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from amalgam.errors import ModelError
from amalgam.training.checkpoint import read_note
from amalgam.training.layers import choose_layers, keep_layers
from amalgam.training.losses import DistillationLoss
from amalgam.training.merits import Closeness
from amalgam.training.scoring import Scorer, score_rows
from amalgam.training.student import Distiller, Views, index_labels
from tests.pipeline.toy import LABELS
from tests.unit.training import DISTILLATION

PARAMS = DISTILLATION
SIZE = {"vocab_size": 30, "num_labels": 3, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
BUILDERS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(num_hidden_layers=6, **SIZE)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(num_hidden_layers=6, **SIZE)),
    "mpnet": lambda: MPNetForSequenceClassification(MPNetConfig(num_hidden_layers=6, **SIZE)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=30, num_labels=3, dim=8, n_heads=2, hidden_dim=16, n_layers=6)
    ),
}


def make_loss(teacher: list[list[float]], labels: list[int], **changes: float) -> DistillationLoss:
    settings = {"temperature": 2.0, "alpha": 0.75, **changes}
    return DistillationLoss(np.array(teacher), np.array(labels), **settings)


def compute_loss(
    student: list[list[float]], teacher: list[list[float]], labels: list[int], **changes: float
) -> torch.Tensor:
    loss = make_loss(teacher, labels, **changes)
    return loss(torch.tensor(student, dtype=torch.float64), np.arange(len(labels)))


def test_the_loss_by_hand() -> None:
    # At temperature 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2; without it the student says 1/2 too.
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    teacher, student = [[2 * math.log(3), 0.0]], [[0.0, 0.0]]
    labelled = 0.75 * 2**2 * divergence + 0.25 * math.log(2)
    unlabelled = 2**2 * divergence
    assert float(compute_loss(student, teacher, [1])) == pytest.approx(labelled)
    assert float(compute_loss(student, teacher, [-1])) == pytest.approx(unlabelled)
    both = compute_loss(student * 2, teacher * 2, [1, -1])
    assert float(both) == pytest.approx((labelled + unlabelled) / 2)


def test_alpha_weighs_the_teacher_against_the_labels() -> None:
    student, teacher = [[1.0, -1.0, 0.5]], [[-3.0, 2.0, 0.1]]
    hard = float(compute_loss(student, teacher, [2], alpha=0.0))
    assert hard == pytest.approx(-math.log(math.exp(0.5) / (math.e + 1 / math.e + math.exp(0.5))))
    soft = float(compute_loss(student, teacher, [2], alpha=1.0))
    assert soft == pytest.approx(float(compute_loss(student, teacher, [-1], alpha=0.3)))
    assert float(compute_loss(student, teacher, [2], alpha=0.25)) == pytest.approx(0.25 * soft + 0.75 * hard)


@pytest.mark.parametrize("label", [0, -1])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(label: int) -> None:
    logits = [[1.5, -0.5, 0.25]]
    student = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    loss = make_loss(logits, [label], alpha=1.0)
    value = loss(student, np.array([0]))
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


def test_the_loss_looks_up_the_rows_of_the_batch() -> None:
    loss = make_loss([[9.0, 0.0], [0.0, 9.0], [0.0, 0.0]], [0, 1, -1])
    student = torch.tensor([[0.0, 9.0], [9.0, 0.0]], dtype=torch.float64)
    assert float(loss(student, np.array([1, 0]))) < 0.01 < float(loss(student, np.array([0, 1])))


def test_closeness_is_the_loss_turned_around() -> None:
    loss = make_loss([[1.0, 0.0], [0.0, 2.0]], [0, -1])
    one, other = (float(loss(torch.zeros(1, 2, dtype=torch.float64), np.array([row]))) for row in (0, 1))
    assert one != other
    # The standard error of the mean of two values is half their distance.
    assert Closeness(loss)(np.zeros((2, 2))) == pytest.approx((-(one + other) / 2, abs(one - other) / 2))
    assert Closeness(loss)(np.zeros((1, 2))) == pytest.approx((-one, 0.0))


def test_rows_without_a_label_have_no_class() -> None:
    rows = pd.DataFrame({"label": ["good", "", "bad"]})
    assert index_labels(rows, ["bad", "good"]).tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("teacher", "student", "layers"),
    [
        (6, 3, [1, 3, 5]),
        (12, 3, [3, 7, 11]),
        (12, 4, [2, 5, 8, 11]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (12, 1, [11]),
        (6, 4, [1, 2, 3, 5]),
    ],
)
def test_layers_are_evenly_spaced(teacher: int, student: int, layers: list[int]) -> None:
    assert choose_layers(teacher, student) == layers


@given(st.integers(1, 48), st.integers(1, 48))
def test_layers_are_distinct_and_end_with_the_last(one: int, other: int) -> None:
    student, teacher = sorted((one, other))
    layers = choose_layers(teacher, student)
    assert len(set(layers)) == student
    assert layers == sorted(layers)
    assert layers[0] >= 0
    assert layers[-1] == teacher - 1


def test_more_layers_than_the_teacher_has_give_one_sentence() -> None:
    with pytest.raises(ModelError, match=r"`distillation\.layers` is 7, but the teacher has 6: lower it"):
        choose_layers(6, 7)


def compute_logits(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.inference_mode():
        return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_student_is_the_teacher_without_some_layers(kind: str, tmp_path: Path) -> None:
    teacher = BUILDERS[kind]()
    before = compute_logits(teacher)
    student = keep_layers(teacher, 3)
    stack = ".layer."
    kept = {name: weight for name, weight in student.state_dict().items() if stack in name}
    assert {int(name.split(stack)[1].split(".")[0]) for name in kept} == {0, 1, 2}
    theirs = teacher.state_dict()
    for name, weight in student.state_dict().items():
        head, _, rest = name.partition(stack)
        number, _, leaf = rest.partition(".")
        source = f"{head}{stack}{[1, 3, 5][int(number)]}.{leaf}" if rest else name
        assert torch.equal(weight, theirs[source]), name
    torch.testing.assert_close(compute_logits(teacher), before)  # a copy was cut, not the teacher
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.num_hidden_layers == 3
    torch.testing.assert_close(compute_logits(loaded), compute_logits(student))


def test_a_student_of_all_layers_equals_the_teacher() -> None:
    teacher = BUILDERS["bert"]()
    torch.testing.assert_close(compute_logits(keep_layers(teacher, 6)), compute_logits(teacher))


def test_an_encoder_that_shares_its_layers_gives_one_sentence() -> None:
    config = AlbertConfig(embedding_size=8, num_hidden_groups=1, num_hidden_layers=2, **SIZE)
    with pytest.raises(ModelError, match="an encoder of type 'albert' cannot be shortened: choose one like BERT"):
        keep_layers(AlbertForSequenceClassification(config), 1)


def ignore(_item: object) -> None:
    """Count no step."""


def make_distiller(teacher: Path, base: Path, rows: pd.DataFrame, **changes: object) -> Distiller:
    views = Views(rows, Scorer(teacher).compute_logits(rows))
    held_out = Views(rows.iloc[40:], views.logits[40:])
    params = PARAMS.model_copy(update=changes)
    return Distiller(teacher, base, base, views, held_out, params)


def distil(teacher: Path, rows: pd.DataFrame, target: Path, **changes: object) -> np.ndarray:
    """Distil the toy teacher; return the student's probabilities of praise for the rows."""
    make_distiller(teacher, teacher, rows, **changes).distil(1, target, ignore)
    return score_rows(target, rows)[:, 1]


def turn_labels(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(label=rows["label"].map(dict(zip(LABELS, LABELS[::-1], strict=True))))


def test_with_alpha_1_the_student_hears_its_teacher_alone(
    teacher: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    misled = distil(teacher, turn_labels(comments), tmp_path / "misled", alpha=1.0)
    np.testing.assert_array_equal(misled, distil(teacher, comments.assign(label=""), tmp_path / "untold"))
    assert np.corrcoef(misled, score_rows(teacher, comments)[:, 1])[0, 1] > 0.9


def test_with_alpha_0_the_student_hears_the_labels_alone(teacher: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    told = distil(teacher, comments, tmp_path / "told", alpha=0.0)
    misled = distil(teacher, turn_labels(comments), tmp_path / "misled", alpha=0.0)
    praise = comments["label"] == "praise"
    assert told[praise].mean() > misled[praise].mean() + 0.1
    assert told[~praise].mean() < misled[~praise].mean() - 0.1


def test_the_control_is_chosen_by_coded_rows_alone(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    logits = Scorer(teacher).compute_logits(comments)
    whole, coded = Views(comments, logits), Views(comments.iloc[:9], logits[:9])
    mixed = Views(comments.assign(label=comments["label"].where(comments.index < 9, "")), logits)
    for name, held_out in (("coded", coded), ("mixed", mixed)):
        Distiller(teacher, encoder, encoder, whole, held_out, PARAMS).train_alone(1, tmp_path / name, ignore)
    few = Distiller(teacher, encoder, encoder, mixed, coded, PARAMS.model_copy(update={"steps": 1}))
    assert few.train_alone(1, tmp_path / "few", ignore).train_rows == 9  # those without a label teach it nothing
    assert few.distil(1, tmp_path / "all", ignore).train_rows == 60
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("coded", "mixed"))
    assert one == other


def test_without_a_row_that_chooses_all_steps_are_taken(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    logits = Scorer(teacher).compute_logits(comments)
    whole, none = Views(comments, logits), Views(comments.iloc[:0], logits[:0])
    distiller = Distiller(teacher, encoder, encoder, whole, none, PARAMS)
    for train in (distiller.distil, distiller.train_alone):
        assert train(1, tmp_path, ignore).best_step == PARAMS.steps


def test_one_seed_gives_one_student(teacher: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    for name in ("one", "two"):
        distil(teacher, comments, tmp_path / name, steps=10)
    for name in ("model.safetensors", "config.json", "amalgam.json", "tokenizer.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_note(tmp_path / "one") == replace(read_note(teacher), pooling="centred_mean")


def test_the_control_knows_nothing_of_the_teacher(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    params = PARAMS.model_copy(update={"steps": 5})
    for number, logits in enumerate((Scorer(teacher).compute_logits(comments), np.zeros((60, 2)))):
        views = Views(comments, logits)
        distiller = Distiller(teacher, encoder, encoder, views, views, params)
        distiller.train_alone(1, tmp_path / str(number), ignore)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "01")
    assert one == other


@pytest.mark.parametrize("trained", [False, True])
def test_word_embeddings_are_trained_where_the_params_say_so(
    trained: bool, teacher: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    distil(teacher, comments, tmp_path, steps=3, train_embeddings=trained)
    one, other = (load_file(folder / "model.safetensors") for folder in (teacher, tmp_path))
    words, norm = (f"bert.embeddings.{name}.weight" for name in ("word_embeddings", "LayerNorm"))
    assert torch.equal(one[words], other[words]) is not trained
    assert not torch.equal(one[norm], other[norm])


def test_a_student_learns_from_inside_its_teacher(teacher: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    plain, guided = (
        distil(teacher, comments, tmp_path / str(weight), steps=5, hidden=weight, relations=weight)
        for weight in (0.0, 1.0)
    )
    assert not np.array_equal(plain, guided)
    assert json.loads((tmp_path / "1.0/config.json").read_text())["num_hidden_layers"] == 1


def test_an_encoder_of_its_own_may_be_the_student(
    teacher: Path, encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    params = PARAMS.model_copy(update={"student": "some-encoder", "steps": 90, "alpha": 1.0})
    views = Views(comments, Scorer(teacher).compute_logits(comments))
    Distiller(teacher, encoder, encoder, views, views, params).distil(1, tmp_path, ignore)
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 2
    assert np.corrcoef(score_rows(tmp_path, comments)[:, 1], score_rows(teacher, comments)[:, 1])[0, 1] > 0.8
    inside = params.model_copy(update={"hidden": 1.0})
    with pytest.raises(ModelError, match=r"cuts texts into other tokens than its teacher: set `distillation\.hidden`"):
        Distiller(teacher, encoder, encoder, views, views, inside)


def test_a_tiny_student_takes_the_words_of_its_teacher() -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=300, num_labels=2, hidden_size=192, num_attention_heads=2, intermediate_size=16)
    big = BertForSequenceClassification(config)
    tiny = build_student("tiny", big, Path("nowhere"), ["bad", "good"], 3)
    assert (tiny.config.num_hidden_layers, tiny.config.hidden_size) == (2, 128)
    words, theirs = (model.get_input_embeddings().weight.detach() for model in (tiny, big))
    assert words.shape == (300, 128)
    centred = theirs - theirs.mean(0)
    distances = [torch.pdist(vectors) for vectors in (words, centred)]
    assert torch.corrcoef(torch.stack(distances))[0, 1] > 0.8  # near words stay near
    with pytest.raises(ModelError, match="smaller than a `tiny` student"):
        build_student("tiny", BUILDERS["bert"](), Path("nowhere"), ["a", "b", "c"], 3)
