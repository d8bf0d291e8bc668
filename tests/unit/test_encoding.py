"""Texts as tokens, batches and vectors; encoders that are shortened, cut in two, and given the mean as a layer."""

import copy
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    pipeline,
)

from amalgam.errors import ModelError
from amalgam.shipping.export import export_onnx, write_weights
from amalgam.shipping.onnx import FLOAT, OnnxScorer
from amalgam.training.checkpoint import Config, read_config, save_checkpoint
from amalgam.training.classifier import add_pooling, append_pooling, keep_layers
from amalgam.training.embeddings import embed_rows, fit_baseline
from amalgam.training.encoding import Encoded, cut_model, draw_batches, encode_rows, hold_lower, load_tokenizer
from amalgam.training.student import SoftTargets, train_student
from tests.pipeline.toy import LABELS
from tests.unit.training import DISTILLATION, score_rows

ORDER = ["praise", "complaint"]  # not alphabetical, as scikit-learn would order them
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=90).map(np.array)


@pytest.fixture(scope="module")
def tokenizer(encoder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(encoder)


def make_rows(texts: list[str], questions: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"text": texts, "question": questions}, dtype=str)


def decode(tokenizer: PreTrainedTokenizerBase, encoded: Encoded) -> list[str]:
    return [tokenizer.decode(feature["input_ids"]) for feature in encoded.features]


