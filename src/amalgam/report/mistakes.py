"""The test rows that the student gets wrong, most confident first."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from amalgam.evaluation.predictions import Floats
from amalgam.report.browser import Browser, Cell, build_browser, cut_text, thin_rows
from amalgam.report.phrases import MODEL_NAMES, format_count

MODEL = "student"
_OTHERS = ("teacher", "human_only")  # whose label stands beside it, where they are there


def list_mistakes(rows: pd.DataFrame, stacks: Mapping[str, Floats], labels: Sequence[str]) -> list[dict[str, Any]]:
    """List the test rows whose label the student gets wrong, by the mean of its seeds' probabilities.

    Args:
        rows: test rows (text, question, label, and the raters' labels in rater1, rater2, ..., where there are any).
        stacks: probabilities [s seeds, n rows, k labels] by model.
        labels: in class order.

    Returns:
        Of each row: text, question, actual, predicted, probability (of the predicted label), wrong and seeds (how
        many of them are wrong), raters, and others (label by model); the most probable first.
    """
    means = {model: stack.mean(axis=0) for model, stack in stacks.items() if model in (MODEL, *_OTHERS)}
    raters = [str(name) for name in rows if str(name).startswith("rater")]
    found = []
    for number, row in enumerate(rows.to_dict("records")):
        predicted = labels[means[MODEL][number].argmax()]
        if predicted == row["label"]:
            continue
        votes = stacks[MODEL][:, number].argmax(axis=1)
        found.append(
            {
                "text": row["text"],
                "question": row["question"],
                "actual": row["label"],
                "predicted": predicted,
                "probability": float(means[MODEL][number].max()),
                "wrong": sum(labels[vote] != row["label"] for vote in votes),
                "seeds": len(votes),
                "raters": ", ".join(row[name] for name in raters if row[name]),
                "others": {model: labels[means[model][number].argmax()] for model in _OTHERS if model in means},
            }
        )
    return sorted(found, key=lambda mistake: -mistake["probability"])


def browse_mistakes(mistakes: Sequence[Mapping[str, Any]], tested: int, *, limit: int, size: int) -> Browser | None:
    """Put mistakes, of `tested` test rows, into a table to look through: at most `limit` rows and `size` bytes."""
    if not mistakes:
        return None
    shown = thin_rows([{**row, "text": cut_text(row["text"])} for row in mistakes[:limit]], size)
    others = list(shown[0]["others"])
    raters = any(row["raters"] for row in shown)
    head = [
        "Response",
        "Human label",
        "Student",
        *(["Raters"] if raters else []),
        *(MODEL_NAMES[name] for name in others),
    ]
    rows: list[list[Cell]] = [
        [
            (row["text"], row["question"]),
            row["actual"],
            (row["predicted"], _phrase_certainty(row)),
            *([row["raters"]] if raters else []),
            *(row["others"][name] for name in others),
        ]
        for row in shown
    ]
    caption = (
        f"The student gets {format_count(len(mistakes))} of {format_count(tested)} test rows wrong; "
        f"{'these are' if len(shown) == len(mistakes) else f'here are {format_count(len(shown))} of'} "
        "them, the most confident first"
    )
    facets = {
        "Human label": [row["actual"] for row in shown],
        "Student's label": [row["predicted"] for row in shown],
        "Teacher": ["wrong too" if row["others"].get("teacher") != row["actual"] else "right" for row in shown],
    }
    return build_browser("errors", caption, head, rows, facets)


def _phrase_certainty(row: Mapping[str, Any]) -> str:
    seeds = (
        f"; {row['wrong']}\N{NO-BREAK SPACE}of\N{NO-BREAK SPACE}{row['seeds']}\N{NO-BREAK SPACE}seeds"
        if row["seeds"] > 1
        else ""
    )
    return f"p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{row['probability']:.3f}{seeds}"
