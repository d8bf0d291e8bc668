"""Codes that people add later: which responses to code next, and the file that keeps the codes.

`coded.csv` in a task's folder is a log: new codes are appended, and the last code of a response counts.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.files import write_rows
from amalgam.tasks.schema import File
from amalgam.tasks.sources import parse_table
from amalgam.tasks.texts import clean_text, fold_text

CODED = "coded.csv"
_COLUMNS = ["id", "text", "question", "label"]
# Rows of a filled-in sheet that add no code, or replace one.
_KINDS = {
    "blank": "without a label: they stay uncoded",
    "unknown": "with a label that task.yaml does not list, only {labels}: correct them, and run `amalgam code` again",
    "changed": "with a text that is not among the responses to code: the text was changed, or it is in another set",
    "same": "with the code that they already have",
    "again": "that had another code: the new one counts",
}
_SAMPLE = 2000  # responses that represent all others, to save memory
_LONGEST = 32_000  # characters of a text that are compared: an Excel cell holds few more


def read_log(folder: Path, labels: list[str]) -> pd.DataFrame:
    """Read all codes from `coded.csv` in a task's folder (id, text, question, label); none if there is no such file."""
    path = folder / CODED
    if not path.exists():
        return pd.DataFrame(columns=_COLUMNS, dtype=str)
    log = _read_table(path, _COLUMNS)
    if len(unknown := log[~log["label"].isin(labels)]):
        listed = f"task.yaml lists {', '.join(labels)}: correct it there, or delete the row"
        raise DataError(f"{unknown.index[0]} has the label '{unknown['label'].iloc[0]}', but {listed}")
    return log[_COLUMNS].reset_index(drop=True)


def read_sheet(path: Path) -> pd.DataFrame:
    """Read text, question and label from a filled-in table; the index gives the place of each row."""
    sheet = _read_table(path, ["text", "label"])
    return sheet.assign(question=sheet.get("question", ""))[["text", "question", "label"]]


def read_codes(folder: Path, labels: list[str]) -> pd.DataFrame:
    """Read the code that counts for each response, in the order given; see `read_log`."""
    log = read_log(folder, labels)
    return log[~_name_responses(log).duplicated(keep="last")].reset_index(drop=True)


def add_codes(folder: Path, labels: list[str], sheet: pd.DataFrame, pool: pd.DataFrame) -> tuple[int, list[str]]:
    """Add the codes of a filled-in sheet to `coded.csv`.

    Responses are matched by text and question, because spreadsheets change ids such as 3-4 or 0012. `pool` has the
    responses that may be coded (id, text, question). Return how many codes were added, and a sentence for each kind of
    row that added no code, or replaced one. If no row has a usable code, a DataError says so.
    """
    log = read_log(folder, labels)
    known = pd.concat([log[_COLUMNS[:3]], pool[_COLUMNS[:3]]], ignore_index=True)
    responses = dict(zip(_name_responses(known), known.itertuples(index=False, name=None), strict=True))
    codes = dict(zip(_name_responses(log), log["label"], strict=True))
    spelled = {label.casefold(): label for label in labels} | {label: label for label in labels}
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    added = []
    for (place, row), name in zip(sheet.iterrows(), _name_responses(sheet), strict=True):
        cell = row["label"].strip()
        label = spelled.get(cell, spelled.get(cell.casefold()))
        if not (cell and label and name in responses):
            found["changed" if label else "unknown" if cell else "blank"].append(str(place))
        elif (before := codes.get(name)) == label:
            found["same"].append(str(place))
        else:
            found["again"] += [str(place)] if before else []
            codes[name] = label
            added.append((*responses[name], label))
    notes = []
    for kind, places in found.items():
        if places:
            named = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
            rows = f"{len(places)} row{'s' if len(places) > 1 else ''}"
            notes.append(f"{rows} {_KINDS[kind].format(labels=', '.join(labels))} ({named})")
    if not added and not found["same"]:
        raise DataError(f"no code was added: {'; '.join(notes) or 'the table has no rows'}")
    if added:
        write_rows(folder / CODED, pd.concat([log, pd.DataFrame(added, columns=_COLUMNS)], ignore_index=True))
    return len(added), notes


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = parse_table(path.read_bytes(), File.model_validate(str(path)))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): put a readable file there") from error
    if missing := [name for name in columns if name not in table]:
        lacks = f"{path} has no column `{missing[0]}`, only {', '.join(map(str, table))}"
        raise DataError(f"{lacks}: give it the columns that `amalgam next` wrote")
    return table


def _name_responses(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return a key that equal responses share: their text and question, as far as a spreadsheet preserves them."""
    parts = [rows[name].map(lambda text: fold_text(clean_text(text)[:_LONGEST])) for name in ("question", "text")]
    return parts[0] + "\n" + parts[1]


def choose_responses(free: np.ndarray, known: np.ndarray, probabilities: np.ndarray, count: int) -> list[int]:
    """Choose the responses whose codes would help most, the most helpful first (docs/findings.md).

    Responses are chosen one by one, each time the one with the largest product of two factors: how uncertain its label
    is, and how much closer all responses come to a coded one if it is coded. The second factor comes from facility
    location (Wei et al. 2015, ICML): it prefers responses that are typical and unlike those already coded.

    `free` and `known` are unit vectors of the responses without and with a code [rows, width], `probabilities` a
    model's predictions for the free ones [rows, classes].
    """
    best = np.sort(probabilities, axis=1)
    uncertainty = 1 - (best[:, -1] - best[:, -2])
    likeness = np.maximum(free[:_SAMPLE] @ free.T, 0)
    closest = np.maximum(free[:_SAMPLE] @ known.T, 0).max(axis=1, initial=0)
    chosen: list[int] = []
    for _ in range(min(count, len(free))):
        gains = uncertainty * np.maximum(likeness - closest[:, None], 0).sum(axis=0)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        closest = np.maximum(closest, likeness[:, chosen[-1]])
    return chosen
