"""Turn the columns of a source into checked rows, as `columns` in task.yaml says; docs/tasks.md lists its keys.

`prepare` stops at the first fault in the rows; `amalgam check` lists them all.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from amalgam.errors import DataError
from amalgam.files import SUBGROUP
from amalgam.tasks.cells import Fault, blame_rows, list_sources, read_cells, shorten
from amalgam.tasks.labels import vote
from amalgam.tasks.personal import PERSONAL, find_names
from amalgam.tasks.schema import LEAVE_OUT, Cell, Columns, Task
from amalgam.tasks.sources import check_columns, load_tables
from amalgam.tasks.texts import fold_text, write_times

MAIN, TRANSFER = "main", "transfer_test"
_RATERS = r"^rater\d+$"


@dataclass(frozen=True, slots=True)
class TaskRows:
    """Everything that a task's source holds.

    Coded rows have id, text, question, label, then group, time, subgroup_…, rater1, … where the task has them.
    """

    main: pd.DataFrame  # coded rows
    transfer: pd.DataFrame  # coded rows that answer another question; may be empty
    unlabelled: pd.DataFrame  # texts without a code: id, text, question, and group and `personal` where known
    ratings: pd.DataFrame  # id, rater1, rater2, … of every coded row, also of those without a label
    left_out: dict[str, int]  # how many rows of the source are in none of the sets, by reason
    notes: list[Fault]  # rows that were left out because their codes contradict each other
    places: dict[str, str]  # where each row is in the source, by id


def load_task_rows(task: Task, folder: Path, cache: Path) -> TaskRows:
    """Load and check the rows of a task whose files are in `folder`, or are downloaded to `cache`."""
    faults: list[Fault] = []
    rows = read_task_rows(task, *load_tables(task.source, folder, cache), faults)
    if faults:
        raise DataError(faults[0].sentence)
    return rows


def read_task_rows(task: Task, table: pd.DataFrame, texts: pd.DataFrame | None, faults: list[Fault]) -> TaskRows:
    """Make and check the rows of a task from its tables; rows with a fault are left out, and `faults` gets the fault.

    A missing column and a `where` that selects no row are raised as a DataError.
    """
    check_columns(table, list(task.columns.where))
    chosen = [table[name].str.strip() == value for name, value in task.columns.where.items()]
    selected = table[pd.concat(chosen, axis=1).all(axis=1)] if chosen else table
    if selected.empty:
        raise DataError(f"{table.index[0].rpartition(',')[0]} has no row that `columns.where` selects: correct it")
    rows = _read_columns(selected, task.columns, faults)
    coded_again = 0
    if "coder" in rows:
        again = rows.duplicated(["id", "coder"])
        rows, coded_again = _gather_coders(rows[~again]), int(again.sum())
    unlabelled = _read_unlabelled(texts, task, faults)
    if "roster" in rows:
        roster = rows.pop("roster")
        for part in (rows, unlabelled):
            part[PERSONAL] = find_names(part["text"], roster)
    faults += _check_ids(rows[rows["text"] != LEAVE_OUT])  # a row of totals needs no id
    raters = [name for name in map(str, rows) if re.match(_RATERS, name)]
    rows[raters] = rows[raters].replace(LEAVE_OUT, "")
    coded = rows[~(rows == LEAVE_OUT).any(axis=1)]
    skipped, no_text = len(rows) - len(coded), int((rows["text"] == LEAVE_OUT).sum())
    left_out = {"not_selected": len(table) - len(selected), "no_text": no_text, "no_label": skipped - no_text}
    left_out = {reason: count for reason, count in (left_out | {"coded_again": coded_again}).items() if count}
    faults += _check_coded(coded, task)
    coded = coded[coded["text"] != ""]
    if "time" in coded:
        try:
            coded = coded.assign(time=write_times(coded))
        except DataError as error:
            faults.append(Fault(str(error)))
    coded = coded[coded["label"].isin(task.label_names)]
    sets = coded.pop("set") if "set" in coded else pd.Series(MAIN, index=coded.index)
    if len(unknown := sets[~sets.isin([MAIN, TRANSFER])]):
        sentence = f"{unknown.index[0]} is in the set '{unknown.iloc[0]}', but must be in {MAIN} or {TRANSFER}"
        faults.append(Fault(f"{sentence}: correct `columns.set` in task.yaml", [*unknown.index]))
    faults += _check_classes(coded[sets == MAIN], task, skipped)
    main, note = _drop_contradictions(coded[sets == MAIN])
    transfer, other_note = _drop_contradictions(coded[sets == TRANSFER])
    if note and (missing := sorted(set(coded["label"][sets == MAIN]) - set(main["label"]))):
        advice = f"no row coded {missing[0]} is left: correct the codes, so that equal texts have the same code"
        faults.append(Fault(f"{note.sentence}; {advice}", note.rows))
    return TaskRows(
        main=main,
        transfer=transfer,
        unlabelled=unlabelled,
        ratings=rows.filter(regex=rf"^id$|{_RATERS}").reset_index(drop=True),
        left_out=left_out | {"equal_text_other_label": len(coded) - len(main) - len(transfer)},
        notes=[each for each in (note, other_note) if each],
        places=dict(zip(rows["id"], map(str, rows.index), strict=True)),
    )


def measure_agreement(ratings: pd.DataFrame, task: Task) -> dict[str, float | None]:
    """Measure how far the first two raters agree: Cohen's kappa, quadratically weighted for ordinal labels.

    A rating that is not a label of the task counts as a category of its own; with ordinal labels, its row is left out.
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


