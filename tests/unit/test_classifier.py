"""Encoders that are shortened, cut in two, and given the mean of all tokens as a layer."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, pipeline

from amalgam.errors import ModelError
from amalgam.shipping.export import export_onnx, write_weights
from amalgam.shipping.onnx import FLOAT, OnnxScorer
from amalgam.training.checkpoint import Config, read_config, save_checkpoint, score_rows
from amalgam.training.classifier import add_pooling, append_pooling, keep_layers
from amalgam.training.encoding import cut_model, encode_rows, freeze_lower, hold_lower, load_tokenizer
from amalgam.training.student import SoftTargets, train_student
from tests.pipeline.toy import LABELS
from tests.unit.training import DISTILLATION

SIZE = {"vocab_size": 30, "num_labels": 3, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 6}
WIDTHS = {"distilbert": {"hidden_dim": 16}, "electra": {"embedding_size": 4}, "albert": {"embedding_size": 8}}
KINDS = ("bert", "roberta", "distilbert", "mpnet")
BATCH = {
    "input_ids": torch.arange(2, 26).reshape(3, 8),
    "attention_mask": torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] + [0] * 7]),
}


def build(kind: str, **changes: object) -> PreTrainedModel:
    """Build a small encoder whose weights are as far from each other as trained ones are."""
    torch.manual_seed(3)
    widths = WIDTHS.get(kind, {}) | ({} if kind == "distilbert" else {"intermediate_size": 16})
    config = AutoConfig.for_model(kind, initializer_range=0.5, **SIZE | widths | changes)
    return AutoModelForSequenceClassification.from_config(config).eval()


def compute_logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(**BATCH).logits


@pytest.mark.parametrize("kind", KINDS)
def test_the_lowest_layers_are_kept_and_all_but_layers(kind: str, tmp_path: Path) -> None:
    model = build(kind)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    logits = compute_logits(model)
    keep_layers(model, 6)
    assert torch.equal(compute_logits(model), logits)
    with pytest.raises(ModelError, match=r"`distillation\.layers` is 7, but the encoder has 6: lower it"):
        keep_layers(model, 7)
    keep_layers(model, 3)
    after = model.state_dict()
    assert {name.split(".layer.")[1][0] for name in before.keys() - after.keys()} == {"3", "4", "5"}
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(compute_logits(loaded), compute_logits(model))


def test_an_encoder_that_shares_its_layers_is_neither_shortened_nor_cut(encoder: Path, comments: pd.DataFrame) -> None:
    model = build("albert", num_hidden_groups=1)
    with pytest.raises(ModelError, match="an encoder of type 'albert' cannot be shortened: choose one like BERT"):
        keep_layers(model, 1)
    encoded = encode_rows(load_tokenizer(encoder), comments, 24)
    freeze_lower(model, 1)
    with hold_lower(model, 1) as read:
        assert read(encoded) is encoded
    assert not model.albert.embeddings.word_embeddings.weight.requires_grad


@pytest.mark.parametrize("frozen", [0, 2, 5])
@pytest.mark.parametrize("kind", [*KINDS, "electra"])
def test_both_parts_together_are_the_whole(kind: str, frozen: int) -> None:
    model, mask = build(kind), BATCH["attention_mask"]
    with torch.no_grad():
        expected, logits = model.base_model(**BATCH).last_hidden_state, model(**BATCH).logits
        with cut_model(model, frozen) as lower:
            assert lower is not None
            states = lower(**BATCH).last_hidden_state * mask.unsqueeze(-1)  # padding has none
            upper = {"inputs_embeds": states, "attention_mask": mask}
            found = model.base_model(**upper).last_hidden_state
            torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=1e-4, rtol=0)
            torch.testing.assert_close(model(**upper).logits, logits, atol=1e-4, rtol=0)
        torch.testing.assert_close(model(**BATCH).logits, logits)  # it is whole again


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_computes_the_mean_that_the_head_learned_to_read(kind: str, tmp_path: Path) -> None:
    model = build(kind, num_hidden_layers=2)
    longer = copy.deepcopy(model)
    append_pooling(longer)
    longer.save_pretrained(tmp_path)
    expected = compute_logits(add_pooling(model, "centred_mean"))
    assert expected.std() > 0.1
    found = compute_logits(AutoModelForSequenceClassification.from_pretrained(tmp_path))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


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


def test_transformers_reads_what_ships(teacher: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    targets = SoftTargets(comments.assign(origin="human"), np.log(score_rows(teacher, comments)))
    where = 1, tmp_path / "student", lambda _item: None
    train_student(teacher, (teacher, teacher), targets, targets, DISTILLATION, *where)
    ship(tmp_path / "student", tmp_path / "shipped", [teacher], comments)


def test_transformers_reads_what_ships_of_mpnet(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder, model_input_names=["input_ids", "attention_mask"])
    model = build("mpnet", vocab_size=len(tokenizer), pad_token_id=0, num_labels=2, num_hidden_layers=2)
    save_checkpoint(model, tokenizer, tmp_path / "student", Config(list(LABELS), 24, False, "centred_mean"))
    found = ship(tmp_path / "student", tmp_path / "shipped", [], comments)
    batch = tokenizer(comments["text"].tolist(), truncation=True, max_length=24, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = add_pooling(model, "centred_mean")(**batch).logits.softmax(1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
