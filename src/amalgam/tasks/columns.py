"""From the columns of a source to checked rows, as `columns` of task.yaml says; docs/tasks.md has its keys."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from amalgam.errors import DataError
from amalgam.files import SUBGROUP
from amalgam.tasks.check import Fault, Report, check_classes, check_coded, check_ids, list_places, refuse, shorten
from amalgam.tasks.personal import PERSONAL, find_names
from amalgam.tasks.schema import LEAVE_OUT, Cell, Columns, Task
from amalgam.tasks.sources import check_columns, load_tables
from amalgam.tasks.texts import clean_text, fold_text

MAIN, TRANSFER = "main", "transfer_test"
_RATERS = r"^rater\d+$"
_SHOWN = 40  # characters of a text in a sentence


@dataclass(frozen=True, slots=True)
class TaskRows:
    """All that a task's source holds.

    Attributes:
        main: coded rows: id, text, question, label, then group, time, subgroup_…, rater1, … where the task has them.
        transfer: coded rows that answer another question than the main ones, with the same columns; may be empty.
        unlabelled: texts without a code: id, text, question, and group and `personal` where known; may be empty.
        ratings: id and rater1, rater2, … of every coded row, also of those without a label.
        left_out: how many rows of the source are in none of the sets, by reason.
        notes: sentences on rows that were left out since their codes contradict each other.
        places: where each row stands, by id.
    """

    main: pd.DataFrame
    transfer: pd.DataFrame
    unlabelled: pd.DataFrame
    ratings: pd.DataFrame
    left_out: dict[str, int]
    notes: list[Fault]
    places: dict[str, str]


def load_task_rows(task: Task, folder: Path, cache: Path) -> TaskRows:
    """Load and check the rows of a task whose files are in `folder`, or are downloaded to `cache`.

    Raises:
        DataError: one sentence with the file, the row and what to do.
    """
    return read_task_rows(task, *load_tables(task.source, folder, cache))


def read_task_rows(task: Task, table: pd.DataFrame, texts: pd.DataFrame | None, report: Report = refuse) -> TaskRows:
    """Make and check the rows of a task from its tables; a fault goes to `report`, by default as a DataError."""
    selected = select_rows(table, task.columns)
    rows = read_columns(selected, task.columns, report)
    unlabelled = _read_unlabelled(texts, task)
    if "roster" in rows:
        roster = rows.pop("roster")
        for part in (rows, unlabelled):
            part[PERSONAL] = find_names(part["text"], roster)
    check_ids(rows, report)
    no_text = rows["text"] == LEAVE_OUT
    raters = [name for name in map(str, rows) if re.match(_RATERS, name)]
    rows[raters] = rows[raters].replace(LEAVE_OUT, "")
    coded = rows[~(rows == LEAVE_OUT).any(axis=1)]
    left_out = {
        "not_selected": len(table) - len(selected),
        "no_text": int(no_text.sum()),
        "no_label": len(rows) - len(coded) - int(no_text.sum()),
    }
    coded = check_coded(coded, task, report)
    sets = coded.pop("set") if "set" in coded else pd.Series(MAIN, index=coded.index)
    if len(unknown := sets[~sets.isin([MAIN, TRANSFER])]):
        sentence = f"{unknown.index[0]} belongs to the set '{unknown.iloc[0]}', but must to {MAIN} or {TRANSFER}"
        report(Fault(f"{sentence}: correct `columns.set` in task.yaml", [*unknown.index]))
    check_classes(coded[sets == MAIN], task, len(rows) - len(coded), report)
    main, note = drop_contradictions(coded[sets == MAIN])
    transfer, other_note = drop_contradictions(coded[sets == TRANSFER])
    if note and (missing := sorted(set(coded["label"][sets == MAIN]) - set(main["label"]))):
        advice = f"none is left that is coded {missing[0]}: correct the codes, so that equal texts have one"
        report(Fault(f"{note.sentence}; {advice}", note.rows))
    return TaskRows(
        main=main,
        transfer=transfer,
        unlabelled=unlabelled,
        ratings=rows.filter(regex=rf"^id$|{_RATERS}").reset_index(drop=True),
        left_out={
            **{reason: count for reason, count in left_out.items() if count},
            "equal_text_other_label": len(coded) - len(main) - len(transfer),
        },
        notes=[each for each in (note, other_note) if each],
        places=dict(zip(rows["id"], map(str, rows.index), strict=True)),
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


def read_columns(table: pd.DataFrame, columns: Columns, report: Report = refuse) -> pd.DataFrame:
    """Make the columns of coded rows; rows that are left out have the cell `leave_out`, texts are clean.

    Raises:
        DataError: with the place of a cell that cannot be read, or the missing column.
    """
    raters = {f"rater{number}": cell for number, cell in enumerate(columns.raters, start=1)}
    subgroups = {f"{SUBGROUP}{name}": cell for name, cell in columns.subgroups.items()}
    own = columns.id or (Cell(column="id") if "id" in table else None)
    cells = {"id": own, "text": columns.text, "question": columns.question, "label": columns.label}
    cells |= {"group": columns.group, **raters, "time": columns.time, **subgroups, "set": columns.set}
    cells |= {"coder": columns.coder, "roster": columns.roster}
    rows = _read_cells(table, {name: cell for name, cell in cells.items() if cell}, columns, report)
    if not own:
        rows.insert(0, "id", _name_texts(rows))
        repeats = rows.groupby("id").cumcount() + 1
        rows["id"] += ("-" + repeats.astype(str)).where((repeats > 1) & (columns.coder is None), "")
    return _gather_coders(rows) if columns.coder else rows


def drop_contradictions(rows: pd.DataFrame) -> tuple[pd.DataFrame, Fault | None]:
    """Drop rows of equal text and question, but different labels: one of the codes is wrong, and nobody knows which.

    Return the rows that are left, numbered from 0, and what to say on those that are not.
    """
    texts = rows["text"].map(fold_text)
    labels = rows.groupby([rows["question"], texts])["label"].transform("nunique")
    found, note = rows[labels > 1], None
    if len(found):
        first = found.iloc[0]
        equal = (found["question"] == first["question"]) & (texts[labels > 1] == fold_text(first["text"]))
        shown = [first, found[equal & (found["label"] != first["label"])].iloc[0]]
        one, two = (f"{row['id']} ('{shorten(row['text'], _SHOWN)}', {row['label']})" for row in shown)
        note = Fault(
            f"{len(found)} rows were left out, since their text also stands with another label, as in {one} and {two}",
            [*map(str, found.index)],
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
    rows = _read_cells(texts, {"text": task.columns.text, **known}, task.columns, refuse)
    rows = rows[~rows["text"].isin(["", LEAVE_OUT])].drop_duplicates(["text", "question"])
    rows.insert(0, "id", _name_texts(rows))
    return rows.reset_index(drop=True)


def _name_texts(rows: pd.DataFrame) -> list[str]:
    hashes = (hashlib.sha256(text.encode()).hexdigest() for text in rows["question"] + "\n" + rows["text"])
    return [f"text-{digest[:16]}" for digest in hashes]


def _gather_coders(rows: pd.DataFrame) -> pd.DataFrame:
    """Make one row of the rows of one response, with each coder's code as a rater's and their majority as the label."""
    codes = rows.drop_duplicates(["id", "coder"]).pivot(index="id", columns="coder", values="label")
    rows = rows.drop_duplicates("id").drop(columns="coder")
    codes = codes.reindex(rows["id"]).fillna("").set_axis(rows.index)
    raters = codes.set_axis([f"rater{number}" for number in range(1, codes.shape[1] + 1)], axis=1)
    return pd.concat([rows.assign(label=[_vote(row) for row in codes.to_numpy()]), raters], axis=1)


def _vote(codes: Iterable[str]) -> str:
    """Return the most frequent code; where there is none, `leave_out`."""
    found = Counter(code for code in codes if code not in ("", LEAVE_OUT)).most_common(2)
    return LEAVE_OUT if not found or len({count for _, count in found}) < len(found) else found[0][0]


def _read_cells(table: pd.DataFrame, cells: dict[str, Cell], columns: Columns, report: Report) -> pd.DataFrame:
    check_columns(table, list(dict.fromkeys(source for cell in cells.values() for source in _list_sources(cell))))
    made = pd.DataFrame({name: _read_cell(table, cell, report) for name, cell in cells.items()}, dtype=str)
    if "question" not in made:
        made.insert(list(made).index("text") + 1, "question", "")
    for name in ("text", "question", *(name for name in cells if name.startswith(SUBGROUP))):
        made[name] = [clean_text(text, mojibake=columns.repair == "mojibake") for text in made[name]]
    if cells["text"].otherwise == LEAVE_OUT:  # also where nothing but marks that nobody sees was there
        made["text"] = made["text"].where(made["text"] != "", LEAVE_OUT)
    return made


def _list_sources(cell: Cell) -> list[str]:
    return cell.columns or [cell.column]


def _read_cell(table: pd.DataFrame, cell: Cell, report: Report) -> "pd.Series[str]":
    if cell.majority:
        alone = [cell.model_copy(update={"column": name, "columns": [], "majority": False}) for name in cell.columns]
        codes = zip(*(_read_cell(table, each, report) for each in alone), strict=True)
        return pd.Series([_vote(row) for row in codes], index=table.index)
    parts = [table[name].str.strip() for name in _list_sources(cell)]
    cells = parts[0].str.cat(pd.concat(parts[1:], axis=1), sep=cell.join) if len(parts) > 1 else parts[0]
    made: dict[str, str] = {}
    for value in cells.unique():
        try:
            made[value] = _take_steps(value, cell)
        except ValueError as error:
            rows, made[value] = cells[cells == value], LEAVE_OUT
            names = ", ".join(f"`{name}`" for name in _list_sources(cell))
            report(Fault(f"{list_places(rows)}: '{shorten(value, 60)}' of {names} {error}", [*map(str, rows.index)]))
    return cells.map(made)


def _take_steps(value: str, cell: Cell) -> str:
    """Make a cell; a ValueError says what is wrong with it, and what to do."""

    def refuse(reason: str, advice: str = "correct the cell, or `columns` in task.yaml") -> ValueError:
        return ValueError(f"{reason}: {advice}")

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
    if value in cell.map:
        return cell.map[value]
    if cell.above or cell.below:
        try:
            number = float(value.replace(",", ".") if value.count(",") == 1 else value)
        except ValueError as error:
            raise refuse("is not a number") from error
        passed = [(-bound, name) for name, bound in cell.above.items() if number > bound]
        passed = passed or [(bound, name) for name, bound in cell.below.items() if number < bound]
        named, what = min(passed)[1] if passed else cell.otherwise, "lies within all bounds"
    elif cell.map:
        named, what = cell.otherwise, ", ".join(f"'{name}'" for name in cell.map)
        what = f"is none of {what}, which are all that its `map` covers"
    else:
        return value
    if named is None:
        raise refuse(what, "add it there, or say by `otherwise` what every other cell becomes")
    return named
