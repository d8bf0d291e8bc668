"""Make the cells of a column from those of a source, by the steps of its entry in `columns` of task.yaml."""

import json
import re
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd

from amalgam.files import SUBGROUP
from amalgam.tasks.labels import read_number, vote
from amalgam.tasks.schema import LEAVE_OUT, Cell
from amalgam.tasks.sources import check_columns
from amalgam.tasks.texts import clean_text


class Fault(NamedTuple):
    """A fault in rows: a sentence that ends with what to do, and the places of all rows that it concerns."""

    sentence: str
    rows: Sequence[str] = ()


def blame_rows(rows: "pd.DataFrame | pd.Series[str]", what: str) -> Fault:
    """Make a fault about these rows; its sentence names the first three and then says `what`."""
    places = [*map(str, rows.index)]
    more = f" (and {len(places) - 3} more)" if len(places) > 3 else ""
    return Fault(f"{'; '.join(places[:3])}{more}{what}", places)


def shorten(text: str, size: int) -> str:
    """Cut a text that is longer than `size` characters."""
    return text if len(text) <= size else f"{text[:size]}…"


def read_cells(table: pd.DataFrame, cells: dict[str, Cell], repair: str | None, faults: list[Fault]) -> pd.DataFrame:
    """Make the columns of rows; a cell that cannot be made becomes `leave_out`, and its fault is added to `faults`.

    Rows without a text that are left out, such as a row of totals, have no faults.
    """
    check_columns(table, list(dict.fromkeys(source for cell in cells.values() for source in list_sources(cell))))
    clean = partial(clean_text, mojibake=repair == "mojibake")
    text = _read_cell(table, cells["text"], faults).map(clean)
    if cells["text"].otherwise == LEAVE_OUT:  # also if the cell held only invisible characters
        text = text.where(text != "", LEAVE_OUT)
    used = text != LEAVE_OUT
    read = {name: text if name == "text" else _read_cell(table, cells[name], faults, used) for name in cells}
    made = pd.DataFrame(read, dtype=str)
    if "question" not in made:
        made.insert(list(made).index("text") + 1, "question", "")
    for name in ("question", *(name for name in cells if name == "roster" or name.startswith(SUBGROUP))):
        made[name] = made[name].map(clean)
    return made


def list_sources(cell: Cell) -> list[str]:
    """List the source columns of an entry."""
    return cell.columns or [cell.column]


def _read_cell(
    table: pd.DataFrame, cell: Cell, faults: list[Fault], used: "pd.Series[bool] | bool" = True
) -> "pd.Series[str]":
    """Make a column; only rows that are `used` have faults."""
    if cell.majority:
        alone = [cell.model_copy(update={"column": name, "columns": [], "majority": False}) for name in cell.columns]
        codes = zip(*(_read_cell(table, each, faults, used) for each in alone), strict=True)
        return pd.Series([vote(row) for row in codes], index=table.index)
    parts = [table[name].str.strip() for name in list_sources(cell)]
    cells = parts[0].str.cat(pd.concat(parts[1:], axis=1), sep=cell.join) if len(parts) > 1 else parts[0]
    made: dict[str, str] = {}
    for value in cells.unique():
        try:
            made[value] = _take_steps(value, cell)
        except ValueError as error:
            made[value] = LEAVE_OUT
            names = ", ".join(f"`{name}`" for name in list_sources(cell))
            if len(wrong := cells[(cells == value) & used]):
                faults.append(blame_rows(wrong, f": '{shorten(value, 60)}' in {names} {error}"))
    return cells.map(made)


def _take_steps(value: str, cell: Cell) -> str:
    """Make a cell; a ValueError says what is wrong with it and what to do."""
    mend = "correct the cell, or `columns` in task.yaml"
    if not value and cell.otherwise == LEAVE_OUT and "" not in cell.map:
        return LEAVE_OUT
    if cell.item is not None:
        try:
            items = json.loads(value)
        except ValueError:
            items = None
        if not isinstance(items, list):
            raise ValueError(f"is not a list in brackets: {mend}")
        if (item := items[cell.item] if len(items) > cell.item else None) is None:
            if cell.otherwise is None:
                advice = "correct the cell, or add `otherwise: leave_out` next to `item` to leave such rows out"
                raise ValueError(f"is not a list with an item {cell.item} (the first is 0): {advice}")
            return cell.otherwise
        value = item if isinstance(item, str) else json.dumps(item)
    if cell.pattern is not None:
        if not (match := re.fullmatch(cell.pattern, value)):
            raise ValueError(f"does not match the pattern {cell.pattern}: {mend}")
        value = match[1]
    if value in cell.map:
        return cell.map[value]
    if cell.above or cell.below:
        if (number := read_number(value)) is None:
            raise ValueError(f"is not a number: {mend}")
        passed = [(-bound, name) for name, bound in cell.above.items() if number > bound]
        passed = passed or [(bound, name) for name, bound in cell.below.items() if number < bound]
        named, what = min(passed)[1] if passed else cell.otherwise, "is within all bounds: move one"
    elif cell.map:
        named, what = cell.otherwise, ", ".join(f"'{name}'" for name in cell.map)
        what = f"is not in its `map`, which covers only {what}: add it there"
    else:
        return value
    if named is None:
        raise ValueError(f"{what}, or set `otherwise` to what every other cell becomes")
    return named
