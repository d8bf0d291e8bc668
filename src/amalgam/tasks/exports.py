"""Exports of annotation programs, brought into the form of one row a text with a column for each rater."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from amalgam.errors import DataError


def flatten_label_studio(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make one record of each task of a Label Studio export; other records stay as they are.

    The data of the task are columns. Each control ("sentiment") is a column, or with several annotations of a task one
    for each annotator in the order in which they first come: "sentiment (rater 1)".
    """
    if not records or not all("annotations" in record and isinstance(record.get("data"), dict) for record in records):
        return records
    raters: dict[str, int] = {}
    coded = []
    for record in records:
        codes: dict[int, dict[str, Any]] = {}
        for annotation in record["annotations"]:
            if not annotation.get("was_cancelled"):
                rater = raters.setdefault(json.dumps(annotation.get("completed_by"), sort_keys=True), len(raters) + 1)
                codes[rater] = {part["from_name"]: _take_code(part) for part in annotation.get("result", [])}
        coded.append(codes)
    several = any(len(codes) > 1 for codes in coded)
    flat = []
    for record, codes in zip(records, coded, strict=True):
        named = {
            f"{name} (rater {rater})" if several else f"{name} (code)" if name in record["data"] else name: code
            for rater, each in sorted(codes.items())
            for name, code in each.items()
        }
        flat.append({"id": record.get("id"), **record["data"], **named})
    return flat


def spread_argilla(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace the lists of responses and users of an Argilla export by a column for each user."""
    for name in [name for name in map(str, frame) if f"{name}.users" in frame]:
        raters: dict[str, int] = {}
        spread = []
        for answers, users in zip(frame[name], frame[f"{name}.users"], strict=True):
            pairs = zip(json.loads(users or "[]"), json.loads(answers or "[]"), strict=False)
            spread.append({raters.setdefault(str(user), len(raters) + 1): code for user, code in pairs})
        title = name.removesuffix(".responses")
        for rater in sorted(raters.values()):
            codes = [row.get(rater) for row in spread]
            frame[f"{title} (rater {rater})"] = [_write_code(code) for code in codes]
        frame = frame.drop(columns=[name, f"{name}.users", f"{name}.status"], errors="ignore")
    return frame


def pivot_raters(frame: pd.DataFrame, by: Sequence[str], coder: str, code: str) -> pd.DataFrame:
    """Make one row of those that several coders wrote on one text, with a column for each coder's code.

    `by` names the columns that tell texts apart. Columns that differ within a text are dropped.

    Raises:
        DataError: a coder coded a text twice.
    """
    keys = list(by)
    if (twice := frame.duplicated([*keys, coder])).any():
        first = frame[twice].iloc[0]
        raise DataError(
            f"row {frame.index[twice][0]} is the second code of {first[coder]!r} for {first[keys[0]]!r}: keep one"
        )
    groups = frame.groupby(keys, sort=False)
    constant = [name for name in map(str, frame) if name not in (coder, code) and (groups[name].nunique() <= 1).all()]
    rows = frame.drop_duplicates(keys)[constant]
    codes = frame.pivot(index=keys, columns=coder, values=code).fillna("")
    codes = codes[list(dict.fromkeys(frame[coder]))].add_prefix(f"{code} ").reset_index()
    return rows.merge(codes, on=keys, how="left").set_axis(rows.index)


def _take_code(part: dict[str, Any]) -> Any:
    """Return what an annotator chose: one value as itself, several as a list."""
    value = part.get("value", {})
    code = next((value[key] for key in ("choices", "rating", "number", "text", "taxonomy") if key in value), value)
    return code[0] if isinstance(code, list) and len(code) == 1 else code


def _write_code(code: Any) -> str:
    return "" if code is None else code if isinstance(code, str) else json.dumps(code, ensure_ascii=False)