def _check_ids(rows: pd.DataFrame) -> Iterator[Fault]:
    blank, repeated = rows[rows["id"] == ""], rows[(rows["id"] != "") & rows["id"].duplicated(keep=False)]
    if len(blank):
        yield blame_rows(blank, " has no id: give every row an id of its own")
    if len(repeated):
        name = repeated["id"].iloc[0]
        one, other = repeated.index[repeated["id"] == name][:2]
        sentence = f"the id '{name}' is in both {one} and {other}: give every row an id of its own"
        yield Fault(sentence, [*map(str, repeated.index)])


def _check_coded(rows: pd.DataFrame, task: Task) -> Iterator[Fault]:
    if len(empty := rows[rows["text"] == ""]):
        advice = "fill it in, or leave such rows out with `otherwise: leave_out` in `columns.text`"
        yield blame_rows(empty, f" has no text: {advice}")
    known = f"but task.yaml of {task.name} lists {', '.join(task.label_names)}"
    same = ", ".join(f"{name}: {name}" for name in task.label_names)
    for code, found in rows[~rows["label"].isin(task.label_names)].groupby("label", sort=False):
        what, advice = (f"the label '{code!s}'", "correct it, add it to task.yaml") if code else ("no label", "code it")
        example = f"{{'{code!s}': leave_out, {same}}}"
        yield blame_rows(found, f" has {what}, {known}: {advice}, or use `columns.label.map`, as in {example}")


def _check_classes(rows: pd.DataFrame, task: Task, left_out: int) -> Iterator[Fault]:
    counts = rows["label"].value_counts()
    for missing in [name for name in task.label_names if name not in counts]:
        found = f"all {len(rows)} rows are coded '{counts.index[0]}'" if len(counts) == 1 else f"{len(rows)} rows"
        more = f", and {left_out} were left out as `columns` says" if left_out else ""
        sentence = f"the task {task.name} has no row coded '{missing}' ({found}{more})"
        yield Fault(f"{sentence}: code some rows with it, or correct `labels` or `columns.label` in task.yaml")


def _drop_contradictions(rows: pd.DataFrame) -> tuple[pd.DataFrame, Fault | None]:
    """Drop rows with equal text and question but different labels: one code is wrong, and it is unknown which.

    Return the remaining rows, numbered from 0, and a note on the dropped ones.
    """
    texts = rows["text"].map(fold_text)
    labels = rows.groupby([rows["question"], texts])["label"].transform("nunique")
    found, note = rows[labels > 1], None
    if len(found):
        folded = texts[labels > 1]
        equal = found[(found["question"] == found["question"].iloc[0]) & (folded == folded.iloc[0])]
        shown = equal.drop_duplicates("label").head(2).to_dict("records")
        one, two = (f"{row['id']} ('{shorten(row['text'], 40)}', {row['label']})" for row in shown)
        sentence = f"{len(found)} rows were left out, because their text also has another label, as in {one} and {two}"
        note = Fault(sentence, [*map(str, found.index)])
    return rows[labels == 1].reset_index(drop=True), note


def _read_columns(table: pd.DataFrame, columns: Columns, faults: list[Fault]) -> pd.DataFrame:
    """Make the columns of coded rows, with clean texts; a row to be left out has a cell `leave_out`."""
    raters = {f"rater{number}": cell for number, cell in enumerate(columns.raters, start=1)}
    subgroups = {f"{SUBGROUP}{name}": cell for name, cell in columns.subgroups.items()}
    grouped = columns.group is not None and columns.group.column == "id"  # of persons with several rows each
    own = columns.id or (Cell(column="id") if "id" in table and not grouped else None)
    cells = {"id": own, "text": columns.text, "question": columns.question, "label": columns.label}
    cells |= {"group": columns.group, **raters, "time": columns.time, **subgroups, "set": columns.set}
    cells |= {"coder": columns.coder, "roster": columns.roster}
    rows = read_cells(table, {name: cell for name, cell in cells.items() if cell}, columns.repair, faults)
    if not own:
        rows.insert(0, "id", _name_texts(rows))
        repeats = rows.groupby("id").cumcount() + 1
        rows["id"] += ("-" + repeats.astype(str)).where((repeats > 1) & (columns.coder is None), "")
    return rows


def _read_unlabelled(texts: pd.DataFrame | None, task: Task, faults: list[Fault]) -> pd.DataFrame:
    if texts is None:
        return pd.DataFrame(columns=["id", "text", "question"], dtype=str)
    optional = {"question": task.columns.question, "group": task.columns.group}
    known = {name: cell for name, cell in optional.items() if cell and set(list_sources(cell)) <= set(texts)}
    rows = read_cells(texts, {"text": task.columns.text, **known}, task.columns.repair, faults)
    rows = rows[~rows["text"].isin(["", LEAVE_OUT])].drop_duplicates(["text", "question"])
    rows.insert(0, "id", _name_texts(rows))
    return rows.reset_index(drop=True)


def _name_texts(rows: pd.DataFrame) -> list[str]:
    hashes = (hashlib.sha256(text.encode()).hexdigest() for text in rows["question"] + "\n" + rows["text"])
    return [f"text-{digest[:16]}" for digest in hashes]


def _gather_coders(rows: pd.DataFrame) -> pd.DataFrame:
    """Merge the rows of each response into one, with each coder's code as a rater's and the majority as the label."""
    codes = rows.pivot(index="id", columns="coder", values="label")
    rows = rows.drop_duplicates("id").drop(columns="coder")
    codes = codes.reindex(rows["id"]).fillna("").set_axis(rows.index)
    raters = codes.set_axis([f"rater{number}" for number in range(1, codes.shape[1] + 1)], axis=1)
    return pd.concat([rows.assign(label=[vote(row) for row in codes.to_numpy()]), raters], axis=1)
