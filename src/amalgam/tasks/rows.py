"""The human-coded rows of a task: loaded, checked, and with what was left out counted."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from amalgam.errors import DataError
from amalgam.tasks.columns import read_columns, read_text_columns, select_rows
from amalgam.tasks.schema import LEAVE_OUT, Task
from amalgam.tasks.sources import load_tables
from amalgam.tasks.texts import parse_times

MAIN, TRANSFER = "main", "transfer_test"


@dataclass(frozen=True, slots=True)
class TaskRows:
    """All that a task's source holds.

    Attributes:
        main: coded rows: id, text, question, label, then group, rater1, …, time, subgroup_… where the task has them.
        transfer: coded rows that answer another question than the main ones, with the same columns; may be empty.
        unlabelled: texts without a code: id, text, question, and group where known; may be empty.
        ratings: rater1, rater2, … of every coded row, also of those without a label; no columns where unknown.
        left_out: how many rows of the source are in none of the sets, by reason.
    """

    main: pd.DataFrame
    transfer: pd.DataFrame
    unlabelled: pd.DataFrame
    ratings: pd.DataFrame
    left_out: dict[str, int]


def load_task_rows(task: Task, folder: Path, cache: Path) -> TaskRows:
    """Load and check the rows of a task.

    Args:
        task: as `load_task` gave it.
        folder: the task's folder.
        cache: folder for downloads.

    Raises:
        DataError: one sentence with the file, the row and what to do.
    """
    table, texts = load_tables(task.source, folder, cache)
    selected = select_rows(table, task.columns)
    rows = read_columns(selected, task.columns)
    _check_ids(rows)
    ratings = rows.filter(regex=r"^rater\d+$")
    kept = rows[~(rows == LEAVE_OUT).any(axis=1)]
    _check_texts(kept)
    _check_labels(kept, task)
    if "time" in kept:
        parse_times(kept)  # refused here, before anything is paid
    sets = kept.pop("set") if "set" in kept else pd.Series(MAIN, index=kept.index)
    _check_sets(sets)
    main = kept[sets == MAIN]
    left_out = {"not_selected": len(table) - len(selected), "no_label": len(rows) - len(kept)}
    _check_classes(main, task, left_out["no_label"])
    return TaskRows(
        main=main.reset_index(drop=True),
        transfer=kept[sets == TRANSFER].reset_index(drop=True),
        unlabelled=_read_unlabelled(texts, task),
        ratings=ratings.reset_index(drop=True),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def measure_agreement(ratings: pd.DataFrame, task: Task) -> dict[str, float | None]:
    """Measure how far the first two raters agree: Cohen's kappa, quadratically weighted for ordinal labels.

    A rating that is no label of the task counts as a category of its own, but for ordinal labels, where it has no
    place in the order, its row is left out. Rows that one of the two did not rate are left out.
    """
    name = "rater_quadratic_kappa" if task.ordinal else "rater_kappa"
    if not {"rater1", "rater2"} <= set(ratings):
        return {name: None}
    from sklearn.metrics import cohen_kappa_score

    pairs = ratings[["rater1", "rater2"]]
    known = pairs.isin(task.label_names) if task.ordinal else (pairs != "") & (pairs != LEAVE_OUT)
    pairs = pairs[known.all(axis=1)]
    if pairs.empty or len(set(pairs.to_numpy().ravel())) < 2:
        return {name: None}
    order = {"labels": task.label_names, "weights": "quadratic"} if task.ordinal else {}
    return {name: round(float(cohen_kappa_score(pairs["rater1"], pairs["rater2"], **order)), 4)}


def _check_ids(rows: pd.DataFrame) -> None:
    empty = rows.index[rows["id"] == ""]
    if len(empty):
        raise DataError(f"{_list_places(empty)} has no id: give every row one of its own")
    repeated = rows["id"].duplicated(keep=False)
    if repeated.any():
        name = rows["id"][repeated].iloc[0]
        places = rows.index[rows["id"] == name]
        raise DataError(f"the id '{name}' stands in {places[0]} and in {places[1]}: give every row an id of its own")


def _check_texts(rows: pd.DataFrame) -> None:
    empty = rows.index[rows["text"] == ""]
    if len(empty):
        raise DataError(f"{_list_places(empty)} has no text: fill it in, or take the row out")


def _check_labels(rows: pd.DataFrame, task: Task) -> None:
    unknown = rows[~rows["label"].isin(task.label_names)]
    if unknown.empty:
        return
    place, label = unknown.index[0], unknown["label"].iloc[0]
    known = ", ".join(task.label_names)
    if label:
        raise DataError(
            f"{place} has the label '{label}', but task.yaml of {task.name} knows {known}: correct the row, add the "
            "label to task.yaml, or turn it into another one by `columns.label.map`"
        )
    kept = ", ".join(f"{name}: {name}" for name in task.label_names)
    raise DataError(
        f"{place} has no label, but task.yaml of {task.name} knows {known}: code it, or leave such rows out by "
        f"`columns.label.map`, as in {{'': leave_out, {kept}}}"
    )


def _check_sets(sets: "pd.Series[str]") -> None:
    unknown = sets[~sets.isin([MAIN, TRANSFER])]
    if len(unknown):
        raise DataError(
            f"{unknown.index[0]} belongs to the set '{unknown.iloc[0]}', but must to {MAIN} or {TRANSFER}: "
            "correct `columns.set` in task.yaml"
        )


def _check_classes(rows: pd.DataFrame, task: Task, left_out: int) -> None:
    counts = rows["label"].value_counts()
    missing = [name for name in task.label_names if name not in counts]
    if not missing:
        return
    found = f"all {len(rows)} rows are coded '{counts.index[0]}'" if len(counts) == 1 else f"{len(rows)} rows"
    more = f", and {left_out} were left out as `columns` says" if left_out else ""
    other = ", or take the label out of task.yaml" if len(task.labels) > 2 else ", or correct `columns.label`"
    raise DataError(
        f"the task {task.name} has no row that is coded '{missing[0]}' ({found}{more}): code some rows so{other}"
    )


def _read_unlabelled(texts: pd.DataFrame | None, task: Task) -> pd.DataFrame:
    if texts is None:
        return pd.DataFrame(columns=["id", "text", "question"], dtype=str)
    rows = read_text_columns(texts, task.columns)
    rows = rows[rows["text"] != ""].drop_duplicates(["text", "question"])
    rows.insert(0, "id", [_name_text(text) for text in rows["question"] + "\n" + rows["text"]])
    return rows.reset_index(drop=True)


def _name_text(text: str) -> str:
    return f"text-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _list_places(places: "pd.Index[str]") -> str:
    named = "; ".join(places[:3])
    return f"{named} (and {len(places) - 3} more)" if len(places) > 3 else named
