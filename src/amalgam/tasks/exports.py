"""Exports of annotation programs, brought into the form of one row a text with a column for each rater."""

import json
from typing import TYPE_CHECKING, Any

from amalgam.tasks.texts import write_text

if TYPE_CHECKING:
    import pandas as pd


def flatten_label_studio(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make one record of each task of a Label Studio export; other records stay as they are.

    The data of the task are columns. Each control ("sentiment") is a column, or with several annotations of a task one
    for each annotator in the order in which they first come: "sentiment (rater 1)".
    """
    if not all(
        isinstance(record.get("annotations"), list) and isinstance(record.get("data"), dict) for record in records
    ):
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


def spread_argilla(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Replace the lists of responses and users of an Argilla export by a column for each user."""
    for name in [name for name in map(str, frame) if {f"{name}.users", f"{name}.status"} <= set(frame)]:
        raters: dict[str, int] = {}
        spread = []
        for cells in frame[[f"{name}.users", f"{name}.status", name]].itertuples(index=False):
            answers = zip(*(json.loads(cell or "[]") for cell in cells), strict=False)
            codes = {str(user): code for user, status, code in answers if status == "submitted"}
            spread.append({raters.setdefault(user, len(raters) + 1): code for user, code in codes.items()})
        title = name.removesuffix(".responses")
        added = {
            f"{title} (rater {rater})": [write_text(row.get(rater)) or "" for row in spread]
            for rater in raters.values()
        }
        frame = frame.drop(columns=[name, f"{name}.users", f"{name}.status"]).assign(**added)
    return frame


def _take_code(part: dict[str, Any]) -> Any:
    """Return what an annotator chose: one value as itself, several as a list."""
    value = part.get("value", {})
    code = next((value[key] for key in ("choices", "rating", "number", "text", "taxonomy") if key in value), value)
    return code[0] if isinstance(code, list) and len(code) == 1 else code
