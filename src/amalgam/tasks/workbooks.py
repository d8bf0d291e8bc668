"""Sheets of Excel workbooks as rows of cells."""

import datetime
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from amalgam.errors import DataError

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook


def count_filled(cells: Sequence[Any]) -> int:
    """Count cells up to the last one that is not blank."""
    return max((place for place, cell in enumerate(cells, 1) if cell is not None and str(cell).strip()), default=0)


def read_workbook(content: bytes, file: str, sheet: str | None) -> tuple[str | None, list[list[Any]]]:
    """Read a sheet whole: the one that is named, or the first visible one with a table; return its name and cells.

    Of formulas, the values last calculated are taken.
    """
    with _open_workbook(content, file) as book:
        names = [each.title for each in book.worksheets]
        if sheet and sheet not in names:
            raise DataError(f"{file} has no sheet {sheet!r}, only {', '.join(names)}: name one of them")
        hidden = {each.title: each.sheet_state != "visible" for each in book.worksheets}
        title, cells = sheet, list[list[Any]]()
        for name in [sheet] if sheet else sorted(names, key=hidden.__getitem__):
            read = [[_read_cell(cell) for cell in row] for row in book[name].values]
            if not cells and any(map(count_filled, read)):
                title, cells = name, read
            if sum(count_filled(row) > 1 for row in read) > 1:  # a table, unlike a cover sheet
                title, cells = name, read
                break
    if _has_formulas(content):
        with _open_workbook(content, file, formulas=True) as book:
            rows = enumerate(zip(book[title].values, cells, strict=False), start=1)
            found = [(number, *pair) for number, row in rows for pair in zip(*row, strict=False) if pair[0] != pair[1]]
        # A value may be an empty text, but not that of every formula.
        formulas = [cell for cell in found if str(cell[1]).startswith("=") or hasattr(cell[1], "ref")]
        if formulas and all(value is None for _, _, value in formulas):
            raise DataError(
                f"{file}, row {formulas[0][0]} has a formula without its value ({str(formulas[0][1])[:40]}): "
                "open the file in a spreadsheet program and save it"
            )
    return title, cells


@contextmanager
def _open_workbook(content: bytes, file: str, *, formulas: bool = False) -> "Iterator[Workbook]":
    import warnings
    from zipfile import BadZipFile

    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    # What a damaged workbook raises: it lacks parts, or these are not of the expected form.
    faults = (AttributeError, BadZipFile, InvalidFileException, LookupError, RuntimeError, SyntaxError, TypeError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on styles and other parts that hold no rows
            book = load_workbook(io.BytesIO(content), read_only=True, data_only=not formulas)
            yield book
            book.close()
    except (*faults, ValueError) as error:
        raise DataError(f"{file} is no Excel workbook, or a damaged one: save it as .xlsx or as `CSV UTF-8`") from error


def _has_formulas(content: bytes) -> bool:
    from zipfile import ZipFile

    with ZipFile(io.BytesIO(content)) as archive:
        sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/") and name.endswith(".xml")]
        return any(re.search(rb"<f[ />]", archive.read(name)) for name in sheets)


def _read_cell(cell: Any) -> Any:
    """Return whole numbers and dates as such: some programs write 1 as 1.0, and a day is stored as its midnight."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 10**15:
        return int(cell)
    return cell.date() if isinstance(cell, datetime.datetime) and cell.time() == datetime.time() else cell
