"""From a table of responses to the same table with labels, part by part."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amalgam.errors import DataError
from amalgam.machine import show_progress
from amalgam.predicting.onnx import decide
from amalgam.predicting.shipped import Shipped
from amalgam.predicting.survey import find_format, open_source, survey_table
from amalgam.predicting.writing import open_table
from amalgam.tasks.tables import Part, read_parts

_DECIMALS = 6
_SOON = 2000  # rows that are labelled before a bar would help


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what: texts and questions in the source, and how names of new columns begin."""

    text: str
    question: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """What was written: rows, rows of each label, and rows that a human should look at."""

    rows: int
    labels: dict[str, int]
    ask_human: int


def label_table(source: Path, target: Path, shipped: Shipped, columns: Columns) -> Tally:
    """Write the rows of `source` to `target`, in their order, each with `label`, `p_<label>` and `ask_human`.

    Raises:
        DataError: the source cannot be read or lacks a column, a new column has the name of one that is there, or the
            target cannot be written or is the source.
    """
    find_format(target)
    if not source.is_file():
        raise DataError(f"{source} does not exist")
    if source.resolve() == target.resolve() or (target.exists() and target.samefile(source)):
        raise DataError(f"{target} is the input itself: give the output another name")
    needed = [columns.text, *([columns.question] if shipped.scorer.uses_question else [])]
    table = open_source(source)
    survey = survey_table(table, needed)
    added = name_added(shipped.scorer.labels, columns.prefix)
    if taken := [name for name in added if name in survey.columns]:
        raise DataError(f"{source} already has a column {taken[0]!r}: rename it, or give --prefix for the new ones")
    labels: Counter[str] = Counter(dict.fromkeys(shipped.scorer.labels, 0))
    asked = 0
    with (
        open_table(target, table, survey.columns, added) as writer,
        _show_progress(survey.rows) as advance,
    ):
        for part in read_parts(table):
            values = label_part(part, shipped, needed)
            writer.write(part, dict(zip(added, values, strict=True)))
            labels.update(values[0])
            asked += sum(values[-1])
            for _ in part.rows:
                advance(None)
    return Tally(sum(labels.values()), dict(labels), asked)


def name_added(labels: tuple[str, ...], prefix: str) -> dict[str, type]:
    """Return the names of the new columns in order, with the type of their values."""
    names: dict[str, type] = {"label": str, **{f"p_{label}": float for label in labels}, "ask_human": bool}
    return {prefix + name: kind for name, kind in names.items()}


def label_part(part: Part, shipped: Shipped, needed: list[str]) -> list[list[Any]]:
    """Return the new columns' values: labels, probabilities by label, and whether a human should look."""
    cells = [tuple(shipped.clean_text(row[name] or "") for name in needed) for row in part.rows]
    # Equal texts of a part get equal labels: in 8-bit integers, the rows beside one change its score a little.
    places = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
    texts, *questions = zip(*places, strict=True)
    scored = shipped.scorer.score_texts(texts, questions[0] if questions else [""] * len(texts))
    probabilities = scored[[places[cell] for cell in cells]]
    chosen = decide(probabilities, shipped.threshold)
    ask = np.take_along_axis(probabilities, chosen[:, None], axis=1)[:, 0] < shipped.ask_below
    names = shipped.scorer.labels
    return [
        [names[number] for number in chosen],
        *np.round(probabilities, _DECIMALS).T.tolist(),
        ask.tolist(),
    ]


def _show_progress(rows: int) -> AbstractContextManager[Callable[[object], None]]:
    return show_progress("predict", total=rows) if rows > _SOON else nullcontext(_ignore)


def _ignore(_item: object) -> None:
    pass
