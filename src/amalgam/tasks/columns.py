"""From the columns of a source to checked rows, as `columns` of task.yaml says; docs/tasks.md has its keys."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from amalgam.errors import DataError
from amalgam.rows import SUBGROUP
from amalgam.tasks.personal import PERSONAL, find_names
from amalgam.tasks.schema import LEAVE_OUT, Cell, Columns, Task
from amalgam.tasks.sources import check_columns, load_tables
from amalgam.tasks.texts import clean_text, fold_text, parse_times

MAIN, TRANSFER = "main", "transfer_test"
_SHOWN = 40  # characters of a text in a sentence


@dataclass(frozen=True, slots=True)
class TaskRows:
    """All that a task's source holds.

    Attributes:
        main: coded rows: id, text, question, label, then group, rater1, …, time, subgroup_… where the task has them.
        transfer: coded rows that answer another question than the main ones, with the same columns; may be empty.
        unlabelled: texts without a code: id, text, question, and group where known; may be empty.
        ratings: rater1, rater2, … of every coded row, also of those without a label; no columns where unknown.
        left_out: how many rows of the source are in none of the sets, by reason.
        notes: sentences on rows that were left out since their codes contradict each other.
    """

    main: pd.DataFrame
    transfer: pd.DataFrame
    unlabelled: pd.DataFrame
    ratings: pd.DataFrame
    left_out: dict[str, int]
    notes: list[str]


def load_task_rows(task: Task, folder: Path, cache: Path) -> TaskRows:
    """Load and check the rows of a task whose files are in `folder`, or are downloaded to `cache`.

    Raises:
        DataError: one sentence with the file, the row and what to do.
    """
    table, texts = load_tables(task.source, folder, cache)
    selected = select_rows(table, task.columns)
    rows = read_columns(selected, task.columns)
    if "roster" in rows:
        rows[PERSONAL] = find_names(rows["text"], rows.pop("roster"))
    _check_ids(rows)
    coded = rows[~(rows == LEAVE_OUT).any(axis=1)]
    _check_coded(coded, task)
    sets = coded.pop("set") if "set" in coded else pd.Series(MAIN, index=coded.index)
    if len(unknown := sets[~sets.isin([MAIN, TRANSFER])]):
        raise DataError(
            f"{unknown.index[0]} belongs to the set '{unknown.iloc[0]}', but must to {MAIN} or {TRANSFER}: "
            "correct `columns.set` in task.yaml"
        )
    _check_classes(coded[sets == MAIN], task, len(rows) - len(coded))
    main, note = drop_contradictions(coded[sets == MAIN])
    transfer, other_note = drop_contradictions(coded[sets == TRANSFER])
    if missing := sorted(set(task.label_names) - set(main["label"])):
        raise DataError(
            f"{note}; none is left that is coded {missing[0]}: correct the codes, so that equal texts have one"
        )
    left_out = {"not_selected": len(table) - len(selected), "no_label": len(rows) - len(coded)}
    return TaskRows(
        main=main,
        transfer=transfer,
        unlabelled=_read_unlabelled(texts, task),
        ratings=rows.filter(regex=r"^rater\d+$").reset_index(drop=True),
        left_out={
            **{reason: count for reason, count in left_out.items() if count},
            "equal_text_other_label": len(coded) - len(main) - len(transfer),
        },
        notes=[sentence for sentence in (note, other_note) if sentence],
    )


def select_rows(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Keep the rows that `where` selects; a DataError if a column is missing, or no row is left."""
    check_columns(table, list(columns.where))
    selected = table
    for name, value in columns.where.items():
        selected = selected[selected[name].str.strip() == value]
        if selected.empty:
            raise DataError(
                f"{table.index[0].rpartition(',')[0]} has no row whose `{name}` is '{value}': "
                "correct `columns.where` in task.yaml"
            )
    return selected


