"""Rows of equal text that are coded differently: at least one of the codes is wrong, and nobody knows which."""

import pandas as pd

from amalgam.errors import DataError
from amalgam.tasks.texts import fold_text

_SHOWN = 40  # characters of a text in a sentence


def drop_contradictions(rows: pd.DataFrame) -> pd.DataFrame:
    """Drop every row whose text, to the same question, also stands with another label."""
    return rows[_count_labels(rows) == 1].reset_index(drop=True)


def describe_contradictions(rows: pd.DataFrame) -> str:
    """Say how many rows `drop_contradictions` drops, with two of them as an example; nothing where it drops none."""
    found = rows[_count_labels(rows) > 1]
    if found.empty:
        return ""
    first = found.iloc[0]
    equal = (found["question"] == first["question"]) & (found["text"].map(fold_text) == fold_text(first["text"]))
    other = found[equal & (found["label"] != first["label"])].iloc[0]
    one, two = (f"{row['id']} ('{_shorten(row['text'])}', {row['label']})" for row in (first, other))
    return f"{len(found)} rows were left out, since their text also stands with another label, as in {one} and {two}"


def check_left(rows: pd.DataFrame, labels: list[str], described: str) -> None:
    """Refuse rows of which contradictions leave none of a label.

    Args:
        rows: what `drop_contradictions` left.
        labels: of the task.
        described: what `describe_contradictions` said.

    Raises:
        DataError: with that sentence.
    """
    if missing := sorted(set(labels) - set(rows["label"])):
        raise DataError(
            f"{described}; none is left that is coded {missing[0]}: correct the codes, so that equal texts have one"
        )


def _count_labels(rows: pd.DataFrame) -> "pd.Series[int]":
    return rows.groupby([rows["question"], rows["text"].map(fold_text)])["label"].transform("nunique")


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
