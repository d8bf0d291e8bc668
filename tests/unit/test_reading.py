"""Tables as people have them: `prepare` and `amalgam predict` read the same from the same bytes."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from amalgam.errors import DataError
from amalgam.shipping.tables import survey_table, write_table
from amalgam.tasks.formats import open_source
from amalgam.tasks.schema import File
from amalgam.tasks.sources import parse_table
from amalgam.tasks.tables import Part, read_parts

MARK = b"\xef\xbb\xbf"
PLAIN = [{"id": "1", "text": "good; really, so"}, {"id": "2", "text": "hält"}]
SEMICOLON = 'id;text\r\n1;"good; really, so"\r\n2;hält\r\n'
TAB = "id\ttext\n1\tgood; really, so\n2\thält\n"
COMMA = 'id,text\n1,"good; really, so"\n2,hält\n'
ROWS = COMMA.removeprefix("id,text").encode()


def read(data: bytes, name: str = "a.csv") -> list[dict[str, Any]]:
    """Read bytes as `predict` does, and check that `prepare` reads them alike."""
    source = open_source(data, name)
    rows = [row for part in read_parts(source) for row in part.rows]
    assert parse_table(data, File.model_validate(name)).to_dict("records") == rows
    return rows


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", MARK + MARK + COMMA.encode()),
        ("a.csv", b"\xc3\xaf\xc2\xbb\xc2\xbf" + COMMA.encode()),
        ("a.tsv", b"\xff\xfe" + TAB.encode("utf-16-le")),
        ("a.csv", SEMICOLON.encode()),
        ("a.csv", TAB.encode()),
        ("a.csv", TAB.replace("\t", "|").encode()),
        ("a.csv", b"sep=;\r\n" + SEMICOLON.encode()),
        ("a.csv", MARK + b'"SEP=:"\nid:text\n1:good; really, so\n2:h\xc3\xa4lt\n'),
        ("a.csv", b" id ,text\xe2\x80\x8b\n" + COMMA.split("\n", 1)[1].encode()),
        ("a.csv", b"\r\n" + COMMA.replace("\n", ",,\r\n").encode() + b",,,\r\n \r\n"),
        ("a.csv", gzip.compress(COMMA.encode())),
        ("a.csv", b"id,text\nResponse ID,What?\n{'ImportId': '_id'},{'ImportId': 'Q7'}" + ROWS),
        ("a.jsonl", MARK + b'{"id": "1", "text": "good; really, so"}\r\n\r\n{"id": "2", "text": "h\\u00e4lt"}'),
    ],
)
def test_what_programs_write_beside_the_rows_is_not_taken_for_content(name: str, data: bytes) -> None:
    assert read(data, name) == PLAIN


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ("a\ngood; so\nbad; so\n", [{"a": "good; so"}, {"a": "bad; so"}]),
        ("a; b\nx\ny\n", [{"a; b": "x"}, {"a; b": "y"}]),
        ('a;b;"c,d"\n1,0;x;y\n', [{"a": "1,0", "b": "x", "c,d": "y"}]),
        ('a\n""\n\nx\n', [{"a": ""}, {"a": "x"}]),
        (",a\n7,x\n", [{"": "7", "a": "x"}]),
        ("a,b\n'=1,'tis\n'-2,''+\n", [{"a": "=1", "b": "'tis"}, {"a": "-2", "b": "'+"}]),
        ("a,b\n1," + "word " * 40_000 + "\n", [{"a": "1", "b": "word " * 40_000}]),
    ],
)
def test_cells_are_told_apart(data: str, rows: list[dict[str, str]]) -> None:
    assert read(data.encode()) == rows


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.csv", 'id,text\n1,x\n2,"open\n3,y\n', "line 3 begins a row that cannot be read"),
        ("a.csv", 'id,text\n1,"a\nb"\n2,"he said "hi""\n', "line 4 begins a row that cannot be read"),
        ("a.csv", b"id,text\n1,x\n2,\0\n", "line 3 holds a NUL"),
        ("a.csv", b"id,text\n1,h\xc3\xa4lt\n2,h\xe4lt\n", "line 3, byte 4 is not UTF-8: save the file as UTF-8"),
        ("a.csv", b"\xff\xfei\0d\0,\0x\0\n\0\x00\xd8", "after line 1 is not utf-16: save the file as UTF-8"),
        ("a.csv", "id,,text\n1,so,x\n", "row 2 has 'so' in column 2, which has no name"),
        ("a.csv", "id,text\n1,so,x\n", "row 2 has 3 cells, but the header has 2"),
        (
            "a.csv",
            b"PK\x03\x04" + bytes(26) + b"xl/",
            "is no Excel workbook, or a damaged one: save it as .xlsx or as `CSV UTF-8`",
        ),
        ("a.csv", gzip.compress(b"id,text\n1,x\n")[:-9], "cannot be read"),
        ("a.jsonl", '{"text": "a", "text": "b"}\n', "row 1 is not valid JSON .two keys are named 'text'"),
        ("a.jsonl", "[" * 100_000, "row 1 is not valid JSON"),
        ("a.jsonl", '{"a": 1}\n[1]\n', "row 2 is not a JSON object"),
    ],
)
def test_a_broken_table_gives_one_sentence_with_the_place(name: str, data: bytes | str, sentence: str) -> None:
    with pytest.raises(DataError, match=f"^{name}.*{sentence}") as caught:
        read(data.encode() if isinstance(data, str) else data, name)
    assert "\n" not in str(caught.value)


def test_columns_named_alike_are_refused_for_predict_and_numbered_for_a_task(tmp_path: Path) -> None:
    table = pyarrow.table([["a"], ["b"], ["c"]], names=["text", "id", "text "])
    parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("text,id, text\na,b,c\n")
    for name in ("a.parquet", "a.csv"):
        with pytest.raises(DataError, match=f"{name} has two columns named 'text': rename one"):
            list(read_parts(open_source(tmp_path / name)))
        rows = parse_table((tmp_path / name).read_bytes(), File.model_validate(name))
        assert rows.to_dict("records") == [{"text (1)": "a", "id": "b", "text (2)": "c"}]


@pytest.mark.parametrize(
    ("column", "is_text"),
    [
        (pyarrow.array(["a", None, "a"]), True),
        (pyarrow.array(["a", None, "a"]).dictionary_encode(), True),
        (pyarrow.array([1, 2, 3]), False),
        (pyarrow.array([None, ["a"], []]), False),
        (pyarrow.array([0, 1, 2], pyarrow.date32()), False),
    ],
)
def test_columns_of_parquet_that_hold_no_text(column: pyarrow.Array, is_text: bool, tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({" text": column}), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    if is_text:
        assert survey_table(source, ["text"]).rows == 3
        assert [row["text"] for part in read_parts(source) for row in part.rows] == ["a", None, "a"]
    else:
        with pytest.raises(DataError, match=r"a\.parquet, row [12] has no text under 'text'"):
            survey_table(source, ["text"])


def test_dates_of_parquet_are_written_as_dates_and_bytes_are_no_text(tmp_path: Path) -> None:
    table = pyarrow.table({"day": pyarrow.array([0], pyarrow.date32()), "score": [float("nan")], "tags": [["a"]]})
    parquet.write_table(table, tmp_path / "a.parquet")
    (row,) = parse_table((tmp_path / "a.parquet").read_bytes(), File.model_validate("a.parquet")).to_dict("records")
    assert row == {"day": "1970-01-01", "score": "", "tags": '["a"]'}
    with pytest.raises(DataError, match="not a readable Parquet file"):
        parse_table(b"none", File.model_validate("a.parquet"))
    parquet.write_table(pyarrow.table({"text": [b"good"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet, row 1 has no text under 'text', but bytes"):
        parse_table((tmp_path / "a.parquet").read_bytes(), File.model_validate("a.parquet"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


CELL = st.text(st.characters(exclude_categories=["Cs"])) | st.text("'=+-@\t\r\n,;|\"3 a\ufeff", max_size=6)


@settings(max_examples=60)
@given(st.lists(CELL, min_size=1, max_size=4), st.sampled_from([".csv", ".tsv"]))
@example(["'=1", "''-", "-3", "'-3", "\0="], ".csv")
def test_a_text_survives_being_written_and_read(folder: Path, cells: list[str], ending: str) -> None:
    (folder / "from.jsonl").touch()
    rows = [{"id": "r", "text": cell, "more": cell} for cell in cells]
    once = write_and_read(folder / "from.jsonl", rows, folder / f"first{ending}")
    assert once == [{name: cell.replace("\0", "") for name, cell in row.items()} for row in rows]
    assert write_and_read(folder / f"first{ending}", once, folder / f"second{ending}") == once
    assert (folder / f"second{ending}").read_bytes() == (folder / f"first{ending}").read_bytes()


def write_and_read(source: Path, rows: list[dict[str, Any]], target: Path) -> list[dict[str, Any]]:
    """Write rows that came from `source` as `predict` does, the id as the new column, and read them again."""
    part = Part(rows, []), {"id": [row["id"] for row in rows]}
    write_table(target, open_source(source), ["text", "more"], {"id": str}, [part])
    return [row for part in read_parts(open_source(target)) for row in part.rows]
