from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from amalgam.training.encoding import Encoded, draw_batches, encode_rows, load_tokenizer, sort_batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=90).map(np.array)


@pytest.fixture(scope="module")
def tokenizer(encoder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(encoder)


def make_rows(texts: list[str], questions: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"text": texts, "question": questions or [""] * len(texts)}, dtype=str)


def decode(tokenizer: PreTrainedTokenizerBase, encoded: Encoded) -> list[str]:
    return [tokenizer.decode(feature["input_ids"]) for feature in encoded.features]


def test_rows_become_token_ids(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = make_rows(["The coffee was fresh.", "rude"])
    encoded = encode_rows(tokenizer, rows, 20)
    assert decode(tokenizer, encoded)[1] == "[CLS] rude [SEP]"
    assert encoded.lengths.tolist() == [len(feature["input_ids"]) for feature in encoded.features]
    assert len(encoded) == 2


def test_a_question_is_the_second_segment(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode_rows(tokenizer, make_rows(["rude", "cold"], ["the coffee", ""]), 20)
    assert decode(tokenizer, encoded) == ["[CLS] rude [SEP] the coffee [SEP]", "[CLS] cold [SEP] [SEP]"]
    assert encoded.features[0]["token_type_ids"] == [0, 0, 0, 1, 1, 1]


def test_a_long_question_never_pushes_out_the_response(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = make_rows(["rude rude", "cold " * 99], ["coffee " * 99, "coffee"])
    first, second = decode(tokenizer, encode_rows(tokenizer, rows, 10))
    assert first == "[CLS] rude rude [SEP] coffee coffee coffee coffee coffee [SEP]"
    assert second == "[CLS] cold cold cold cold cold cold [SEP] coffee [SEP]"


@pytest.mark.parametrize(
    "text", ["", "  ", "👍🏽 😀", "שלום עולם", "\u202ecold\u202c", "\x00", "x" * 500, "cold " * 500]
)
@pytest.mark.parametrize("question", ["", "Why?"])
def test_any_text_fits_the_context(tokenizer: PreTrainedTokenizerBase, text: str, question: str) -> None:
    for length in (8, 64, 8192):  # the model's own limit is 64
        encoded = encode_rows(tokenizer, make_rows([text], [question]), length)
        assert 2 <= encoded.lengths[0] <= min(length, 64)
        assert set(encoded.features[0]["attention_mask"]) == {1}


def test_a_batch_is_padded_to_its_longest_row(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode_rows(tokenizer, make_rows(["rude", "cold " * 5, "cold " * 30]), 64)
    batch = encoded.pad(np.array([1, 0]))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 7)
    assert batch["attention_mask"].sum(1).tolist() == [7, 3]
    assert batch["input_ids"][1, 3:].tolist() == [tokenizer.pad_token_id] * 4


@settings(max_examples=50)
@given(LENGTHS, st.integers(1, 9), st.integers(0, 99))
def test_every_epoch_holds_every_row_once(lengths: np.ndarray, size: int, seed: int) -> None:
    batches = draw_batches(lengths, size, np.random.default_rng(seed))
    epoch = -(-len(lengths) // size)
    for _ in range(3):
        drawn = list(islice(batches, epoch))
        assert sorted(np.concatenate(drawn)) == list(range(len(lengths)))
        assert max(map(len, drawn)) <= size


def test_batches_are_drawn_by_the_seed_alone() -> None:
    lengths = np.arange(200) % 50 + 1
    one, again, other = (
        [batch.tolist() for batch in islice(draw_batches(lengths, 8, np.random.default_rng(seed)), 50)]
        for seed in (1, 1, 2)
    )
    assert one == again != other
    assert one[:25] != one[25:]


def test_batches_hold_rows_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 512)
    spreads = [np.ptp(lengths[batch]) for batch in islice(draw_batches(lengths, 16, np.random.default_rng(0)), 32)]
    assert np.mean(spreads) < 15  # of batches drawn at random it is about 90


@given(LENGTHS, st.integers(1, 9))
def test_sorted_batches_hold_every_row_once_the_longest_first(lengths: np.ndarray, size: int) -> None:
    order = np.concatenate(list(sort_batches(lengths, size)))
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()
