from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.files import guard_cell, read_rows, unguard_cell, write_rows

CELL = st.text(st.characters(exclude_categories=["Cs"])) | st.text("'=+-@\t\r\n,\" a", max_size=5)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows") / "rows.csv"


@given(CELL)
@example("'=1")
@example("''-")
def test_a_guarded_cell_is_no_formula_and_comes_back(cell: str) -> None:
    assert not guard_cell(cell).startswith(FORMULA)
    assert unguard_cell(guard_cell(cell)) == cell


@settings(max_examples=40)
@given(st.lists(st.tuples(CELL, CELL), max_size=4))
@example([("NA", "null"), ("", "1e5"), ("007", " x ")])
def test_rows_come_back_as_they_were(path: Path, cells: list[tuple[str, str]]) -> None:
    rows = pd.DataFrame(
        [
            {"id": f"r{number}", "text": text, "question": "", "label": label}
            for number, (text, label) in enumerate(cells)
        ],
        columns=["id", "text", "question", "label"],
        dtype=str,
    )
    write_rows(path, rows)
    pd.testing.assert_frame_equal(read_rows(path), rows, check_dtype=False, check_index_type=False)


def test_formulas_are_guarded_and_a_carriage_return_is_quoted(tmp_path: Path) -> None:
    rows = pd.DataFrame({"id": ["a", "b"], "text": ["=1", 'x\r"y"'], "sample": [7, 8]})
    write_rows(tmp_path / "rows.csv", rows)
    assert (tmp_path / "rows.csv").read_bytes() == b'id,text,sample\na,\'=1,7\n"b","x\r""y""","8"\n'


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.csv is missing: run `dvc repro` to make it"):
        read_rows(tmp_path / "rows.csv")


@pytest.mark.parametrize("content", [b"", b'id,text\na,b,c,d\n"', b"id,text\na,\xff\n"])
def test_a_broken_file_gives_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.csv is not a table in UTF-8: delete it and run `dvc repro`"):
        read_rows(tmp_path / "rows.csv")
