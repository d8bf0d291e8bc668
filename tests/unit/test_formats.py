"""Tables as people have them: `amalgam new`, `prepare` and `amalgam predict` read the same from the same bytes."""

import datetime
import gzip
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import openpyxl
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from amalgam.errors import DataError
from amalgam.shipping.tables import survey_table
from amalgam.tasks.formats import open_source
from amalgam.tasks.schema import File
from amalgam.tasks.sources import parse_table, read_file
from amalgam.tasks.tables import read_parts
from amalgam.tasks.texts import write_text

ROWS = [{"id": "1", "text": "3,5 „große“ Äpfel;\nso", "label": "0"}, {"id": "2", "text": "=1+1 שלום 🙂", "label": "1"}]
WESTERN = [ROWS[0], {"id": "2", "text": "naïve façade", "label": "1"}]
IDS = ['{"ImportId":"_recordId"}', '{"ImportId":"QID7_TEXT"}', '{"ImportId":"QID8"}']
MARK = b"\xef\xbb\xbf"
PLAIN = [{"id": "1", "text": "good; really, so"}, {"id": "2", "text": "hält"}]
COMMA = 'id,text\n1,"good; really, so"\n2,hält\n'


def read(path: Path) -> list[dict[str, Any]]:
    """Read a file as `new` does, and check that `prepare` and `predict` read the same."""
    table = read_file(path)
    rows: list[dict[str, Any]] = table.frame.to_dict("records")
    assert parse_table(path, File.model_validate(table.origin["files"][0])).to_dict("records") == rows
    parts = list(read_parts(open_source(path)))
    assert [{name: write_text(row[name]) or "" for name in row} for part in parts for row in part.rows] == rows
    return rows


def write_csv(path: Path, rows: list[dict[str, Any]] = ROWS, mark: str = "", **said: Any) -> None:
    text = pd.DataFrame(rows).to_csv(index=False, sep=said.get("sep", ","), lineterminator="\r\n")
    path.write_bytes((mark + text).encode(said.get("encoding", "utf-8")))


def write_excel(path: Path, rows: list[list[Any]]) -> None:
    book = openpyxl.Workbook()
    book.create_sheet("Codes")
    for number, row in enumerate(rows, start=1):
        for column, cell in enumerate(row, start=1):
            written = book["Codes"].cell(number, column, cell)
            written.data_type = "s" if isinstance(cell, str) else written.data_type
    book.save(path)


def change_workbook(path: Path, old: bytes, new: bytes) -> None:
    with zipfile.ZipFile(path) as book:
        parts = {name: re.sub(old, new, book.read(name)) for name in book.namelist()}
    with zipfile.ZipFile(path, "w") as book:
        for name, part in parts.items():
            book.writestr(name, part)


def write_json(path: Path, value: Any, *, lines: bool = False) -> None:
    path.write_text("\n".join(map(json.dumps, value)) if lines else json.dumps(value), encoding="utf-8")


