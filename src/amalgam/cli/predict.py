"""`amalgam predict`: label the responses in a CSV file, a part at a time."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from amalgam.errors import DataError
from amalgam.rows import guard_cell

_PART = 20_000  # rows in memory at once


def run_predict(source: Path, target: Path, model: Path, *, text_column: str, question_column: str) -> None:
    """Write the rows of `source` with `label` and `p_<label>` columns to `target`, in the same order.

    Cells that a spreadsheet would run as a formula get an apostrophe in front.

    Raises:
        DataError: the file cannot be read, or lacks a column.
        ModelError: the folder holds no trained model.
    """
    if not source.is_file():
        raise DataError(f"{source} does not exist")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from amalgam.training.checkpoint import read_note
    from amalgam.training.scoring import Scorer

    note = read_note(model)
    if source.resolve() == target.resolve():
        raise DataError(f"{target} is the input itself: give the output another name")
    scorer = Scorer(model)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            for number, part in enumerate(_read_parts(source)):
                rows = _select_texts(part, source, text_column, question_column if note.uses_question else None)
                probabilities = scorer.score(rows)
                part["label"] = [note.labels[best] for best in probabilities.argmax(axis=1)]
                for position, label in enumerate(note.labels):
                    part[f"p_{label}"] = probabilities[:, position].round(6)
                texts = part.columns[: len(part.columns) - len(note.labels)]
                part[texts] = part[texts].map(guard_cell)
                part.to_csv(stream, index=False, header=number == 0, lineterminator="\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _read_parts(source: Path) -> Iterator[pd.DataFrame]:
    try:
        yield from pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig", chunksize=_PART)
    except FileNotFoundError as error:
        raise DataError(f"{source} does not exist") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 text: save it as `CSV UTF-8`") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{source} is not a CSV file with a header ({' '.join(str(error).split())})") from error


def _select_texts(part: pd.DataFrame, source: Path, text_column: str, question_column: str | None) -> pd.DataFrame:
    for column, option in ((text_column, "--text-column"), (question_column, "--question-column")):
        if column is not None and column not in part:
            there = ", ".join(part.columns)
            raise DataError(f"{source} has no column {column!r}, only {there}: name the right one with {option}")
    question = part[question_column] if question_column else ""
    return pd.DataFrame({"text": part[text_column]}).assign(question=question)
