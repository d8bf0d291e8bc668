r"""Which columns of a source become which columns of the rows, said in task.yaml.

Each entry below `columns:` makes one column: `id`, `text` and `label` (by default the source columns of these
names), and where the task has them `question`, `group` (rows that must not be parted, such as those of one
person), `time` (a date in the form of ISO 8601), `subgroups` (a mapping of names, such as gender or school, to
entries, by which results are looked at; they become subgroup_gender, subgroup_school, … and an empty cell belongs to
none), `raters` (a list; its entries become rater1, rater2, …) and `set` (`main`, or `transfer_test`
for coded rows that answer another question and only test). An entry is the name of a source column, or a
mapping of these steps, taken in this order:

    column: name                   takes one column
    columns: [a, b], join: "-"     or joins several
    item: 0                        takes the n-th item of a list in brackets, such as [1, 0, 2]
    pattern: '(\d+)_\d+'             keeps what the one group of a regular expression matches in the whole cell
    map: {1: correct, 0: wrong}    replaces whole cells
    above: {positive: 0.5}         or turns a number into the name of the highest bound that it is above,
    below: {negative: -0.5}        or else of the lowest bound that it is below
    otherwise: neutral             what a cell becomes that `map`, `above` and `below` do not cover, or whose list has
                                   no such `item`; an error without

The value `leave_out` (of `map` or `otherwise`) leaves the row out; `otherwise: leave_out` does so with an empty cell as
well, whatever the steps. Two keys are no columns: `where: {domain: ELA}`
takes only the rows whose cell is so, and `repair: mojibake` mends texts that were encoded twice.
"""

import json
import re

import pandas as pd

from amalgam.errors import DataError
from amalgam.rows import SUBGROUP
from amalgam.tasks.schema import LEAVE_OUT, Cell, Columns
from amalgam.tasks.sources import check_columns
from amalgam.tasks.texts import clean_text


def read_columns(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Make the columns of coded rows; rows that are left out have the cell `leave_out`, texts are clean.

    Args:
        table: strings, with the place of each row as its index; the index is kept.
        columns: `columns` of the task.

    Raises:
        DataError: with the place of a cell that cannot be read, or the missing column.
    """
    cells = {"id": columns.id, "text": columns.text, "question": columns.question, "label": columns.label}
    cells |= {"group": columns.group, **_list_raters(columns), "time": columns.time}
    cells |= {f"{SUBGROUP}{name}": cell for name, cell in columns.subgroups.items()} | {"set": columns.set}
    return _read_cells(table, {name: cell for name, cell in cells.items() if cell}, columns)


def read_text_columns(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Make `text`, and `question` and `group` where the table can give them, of unlabelled texts.

    Raises:
        DataError: as `read_columns` does.
    """
    optional = {"question": columns.question, "group": columns.group}
    known = {name: cell for name, cell in optional.items() if cell and set(list_sources(cell)) <= set(table)}
    return _read_cells(table, {"text": columns.text, **known}, columns)


def select_rows(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Keep the rows that `where` selects.

    Raises:
        DataError: if a column is missing, or no row is left.
    """
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


def list_sources(cell: Cell) -> list[str]:
    """Name the source columns of a cell."""
    return cell.columns or [cell.column]


def _list_raters(columns: Columns) -> dict[str, Cell]:
    return {f"rater{number}": cell for number, cell in enumerate(columns.raters, start=1)}


def _read_cells(table: pd.DataFrame, cells: dict[str, Cell], columns: Columns) -> pd.DataFrame:
    check_columns(table, list(dict.fromkeys(source for cell in cells.values() for source in list_sources(cell))))
    made = pd.DataFrame({name: _read_cell(table, cell) for name, cell in cells.items()}, index=table.index, dtype=str)
    if "question" not in made:
        made.insert(list(made).index("text") + 1, "question", "")
    for name in ("text", "question", *(name for name in cells if name.startswith(SUBGROUP))):
        made[name] = [clean_text(text, mojibake=columns.repair == "mojibake") for text in made[name]]
    return made


def _read_cell(table: pd.DataFrame, cell: Cell) -> list[str]:
    parts = zip(*(table[name].str.strip() for name in list_sources(cell)), strict=True)
    return [_take_steps(cell.join.join(part), cell, place) for place, part in zip(table.index, parts, strict=True)]


def _take_steps(value: str, cell: Cell, place: str) -> str:
    if not value and cell.otherwise == LEAVE_OUT and "" not in cell.map:
        return LEAVE_OUT
    if cell.item is not None:
        item = _take_item(value, cell, place)
        if item is None:
            return str(cell.otherwise)
        value = item
    if cell.pattern is not None:
        match = re.fullmatch(cell.pattern, value)
        if not match:
            raise _refuse(value, cell, place, f"does not match the pattern {cell.pattern}")
        value = match[1]
    if cell.map:
        named = cell.map.get(value, cell.otherwise)
    elif cell.above or cell.below:
        named = _name_number(value, cell, place)
    else:
        return value
    if named is None:
        known = ", ".join(f"'{name}'" for name in cell.map)
        what = f"is none of {known}, which are all that its `map` covers" if known else "lies within all bounds"
        raise _refuse(value, cell, place, what, "add it there, or say by `otherwise` what every other cell becomes")
    return named


def _take_item(value: str, cell: Cell, place: str) -> str | None:
    try:
        items = json.loads(value)
    except ValueError as error:
        raise _refuse(value, cell, place, "is not a list in brackets") from error
    if not isinstance(items, list):
        raise _refuse(value, cell, place, "is not a list in brackets")
    item = items[cell.item or 0] if len(items) > (cell.item or 0) else None
    if item is None:
        if cell.otherwise is not None:
            return None
        advice = "correct the cell, or add `otherwise: leave_out` beside `item` to leave such rows out"
        raise _refuse(value, cell, place, f"is not a list with an item {cell.item} (the first is 0)", advice)
    return item if isinstance(item, str) else json.dumps(item)


def _name_number(value: str, cell: Cell, place: str) -> str | None:
    try:
        number = float(value)
    except ValueError as error:
        raise _refuse(value, cell, place, "is not a number") from error
    for name, bound in sorted(cell.above.items(), key=lambda entry: -entry[1]):
        if number > bound:
            return name
    for name, bound in sorted(cell.below.items(), key=lambda entry: entry[1]):
        if number < bound:
            return name
    return cell.otherwise


def _refuse(
    value: str, cell: Cell, place: str, reason: str, advice: str = "correct the cell, or `columns` in task.yaml"
) -> DataError:
    names = ", ".join(f"`{name}`" for name in list_sources(cell))
    shown = value if len(value) <= 60 else f"{value[:60]}…"
    return DataError(f"{place}: '{shown}' of {names} {reason}: {advice}")
