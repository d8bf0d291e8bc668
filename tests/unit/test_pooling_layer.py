"""The mean of all tokens as a layer: what ships is what was trained, in the hands of `transformers` alone."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from amalgam.shipping.export import FLOAT, export_onnx, write_weights
from amalgam.shipping.onnx import OnnxScorer
from amalgam.training.checkpoint import Config, read_config, save_checkpoint
from amalgam.training.classifier import add_pooling, append_pooling, choose_pooling, pool_mean
from amalgam.training.scoring import score_rows
from amalgam.training.student import SoftTargets, train_student
from tests.pipeline.toy import LABELS
from tests.unit.training import DISTILLATION

COMMON = {"vocab_size": 30, "num_labels": 3, "initializer_range": 0.5}  # as far from each other as trained ones are
SIZE = {**COMMON, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2}
BUILDERS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZE)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SIZE)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(**COMMON, dim=16, n_heads=2, hidden_dim=16, n_layers=2)
    ),
    "mpnet": lambda: MPNetForSequenceClassification(MPNetConfig(**SIZE)),
}
BATCH = {
    "input_ids": torch.arange(2, 26).reshape(3, 8),
    "attention_mask": torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] + [0] * 7]),
}


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_layer_computes_the_mean_that_the_head_learned_to_read(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = BUILDERS[kind]().eval()
    longer = copy.deepcopy(model)
    append_pooling(longer)
    longer.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        expected = add_pooling(model, "centred_mean").eval()(**BATCH).logits
        found = loaded(**BATCH).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
    assert loaded.config.num_hidden_layers == 3


def test_a_centred_mean_has_length_1_and_no_mean() -> None:
    states = torch.tensor([[[4.0, 0.0, 2.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]])
    found = pool_mean(states, torch.tensor([[1, 1, 0]]), centred=True)
    torch.testing.assert_close(found, torch.tensor([[1.0, -1.0, 0.0]]) / 2**0.5)


def test_in_mpnet_a_token_counts_by_its_distance() -> None:
    torch.manual_seed(3)
    model = BUILDERS["mpnet"]().eval()
    table = model.base_model.encoder.relative_attention_bias.weight.data
    weighed = add_pooling(model, "centred_mean")
    with torch.inference_mode():
        found = weighed(**BATCH).logits
        table.zero_()
        states = model.base_model(**BATCH).last_hidden_state
        alike = pool_mean(states, BATCH["attention_mask"], centred=True)
        torch.testing.assert_close(weighed.embed(**BATCH), alike)
        assert (weighed(**BATCH).logits - found).abs().max() > 0.1


def test_the_mean_is_taken_where_it_can_ship() -> None:
    assert {choose_pooling(build()) for build in BUILDERS.values()} == {"centred_mean"}
    config = ElectraConfig(**SIZE, embedding_size=8)
    assert choose_pooling(ElectraForSequenceClassification(config)) == "cls"


def ship(student: Path, target: Path, bases: list[Path], rows: pd.DataFrame) -> np.ndarray:
    """Write what ships; check that `transformers` alone says what ONNX says of the rows, and return that."""
    write_weights(student, target, bases)
    export_onnx({student: target / FLOAT}, bases)
    expected = OnnxScorer(target / FLOAT, target).score(rows)
    classify = pipeline("text-classification", str(target), top_k=None, device="cpu")
    config = read_config(target)
    answers = classify(rows["text"].tolist(), truncation=True, max_length=config.max_length)
    found = [[{one["label"]: one["score"] for one in answer}[label] for label in config.labels] for answer in answers]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(score_rows(target, rows), score_rows(student, rows, bases), atol=0.02)  # in bfloat16
    assert expected[:, 0].std() > 0.03
    return np.array(expected)


def test_transformers_says_of_what_ships_what_the_student_said(
    teacher: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    targets = SoftTargets(comments, np.log(score_rows(teacher, comments)))
    where = 1, tmp_path / "student", lambda _item: None
    train_student(teacher, (teacher, teacher), targets, targets, DISTILLATION, *where)
    ship(tmp_path / "student", tmp_path / "shipped", [teacher], comments)


def test_what_ships_of_mpnet_says_what_the_trained_module_said(
    encoder: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    tokenizer = AutoTokenizer.from_pretrained(encoder, model_input_names=["input_ids", "attention_mask"])
    size = {**SIZE, "vocab_size": len(tokenizer), "pad_token_id": 0, "num_labels": 2}
    model = MPNetForSequenceClassification(MPNetConfig(**size)).eval()
    save_checkpoint(model, tokenizer, tmp_path / "student", Config(list(LABELS), 24, False, "centred_mean"))
    found = ship(tmp_path / "student", tmp_path / "shipped", [], comments)
    batch = tokenizer(comments["text"].tolist(), truncation=True, max_length=24, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = add_pooling(model, "centred_mean")(**batch).logits.softmax(1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