def read_columns(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Make the columns of coded rows; rows that are left out have the cell `leave_out`, texts are clean.

    Raises:
        DataError: with the place of a cell that cannot be read, or the missing column.
    """
    raters = {f"rater{number}": cell for number, cell in enumerate(columns.raters, start=1)}
    subgroups = {f"{SUBGROUP}{name}": cell for name, cell in columns.subgroups.items()}
    cells = {"id": columns.id, "text": columns.text, "question": columns.question, "label": columns.label}
    cells |= {
        "group": columns.group,
        **raters,
        "time": columns.time,
        **subgroups,
        "set": columns.set,
        "roster": columns.roster,
    }
    return _read_cells(table, {name: cell for name, cell in cells.items() if cell}, columns)


def drop_contradictions(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Drop rows of equal text and question, but different labels: one of the codes is wrong, and nobody knows which.

    Return the rows that are left, numbered from 0, and a sentence on those that are not; empty where all are.
    """
    texts = rows["text"].map(fold_text)
    labels = rows.groupby([rows["question"], texts])["label"].transform("nunique")
    found, note = rows[labels > 1], ""
    if len(found):
        first = found.iloc[0]
        equal = (found["question"] == first["question"]) & (texts[labels > 1] == fold_text(first["text"]))
        shown = [first, found[equal & (found["label"] != first["label"])].iloc[0]]
        one, two = (f"{row['id']} ('{_shorten(row['text'], _SHOWN)}', {row['label']})" for row in shown)
        note = (
            f"{len(found)} rows were left out, since their text also stands with another label, as in {one} and {two}"
        )
    return rows[labels == 1].reset_index(drop=True), note


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


def _read_unlabelled(texts: pd.DataFrame | None, task: Task) -> pd.DataFrame:
    if texts is None:
        return pd.DataFrame(columns=["id", "text", "question"], dtype=str)
    optional = {"question": task.columns.question, "group": task.columns.group}
    known = {name: cell for name, cell in optional.items() if cell and set(_list_sources(cell)) <= set(texts)}
    rows = _read_cells(texts, {"text": task.columns.text, **known}, task.columns)
    rows = rows[rows["text"] != ""].drop_duplicates(["text", "question"])
    hashes = (hashlib.sha256(text.encode()).hexdigest() for text in rows["question"] + "\n" + rows["text"])
    rows.insert(0, "id", [f"text-{digest[:16]}" for digest in hashes])
    return rows.reset_index(drop=True)


def _read_cells(table: pd.DataFrame, cells: dict[str, Cell], columns: Columns) -> pd.DataFrame:
    check_columns(table, list(dict.fromkeys(source for cell in cells.values() for source in _list_sources(cell))))
    made = pd.DataFrame({name: _read_cell(table, cell) for name, cell in cells.items()}, index=table.index, dtype=str)
    if "question" not in made:
        made.insert(list(made).index("text") + 1, "question", "")
    for name in ("text", "question", *(name for name in cells if name.startswith(SUBGROUP))):
        made[name] = [clean_text(text, mojibake=columns.repair == "mojibake") for text in made[name]]
    return made


def _list_sources(cell: Cell) -> list[str]:
    return cell.columns or [cell.column]


def _read_cell(table: pd.DataFrame, cell: Cell) -> list[str]:
    parts = zip(*(table[name].str.strip() for name in _list_sources(cell)), strict=True)
    return [_take_steps(cell.join.join(part), cell, place) for place, part in zip(table.index, parts, strict=True)]


def _take_steps(value: str, cell: Cell, place: str) -> str:
    def refuse(reason: str, advice: str = "correct the cell, or `columns` in task.yaml") -> DataError:
        names = ", ".join(f"`{name}`" for name in _list_sources(cell))
        return DataError(f"{place}: '{_shorten(value, 60)}' of {names} {reason}: {advice}")

    if not value and cell.otherwise == LEAVE_OUT and "" not in cell.map:
        return LEAVE_OUT
    if cell.item is not None:
        try:
            items = json.loads(value)
        except ValueError:
            items = None
        if not isinstance(items, list):
            raise refuse("is not a list in brackets")
        item = items[cell.item] if len(items) > cell.item else None
        if item is None and cell.otherwise is None:
            advice = "correct the cell, or add `otherwise: leave_out` beside `item` to leave such rows out"
            raise refuse(f"is not a list with an item {cell.item} (the first is 0)", advice)
        if item is None:
            return str(cell.otherwise)
        value = item if isinstance(item, str) else json.dumps(item)
    if cell.pattern is not None:
        if not (match := re.fullmatch(cell.pattern, value)):
            raise refuse(f"does not match the pattern {cell.pattern}")
        value = match[1]
    if cell.map:
        named, what = cell.map.get(value, cell.otherwise), ", ".join(f"'{name}'" for name in cell.map)
        what = f"is none of {what}, which are all that its `map` covers"
    elif cell.above or cell.below:
        try:
            number = float(value)
        except ValueError as error:
            raise refuse("is not a number") from error
        passed = [(-bound, name) for name, bound in cell.above.items() if number > bound]
        passed = passed or [(bound, name) for name, bound in cell.below.items() if number < bound]
        named, what = min(passed)[1] if passed else cell.otherwise, "lies within all bounds"
    else:
        return value
    if named is None:
        raise refuse(what, "add it there, or say by `otherwise` what every other cell becomes")
    return named


def _check_ids(rows: pd.DataFrame) -> None:
    if (rows["id"] == "").any():
        raise DataError(f"{_list_places(rows[rows['id'] == ''])} has no id: give every row one of its own")
    repeated = rows["id"].duplicated(keep=False)
    if repeated.any():
        name = rows["id"][repeated].iloc[0]
        places = rows.index[rows["id"] == name]
        raise DataError(f"the id '{name}' stands in {places[0]} and in {places[1]}: give every row an id of its own")


def _check_coded(rows: pd.DataFrame, task: Task) -> None:
    """Refuse empty texts, unknown labels, and times in another form than ISO 8601, before anything is paid."""
    if (rows["text"] == "").any():
        raise DataError(f"{_list_places(rows[rows['text'] == ''])} has no text: fill it in, or take the row out")
    unknown, names = rows[~rows["label"].isin(task.label_names)], ", ".join(task.label_names)
    if len(unknown) and (label := unknown["label"].iloc[0]):
        raise DataError(
            f"{unknown.index[0]} has the label '{label}', but task.yaml of {task.name} knows {names}: correct the row, "
            "add the label to task.yaml, or turn it into another one by `columns.label.map`"
        )
    if len(unknown):
        kept = ", ".join(f"{name}: {name}" for name in task.label_names)
        raise DataError(
            f"{unknown.index[0]} has no label, but task.yaml of {task.name} knows {names}: code it, or leave such rows "
            f"out by `columns.label.map`, as in {{'': leave_out, {kept}}}"
        )
    if "time" in rows:
        parse_times(rows)


def _check_classes(rows: pd.DataFrame, task: Task, left_out: int) -> None:
    counts = rows["label"].value_counts()
    if missing := [name for name in task.label_names if name not in counts]:
        found = f"all {len(rows)} rows are coded '{counts.index[0]}'" if len(counts) == 1 else f"{len(rows)} rows"
        more = f", and {left_out} were left out as `columns` says" if left_out else ""
        other = ", or take the label out of task.yaml" if len(task.labels) > 2 else ", or correct `columns.label`"
        raise DataError(
            f"the task {task.name} has no row that is coded '{missing[0]}' ({found}{more}): code some rows so{other}"
        )


def _list_places(rows: pd.DataFrame) -> str:
    named = "; ".join(rows.index[:3])
    return f"{named} (and {len(rows) - 3} more)" if len(rows) > 3 else named


def _shorten(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[:size]}…"
