from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amalgam.training.embeddings import embed_rows, fit_embedding, fit_tfidf

LABELS = ["praise", "complaint"]  # not in alphabetical order, in which scikit-learn would put them


def make_rows(texts: list[str], question: str = "") -> pd.DataFrame:
    return pd.DataFrame({"text": texts, "question": question}, dtype=str)


def test_embeddings_have_length_1_and_the_order_of_the_rows(encoder: Path, comments: pd.DataFrame) -> None:
    rows = pd.concat([comments, make_rows(["", "👍🏽", "cold " * 500])])
    vectors = embed_rows(encoder, rows, max_length=32)
    assert vectors.shape == (63, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    # Padding is no part of the mean, so a row has the same vector alone and beside longer ones.
    np.testing.assert_allclose(vectors[[5]], embed_rows(encoder, rows.iloc[[5]], max_length=32), atol=1e-5)
    assert np.abs(vectors[5] - vectors[6]).max() > 1e-3


def test_a_question_is_a_part_of_what_is_embedded(encoder: Path) -> None:
    bare, asked = (embed_rows(encoder, make_rows(["rude"], question), max_length=32) for question in ("", "the coffee"))
    assert np.abs(bare - asked).max() > 1e-3


@pytest.mark.parametrize("method", ["tfidf", "embedding"])
def test_probabilities_are_in_the_order_of_the_labels(method: str, teacher: Path, comments: pd.DataFrame) -> None:
    train, validation, rows = comments.iloc[:30], comments.iloc[30:40], comments.iloc[40:]
    if method == "tfidf":
        probabilities, strength = fit_tfidf(train, validation, rows, LABELS)
    else:
        # Random weights would embed nothing of use; any folder with an encoder will do.
        probabilities, strength = fit_embedding(teacher, train, validation, rows, LABELS, max_length=32)
    assert probabilities.shape == (20, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert strength in (0.1, 1.0, 10.0, 100.0)
    right = np.array(LABELS)[probabilities.argmax(axis=1)] == rows["label"]
    assert right.mean() > 0.7


def test_the_validation_rows_choose_the_strength(comments: pd.DataFrame) -> None:
    train, rows = comments.iloc[:30], comments.iloc[40:]
    turned = train.assign(label=train["label"].map({"praise": "complaint", "complaint": "praise"}))
    # Where the validation rows say what the train rows say, trust is best; where they say the opposite, caution.
    assert fit_tfidf(train, train, rows, LABELS)[1] == 100.0
    assert fit_tfidf(train, turned, rows, LABELS)[1] == 0.1


@pytest.mark.parametrize("method", ["tfidf", "embedding"])
def test_what_is_chosen_is_fitted_once_more_on_all_rows(method: str, teacher: Path, comments: pd.DataFrame) -> None:
    def fit(train: pd.DataFrame, *, refit: bool) -> tuple[np.ndarray, float]:
        rows = train, comments.iloc[30:40], comments.iloc[40:], LABELS
        if method == "tfidf":
            return fit_tfidf(*rows, refit=refit)
        return fit_embedding(teacher, *rows, max_length=32, refit=refit)

    once, again, whole = (
        fit(comments[:30], refit=False),
        fit(comments[:30], refit=True),
        fit(comments[:40], refit=False),
    )
    assert again[1] == once[1]
    if whole[1] == once[1]:
        np.testing.assert_allclose(again[0], whole[0], atol=1e-3)
    assert np.abs(again[0] - once[0]).max() > 1e-3


def test_a_label_without_train_rows_has_no_probability(comments: pd.DataFrame) -> None:
    labels = ["praise", "neither", "complaint"]
    validation = comments.iloc[30:40].assign(label=["neither", *comments["label"].iloc[31:40]])
    probabilities, _ = fit_tfidf(comments.iloc[:30], validation, comments.iloc[40:], labels)
    assert (probabilities[:, 1] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_texts_without_a_known_word_have_a_probability(comments: pd.DataFrame) -> None:
    probabilities, _ = fit_tfidf(comments.iloc[:30], comments.iloc[30:40], make_rows(["", "👍🏽", "שלום"]), LABELS)
    assert np.isfinite(probabilities).all()