def code(rater: int, label: str, **more: Any) -> dict[str, Any]:
    result: list[dict[str, Any]] = [{"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}]
    result += [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]
    return {"completed_by": {"id": rater, "email": "a@example.org"}, "result": result, "was_cancelled": False, **more}


HEAD, CELLS = [*ROWS[0]], [[*row.values()] for row in ROWS]
TASKS = [{"id": int(row["id"]), "data": {"text": row["text"]}} for row in ROWS]
FORMATS: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda path: write_csv(path, mark="\ufeff"),
    "b.csv": lambda path: write_csv(path, WESTERN, sep=";", encoding="cp1252"),
    "c.csv": lambda path: write_csv(path, mark="\ufeff", sep="\t", encoding="utf-16-le"),
    "a.txt": lambda path: write_csv(path, sep="\t"),
    "a.xlsx": lambda path: write_excel(path, [HEAD, *([int(a), b, float(c)] for a, b, c in CELLS)]),
    "qualtrics.xlsx": lambda path: write_excel(path, [HEAD, ["Response ID", "Why?", "Code"], IDS, *CELLS]),
    "qualtrics.csv": lambda path: write_csv(path, [dict(zip(HEAD, row, strict=True)) for row in (HEAD, IDS)] + ROWS),
    "a.json": lambda path: write_json(path, {"count": 2, "rows": ROWS}),
    "a.jsonl": lambda path: write_json(path, ROWS, lines=True),
    "a.parquet": lambda path: parquet.write_table(pyarrow.Table.from_pylist(ROWS), path),
    "studio.json": lambda path: write_json(
        path, [task | {"annotations": [code(7, row["label"])]} for task, row in zip(TASKS, ROWS, strict=True)]
    ),
    "saved": lambda path: datasets.Dataset.from_list(ROWS).save_to_disk(str(path)),
    "no_ending": lambda path: write_csv(path, sep="|"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_cells(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name)
    assert read(tmp_path / name) == (WESTERN if name == "b.csv" else ROWS)


def test_what_was_found_out_is_said(tmp_path: Path) -> None:
    FORMATS["qualtrics.xlsx"](tmp_path / "a.xlsx")
    table = read_file(tmp_path / "a.xlsx")
    assert (table.source.format, table.source.sheet, table.frame.index[0]) == ("xlsx", "Codes", 4)
    assert (table.export, table.questions) == ("Qualtrics", {"id": "Response ID", "text": "Why?", "label": "Code"})
    (tmp_path / "c.txt").write_text('Anon Student Id\tInput\ns1\t"so" he said\n', encoding="utf-8")
    table = read_file(tmp_path / "c.txt")
    assert (table.export, table.source.format, table.frame["Input"][2]) == ("DataShop", "plain_tsv", '"so" he said')
    write_json(tmp_path / "d.jsonl", [{"text": "a", "label": ['x "y"']}, {"text": "b", "label": []}], lines=True)
    table = read_file(tmp_path / "d.jsonl")
    assert (table.export, table.lists) == ("doccano", ["label"])


def test_raters_get_columns(tmp_path: Path) -> None:
    tasks = [TASKS[0] | {"annotations": [code(7, "0"), code(8, "1")]}]
    tasks += [TASKS[1] | {"annotations": [code(7, "0", was_cancelled=True), code(8, "1")]}]
    write_json(tmp_path / "a.json", tasks)
    columns = {"label.responses": [["0", "1"], ["1"]], "label.responses.users": [["u", "v"], ["v"]]}
    columns |= {"label.responses.status": [["submitted", "submitted"], ["submitted"]], "id": ["1", "2"]}
    saved = datasets.Dataset.from_dict({"text": [row["text"] for row in ROWS], **columns})
    saved.save_to_disk(str(tmp_path / "argilla"))
    for name, export in (("a.json", "Label Studio"), ("argilla", "Argilla")):
        table = read_file(tmp_path / name)
        assert table.frame[["label (rater 1)", "label (rater 2)"]].to_numpy().tolist() == [["0", "1"], ["", "1"]]
        assert table.export == export
        assert table.frame["text"].tolist() == [row["text"] for row in ROWS]


def test_classes_of_a_data_set_are_named_and_withheld_ones_empty(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    saved = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, -1, None]}, features=features)
    saved.save_to_disk(str(tmp_path / "saved"))
    assert read_file(tmp_path / "saved").frame["label"].tolist() == ["yes", "", ""]


def test_cells_of_excel_are_written_as_people_read_them(tmp_path: Path) -> None:
    row = [1.0, 0.5, True, datetime.datetime(2024, 5, 31), datetime.datetime(2024, 5, 31, 14, 30), None, "#N/A"]
    write_excel(tmp_path / "a.xlsx", [list("abcdefg"), row, [None] * 7])
    (cells,) = read_file(tmp_path / "a.xlsx").frame.to_numpy().tolist()
    assert cells == ["1", "0.5", "true", "2024-05-31", "2024-05-31 14:30:00", "", "#N/A"]


def test_a_formula_gives_the_value_that_was_calculated(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for cells in (["text"], ["a"], ["=A2"]):
        book.worksheets[0].append(cells)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=r"row 3 has a formula without a stored value \(=A2\): open the file"):
        read_file(tmp_path / "a.xlsx")
    change_workbook(tmp_path / "a.xlsx", rb"</f><v ?/?>(</v>)?", b"</f><v>7</v>")
    assert read_file(tmp_path / "a.xlsx").frame["text"].tolist() == ["a", "7"]


def test_a_workbook_that_gives_a_wrong_size_is_read_whole_and_an_empty_one_refused(tmp_path: Path) -> None:
    FORMATS["a.xlsx"](tmp_path / "a.xlsx")
    change_workbook(tmp_path / "a.xlsx", rb'<dimension ref="[^"]*"', b'<dimension ref="A1"')
    assert read(tmp_path / "a.xlsx") == ROWS
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match="is not an Excel workbook or is damaged"):
        read_file(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [
        ("a.csv", MARK + MARK + COMMA.encode(), PLAIN),
        ("a.csv", b"\xc3\xaf\xc2\xbb\xc2\xbf" + COMMA.encode(), PLAIN),
        ("a.csv", MARK + b'"SEP=:"\nid:text\n1:good; really, so\n2:h\xc3\xa4lt\n', PLAIN),
        ("a.csv", b" id ,text\xe2\x80\x8b\n" + COMMA.split("\n", 1)[1].encode(), PLAIN),
        ("a.csv", b"\r\n" + COMMA.replace("\n", ",,\r\n").encode() + b",,,\r\n \r\n", PLAIN),
        ("a.csv", gzip.compress(COMMA.encode(), mtime=0), PLAIN),
        ("a.csv", b"id,text\nResponse ID,What?\n{'ImportId': '_id'},{'ImportId': 'Q7'}" + COMMA[7:].encode(), PLAIN),
        ("a.jsonl", MARK + b'{"id": "1", "text": "good; really, so"}\r\n\r\n{"id": "2", "text": "h\\u00e4lt"}', PLAIN),
        ("a.csv", "a\ngood; so\nbad; so\n", [{"a": "good; so"}, {"a": "bad; so"}]),
        ("a.csv", "a; b\nx\ny\n", [{"a; b": "x"}, {"a; b": "y"}]),
        ("a.csv", 'a;b;"c,d"\n1,0;x;y\n', [{"a": "1,0", "b": "x", "c,d": "y"}]),
        ("a.csv", 'a\n""\n\nx\n', [{"a": ""}, {"a": "x"}]),
        ("a.csv", ",a\n7,x\n", [{"": "7", "a": "x"}]),
        ("a.csv", "a,b\n'=1,'tis\n'-2,''+\n", [{"a": "=1", "b": "'tis"}, {"a": "-2", "b": "'+"}]),
        ("a.csv", "a,b\n1," + "word " * 200_000 + "\n", [{"a": "1", "b": "word " * 200_000}]),
        ("a.csv", "a\n" + "so\n" * 100_000, [{"a": "so"}] * 100_000),
    ],
)
def test_what_programs_write_beside_the_rows_is_no_content_and_cells_are_told_apart(
    name: str, data: str | bytes, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    assert read(tmp_path / name) == rows


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "L'élève a compris que la réponse est négative, ça va être «très» dur"),
        ("cp1250", "Zażółć gęślą jaźń, uczeń nie rozumie, że ułamki są większe"),
        ("cp1251", "Ученик не понял вопрос и ответил неправильно"),
        ("shift_jis", "生徒は質問を理解していなかったので間違えました"),
        ("mac_roman", "Der Schüler erklärt die Größe"),
        ("utf-16-be", "Der Schüler erklärt die Größe"),
        ("mac_roman", "The naïve answer was right"),
    ],
)
def test_an_older_encoding_is_found_and_may_be_said(
    encoding: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(f"id;text\n1;{text}\n".encode(encoding))
    assert len(read_file(tmp_path / "a.csv").notes) == 1
    for said in (None, encoding):
        assert parse_table(tmp_path / "a.csv", File(path="a.csv", encoding=said))["text"].tolist() == [text]
        assert ("a.csv is not UTF-8, and was read as " in capsys.readouterr().err) == (said is None)
    with pytest.raises(DataError, match="cannot be read: 'latin-99' is not an encoding"):
        parse_table(tmp_path / "a.csv", File(path="a.csv", encoding="latin-99"))


def test_columns_named_alike_are_refused_for_predict_and_numbered_for_a_task(tmp_path: Path) -> None:
    table = pyarrow.table([["a"], ["b"], ["c"]], names=["text", "id", "text "])
    parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("text,id, text\na,b,c\n")
    for name in ("a.parquet", "a.csv"):
        with pytest.raises(DataError, match=f"{name} has two columns named 'text': rename one"):
            list(read_parts(open_source(tmp_path / name)))
        rows = parse_table((tmp_path / name).read_bytes(), File.model_validate(name))
        assert rows.to_dict("records") == [{"text (1)": "a", "id": "b", "text (2)": "c"}]


def test_values_of_parquet_keep_their_meaning_and_where_they_are_no_text_they_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({" text": pyarrow.array(["a", None]).dictionary_encode()}), path)
    assert survey_table(open_source(path), ["text"]) == (2, ["text"])
    assert [row["text"] for part in read_parts(open_source(path)) for row in part.rows] == ["a", None]
    parquet.write_table(pyarrow.table({"text": [None, ["a"]]}), path)
    with pytest.raises(DataError, match=r"a\.parquet, row 2 has no text under 'text'"):
        survey_table(open_source(path), ["text"])
    table = pyarrow.table({"day": pyarrow.array([0], pyarrow.date32()), "score": [float("nan")], "tags": [["a"]]})
    parquet.write_table(table, path)
    assert read(path) == [{"day": "1970-01-01", "score": "", "tags": '["a"]'}]
    parquet.write_table(pyarrow.table({"text": [b"good"]}), path)
    with pytest.raises(DataError, match=r"a\.parquet, row 1 has bytes under 'text'"):
        read_file(path)
