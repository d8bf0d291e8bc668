"""What can be wrong with the rows of a task. `prepare` stops at the first fault, `amalgam check` lists all."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from amalgam.errors import DataError
from amalgam.tasks.schema import Task
from amalgam.tasks.texts import write_times


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with rows: a sentence that ends with what to do, and the places of all rows that it is about."""

    sentence: str
    rows: list[str]


Report = Callable[[Fault], None]  # what becomes of a fault; where it returns, the rows of the fault are left out


def refuse(fault: Fault) -> None:
    """Stop at the first fault; a DataError with its sentence."""
    raise DataError(fault.sentence)


def check_ids(rows: pd.DataFrame, report: Report) -> None:
    """Report rows without an id of their own."""
    blank, repeated = rows[rows["id"] == ""], rows[(rows["id"] != "") & rows["id"].duplicated(keep=False)]
    if len(blank):
        report(Fault(f"{list_places(blank)} has no id: give every row one of its own", [*map(str, blank.index)]))
    if len(repeated):
        name, places = repeated["id"].iloc[0], [*map(str, repeated.index)]
        one, other = repeated.index[repeated["id"] == name][:2]
        report(Fault(f"the id '{name}' stands in {one} and in {other}: give every row an id of its own", places))


def check_coded(rows: pd.DataFrame, task: Task, report: Report) -> pd.DataFrame:
    """Report empty texts, unknown labels and times that are none; return the other rows, times as in ISO 8601."""
    names, left = ", ".join(task.label_names), rows
    if len(empty := rows[rows["text"] == ""]):
        sentence = f"{list_places(empty)} has no text: fill it in, or leave such rows out by `otherwise: leave_out`"
        report(Fault(f"{sentence} in `columns.text`", [*map(str, empty.index)]))
        left = rows[rows["text"] != ""]
    for key, found in rows[~rows["label"].isin(task.label_names)].groupby("label", sort=False):
        code, known = str(key), f"but task.yaml of {task.name} knows {names}"
        sentence = (
            f"{list_places(found)} has the label '{code}', {known}: correct the row, "
            "add the label to task.yaml, or turn it into another one by `columns.label.map`"
            if code
            else f"{list_places(found)} has no label, {known}: code it, or leave such rows "
            f"out by `columns.label.map`, as in {{'': leave_out, "
            f"{', '.join(f'{name}: {name}' for name in task.label_names)}}}"
        )
        report(Fault(sentence, [*map(str, found.index)]))
    if "time" in rows:
        try:
            left = left.assign(time=write_times(left))
        except DataError as error:
            report(Fault(str(error), []))
    return left[left["label"].isin(task.label_names)]


def check_classes(rows: pd.DataFrame, task: Task, left_out: int, report: Report) -> None:
    """Report labels that no row has."""
    counts = rows["label"].value_counts()
    for missing in [name for name in task.label_names if name not in counts]:
        found = f"all {len(rows)} rows are coded '{counts.index[0]}'" if len(counts) == 1 else f"{len(rows)} rows"
        more = f", and {left_out} were left out as `columns` says" if left_out else ""
        other = ", or take the label out of task.yaml" if len(task.labels) > 2 else ", or correct `columns.label`"
        sentence = f"the task {task.name} has no row that is coded '{missing}' ({found}{more})"
        report(Fault(f"{sentence}: code some rows so{other}", []))


def list_places(rows: "pd.DataFrame | pd.Series[str]") -> str:
    """Name the places of the first rows, and how many more there are."""
    named = "; ".join(map(str, rows.index[:3]))
    return f"{named} (and {len(rows) - 3} more)" if len(rows) > 3 else named


def shorten(text: str, size: int) -> str:
    """Cut a text that is longer than `size` letters."""
    return text if len(text) <= size else f"{text[:size]}…"
