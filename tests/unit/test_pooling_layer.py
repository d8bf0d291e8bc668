"""The mean of all tokens as a layer: what ships is what was trained, in the hands of `transformers` alone."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from amalgam.errors import ModelError
from amalgam.predicting.onnx import OnnxScorer
from amalgam.shipping.export import FLOAT, export_onnx
from amalgam.shipping.weights import write_weights
from amalgam.training.checkpoint import read_note
from amalgam.training.classifier import add_pooling, pool_mean
from amalgam.training.pooling_layer import append_pooling
from amalgam.training.scoring import score_rows
from amalgam.training.student import Distiller, Views, choose_pooling
from tests.unit.training import DISTILLATION

COMMON = {"vocab_size": 30, "num_labels": 3, "initializer_range": 0.5}  # as far from each other as trained ones are
SIZE = {**COMMON, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2}
BUILDERS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZE)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SIZE)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(**COMMON, dim=16, n_heads=2, hidden_dim=16, n_layers=2)
    ),
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
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert loaded.config.num_hidden_layers == 3


def test_a_centred_mean_has_length_1_and_no_mean() -> None:
    states = torch.tensor([[[4.0, 0.0, 2.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]])
    found = pool_mean(states, torch.tensor([[1, 1, 0]]), centred=True)
    torch.testing.assert_close(found, torch.tensor([[1.0, -1.0, 0.0]]) / 2**0.5)


def test_the_mean_is_taken_where_it_can_ship() -> None:
    mpnet = MPNetForSequenceClassification(MPNetConfig(**SIZE))
    bert = BUILDERS["bert"]()
    assert [choose_pooling(bert, wanted) for wanted in (None, "mean", "cls")] == ["centred_mean", "centred_mean", "cls"]
    assert [choose_pooling(mpnet, wanted) for wanted in (None, "cls")] == ["cls", "cls"]
    with pytest.raises(ModelError, match=r"of type 'mpnet' cannot take the mean .* set `distillation\.pooling` to cls"):
        choose_pooling(mpnet, "mean")


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_transformers_says_of_what_ships_what_the_student_said(
    pooling: str, teacher: Path, comments: pd.DataFrame, tmp_path: Path
) -> None:
    student, shipped = tmp_path / "student", tmp_path / "shipped"
    views = Views(comments, np.log(score_rows(teacher, comments)))
    params = DISTILLATION.model_copy(update={"pooling": pooling})
    Distiller(teacher, teacher, teacher, views, views, params).distil(1, student, lambda _item: None)
    write_weights(student, shipped)
    export_onnx(student, shipped / FLOAT)
    expected = OnnxScorer(shipped / FLOAT, shipped).score(comments)
    assert expected[:, 0].std() > 0.1

    classify = pipeline("text-classification", str(shipped), top_k=None, device="cpu")
    note = read_note(shipped)
    answers = classify(comments["text"].tolist(), truncation=True, max_length=note.max_length)
    found = [[{one["label"]: one["score"] for one in answer}[label] for label in note.labels] for answer in answers]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(score_rows(shipped, comments), score_rows(student, comments), atol=0.02)  # in bfloat16