def test_a_question_is_the_second_segment(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode_rows(tokenizer, make_rows(["rude", "cold"], ["the coffee", ""]), 20)
    assert decode(tokenizer, encoded) == ["[CLS] rude [SEP] the coffee [SEP]", "[CLS] cold [SEP] [SEP]"]
    assert encoded.features[0]["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    rows = make_rows(["rude rude", "cold " * 99], ["coffee " * 99, "coffee"])
    assert decode(tokenizer, encode_rows(tokenizer, rows, 10)) == [  # a long question never pushes out the response
        "[CLS] rude rude [SEP] coffee coffee coffee coffee coffee [SEP]",
        "[CLS] cold cold cold cold cold cold [SEP] coffee [SEP]",
    ]


@pytest.mark.parametrize("question", ["", "Why?"])
def test_any_text_fits_the_context(tokenizer: PreTrainedTokenizerBase, question: str) -> None:
    texts = ["", "👍🏽 😀", "שלום עולם", "\u202ecold\u202c", "\x00", "x" * 500, "cold " * 500]
    for length in (8, 8192):  # the model's own limit is 64
        encoded = encode_rows(tokenizer, make_rows(texts, [question] * len(texts)), length)
        assert encoded.lengths.min() >= 2
        assert encoded.lengths.max() == min(length, 64)


@settings(max_examples=50)
@given(LENGTHS, st.integers(1, 9), st.integers(0, 99))
def test_every_epoch_holds_every_row_once(lengths: np.ndarray, size: int, seed: int) -> None:
    batches, again = (draw_batches(lengths, size, np.random.default_rng(seed)) for _ in range(2))
    epoch = -(-len(lengths) // size)
    for _ in range(3):
        drawn = list(islice(batches, epoch))
        assert all(map(np.array_equal, drawn, again))
        assert sorted(np.concatenate(drawn)) == list(range(len(lengths)))
        assert max(map(len, drawn)) <= size


def test_embeddings_have_length_1_and_the_order_of_the_rows(encoder: Path, comments: pd.DataFrame) -> None:
    rows = pd.concat([comments, make_rows(["", "👍🏽", "cold " * 500], [""] * 3)])
    vectors = embed_rows(encoder, rows, max_length=32)
    assert vectors.shape == (63, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    # Padding is not part of the mean, so a row has the same vector alone and next to longer rows.
    np.testing.assert_allclose(vectors[[5]], embed_rows(encoder, rows.iloc[[5]], max_length=32), atol=1e-5)


def test_a_baseline_tells_labels_apart_and_validation_rows_choose_its_strength(
    teacher: Path, comments: pd.DataFrame
) -> None:
    train, held_out, rows = comments.iloc[:30], comments.iloc[30:40], comments.iloc[40:]
    for encoder in (None, teacher):  # random weights would give useless embeddings
        found, strength = fit_baseline(train, held_out, rows, ORDER, encoder=encoder, max_length=32)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert strength in (0.1, 1.0, 10.0, 100.0)
        assert (np.array(ORDER)[found.argmax(axis=1)] == rows["label"]).mean() > 0.7
    turned = train.assign(label=train["label"].map({"praise": "complaint", "complaint": "praise"}))
    # If the validation rows agree with the train rows, a close fit is best; if they contradict them, a cautious one.
    assert fit_baseline(train, train, rows, ORDER)[1] == 100.0
    assert fit_baseline(train, turned, rows, ORDER)[1] == 0.1
    # A label without train rows has probability 0; the chosen model may be fitted again, on validation rows too.
    assert (fit_baseline(train, train, rows, [*ORDER, "neither"])[0][:, 2] == 0).all()
    once, again = (fit_baseline(train, train[:9], rows, ORDER, refit=refit) for refit in (False, True))
    assert once[1] == again[1]
    assert np.abs(once[0] - again[0]).max() > 1e-3


SIZE = {"vocab_size": 30, "num_labels": 3, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 6}
WIDTHS = {"distilbert": {"hidden_dim": 16}, "electra": {"embedding_size": 4}, "albert": {"embedding_size": 8}}
KINDS = ("bert", "roberta", "distilbert", "mpnet")
BATCH = {
    "input_ids": torch.arange(2, 26).reshape(3, 8),
    "attention_mask": torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] + [0] * 7]),
}


def build_encoder(kind: str, **changes: object) -> PreTrainedModel:
    """Build a small encoder whose weights are as far from each other as trained ones are."""
    torch.manual_seed(3)
    widths = WIDTHS.get(kind, {}) | ({} if kind == "distilbert" else {"intermediate_size": 16})
    config = AutoConfig.for_model(kind, initializer_range=0.5, **SIZE | widths | changes)
    return AutoModelForSequenceClassification.from_config(config).eval()


def compute_logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(**BATCH)["logits"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_lowest_layers_are_kept_and_all_but_layers(kind: str, tmp_path: Path) -> None:
    model = build_encoder(kind)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
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
    model = build_encoder("albert", num_hidden_groups=1)
    with pytest.raises(ModelError, match="an encoder of type 'albert' cannot be shortened: choose one like BERT"):
        keep_layers(model, 1)
    encoded = encode_rows(load_tokenizer(encoder), comments, 24)
    upper, read = hold_lower(model, 1)
    assert upper is model
    assert read(encoded) is encoded
    assert not model.albert.embeddings.word_embeddings.weight.requires_grad


@pytest.mark.parametrize("frozen", [0, 2, 5])
@pytest.mark.parametrize("kind", [*KINDS, "electra"])
def test_both_parts_together_are_the_whole(kind: str, frozen: int) -> None:
    model, mask = build_encoder(kind), BATCH["attention_mask"]
    with torch.no_grad():
        parts = cut_model(model, frozen)
        assert parts
        states = parts[0](**BATCH).last_hidden_state * mask.unsqueeze(-1)  # padding has none
        found = parts[1](inputs_embeds=states, attention_mask=mask, output_hidden_states=True)
        torch.testing.assert_close(found.logits, model(**BATCH).logits, atol=1e-4, rtol=0)
        assert len(found.hidden_states) == 7 - frozen
    assert {*map(id, parts[1].parameters())} < {*map(id, model.parameters())}  # they share their weights


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_computes_the_mean_that_the_head_learned_to_read(kind: str, tmp_path: Path) -> None:
    model = build_encoder(kind, num_hidden_layers=2)
    longer = copy.deepcopy(model)
    append_pooling(longer)
    longer.save_pretrained(tmp_path)
    expected = compute_logits(add_pooling(model, "centred_mean"))
    assert expected.std() > 0.1
    found = compute_logits(AutoModelForSequenceClassification.from_pretrained(tmp_path))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def ship(student: Path, target: Path, bases: list[Path], rows: pd.DataFrame) -> np.ndarray:
    """Write what ships; check that `transformers` alone scores the rows as ONNX does; return the scores."""
    write_weights(student, target, bases)
    assert len({path.stat().st_mode for path in target.iterdir()}) == 1  # whoever reads one file reads all
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
    student = tmp_path / "student"
    train_student(teacher, (teacher, teacher), targets, targets, DISTILLATION, 1, student, lambda _item: None)
    ship(student, tmp_path / "shipped", [teacher], comments)


def test_transformers_reads_what_ships_of_mpnet(encoder: Path, comments: pd.DataFrame, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder, model_input_names=["input_ids", "attention_mask"])
    model = build_encoder("mpnet", vocab_size=len(tokenizer), pad_token_id=0, num_labels=2, num_hidden_layers=2)
    save_checkpoint(model, tokenizer, tmp_path / "student", Config(list(LABELS), 1000, False, "centred_mean"))
    found = ship(tmp_path / "student", tmp_path / "shipped", [], comments)
    assert read_config(tmp_path / "shipped").max_length == 64  # no more than the encoder can read
    batch = tokenizer(comments["text"].tolist(), padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = add_pooling(model, "centred_mean")(**batch)["logits"].softmax(1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
