from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from amalgam.training.embeddings import embed_rows, fit_baseline
from amalgam.training.encoding import Encoded, draw_batches, encode_rows, load_tokenizer

LABELS = ["praise", "complaint"]  # not in alphabetical order, in which scikit-learn would put them
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
    # A long one never pushes out the response.
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
    # Padding is no part of the mean, so a row has the same vector alone and beside longer ones.
    np.testing.assert_allclose(vectors[[5]], embed_rows(encoder, rows.iloc[[5]], max_length=32), atol=1e-5)
    assert np.abs(vectors[5] - vectors[6]).max() > 1e-3


@pytest.mark.parametrize("method", ["tfidf", "embedding"])
def test_probabilities_are_in_the_order_of_the_labels(method: str, teacher: Path, comments: pd.DataFrame) -> None:
    parts = comments.iloc[:30], comments.iloc[30:40], comments.iloc[40:]
    if method == "tfidf":
        probabilities, strength = fit_baseline(*parts, LABELS)
    else:
        # Random weights would embed nothing of use; any folder with an encoder will do.
        probabilities, strength = fit_baseline(*parts, LABELS, encoder=teacher, max_length=32)
    assert probabilities.shape == (20, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert strength in (0.1, 1.0, 10.0, 100.0)
    assert (np.array(LABELS)[probabilities.argmax(axis=1)] == parts[2]["label"]).mean() > 0.7


def test_the_validation_rows_choose_the_strength(comments: pd.DataFrame) -> None:
    train, rows = comments.iloc[:30], comments.iloc[40:]
    turned = train.assign(label=train["label"].map({"praise": "complaint", "complaint": "praise"}))
    # Where the validation rows say what the train rows say, trust is best; where they say the opposite, caution.
    assert fit_baseline(train, train, rows, LABELS)[1] == 100.0
    assert fit_baseline(train, turned, rows, LABELS)[1] == 0.1
    # A label without train rows has no probability; what was chosen may be fitted once more, on validation rows too.
    assert (fit_baseline(train, train, rows, [*LABELS, "neither"])[0][:, 2] == 0).all()
    (once, strength), (again, same) = (
        fit_baseline(train, train[:9], rows, LABELS, refit=refit) for refit in (False, True)
    )
    assert strength == same
    assert np.abs(once - again).max() > 1e-3
