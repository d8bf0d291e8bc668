"""Tables in the formats that people have are read alike, and what is no table gives one sentence."""

import datetime
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
from huggingface_hub import DatasetInfo
from pyarrow import parquet

from amalgam.errors import DataError
from amalgam.tasks.reading import Table, read_file
from amalgam.tasks.schema import File, HubSource
from amalgam.tasks.sources import parse_table

ROWS = [{"id": "1", "text": "3,5 „große“ Äpfel;\nso", "label": "0"}, {"id": "2", "text": "=1+1 שלום 🙂", "label": "1"}]
WESTERN = [ROWS[0], {"id": "2", "text": "naïve façade", "label": "1"}]
IDS = ['{"ImportId":"_recordId"}', '{"ImportId":"QID7_TEXT"}', '{"ImportId":"QID8"}']


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


def write_json(path: Path, value: Any, *, lines: bool = False) -> None:
    path.write_text("\n".join(map(json.dumps, value)) if lines else json.dumps(value), encoding="utf-8")


def code(rater: int, label: str, **more: Any) -> dict[str, Any]:
    result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]
    return {"completed_by": {"id": rater, "email": "a@example.org"}, "result": result, "was_cancelled": False, **more}


def save_argilla(path: Path) -> None:
    columns = {"label.responses": [["0", "1"], ["1"]], "label.responses.users": [["u", "v"], ["v"]]}
    columns |= {"label.responses.status": [["submitted", "submitted"], ["submitted"]], "id": ["1", "2"]}
    datasets.Dataset.from_dict({"text": [row["text"] for row in ROWS], **columns}).save_to_disk(str(path))


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
    "b.json": lambda path: write_json(path, ROWS, lines=True),
    "a.jsonl": lambda path: write_json(path, ROWS, lines=True),
    "a.parquet": lambda path: parquet.write_table(pyarrow.Table.from_pylist(ROWS), path),
    "studio.json": lambda path: write_json(
        path, [task | {"annotations": [code(7, row["label"])]} for task, row in zip(TASKS, ROWS, strict=True)]
    ),
    "saved": lambda path: datasets.Dataset.from_list(ROWS).save_to_disk(str(path)),
    "no_ending": lambda path: write_csv(path, sep="|"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_cells_to_new_and_to_prepare(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name)
    table = read_file(tmp_path / name)
    assert table.frame.to_dict("records") == (WESTERN if name == "b.csv" else ROWS)
    (file,) = (File.model_validate(each) for each in table.origin["files"])
    assert parse_table(tmp_path / name, file).to_dict("list") == table.frame.to_dict("list")
    assert (table.export == "Qualtrics") == name.startswith("qualtrics")
    assert [note for note in table.notes if "cp1252" in note] == table.notes[: name == "b.csv"]


def test_what_was_found_out_is_said(tmp_path: Path) -> None:
    write_excel(tmp_path / "a.xlsx", [HEAD, ["Response ID", "Why?", "Code"], IDS, *CELLS])
    table = read_file(tmp_path / "a.xlsx")
    assert (table.source.format, table.source.sheet, table.frame.index[0]) == ("xlsx", "Codes", 4)
    assert table.questions == {"id": "Response ID", "text": "Why?", "label": "Code"}
    write_csv(tmp_path / "b.csv", sep=";", mark="\ufeff")
    source = read_file(tmp_path / "b.csv").source
    assert (source.format, source.separator, source.encoding, source.marked) == ("csv", ";", "utf-8", True)
    (tmp_path / "c.txt").write_text('Anon Student Id\tInput\ns1\t"so" he said\n', encoding="utf-8")
    table = read_file(tmp_path / "c.txt")
    assert (table.export, table.source.format, table.frame["Input"].tolist()) == (
        "DataShop",
        "plain_tsv",
        ['"so" he said'],
    )
    write_json(tmp_path / "d.jsonl", [{"text": "a", "label": ['x "y"']}, {"text": "b", "label": []}], lines=True)
    table = read_file(tmp_path / "d.jsonl")
    assert (table.export, table.lists) == ("doccano", ["label"])
    with pytest.raises(DataError, match="has no sheet 'Sheet2', only Sheet, Codes"):
        read_file(tmp_path / "a.xlsx", sheet="Sheet2")


def test_raters_get_columns(tmp_path: Path) -> None:
    tasks = [TASKS[0] | {"annotations": [code(7, "0"), code(8, "1")]}]
    tasks += [TASKS[1] | {"annotations": [code(7, "0", was_cancelled=True), code(8, "1")]}]
    write_json(tmp_path / "a.json", tasks)
    save_argilla(tmp_path / "argilla")
    for name, export in (("a.json", "Label Studio"), ("argilla", "Argilla")):
        table = read_file(tmp_path / name)
        assert table.frame[["label (rater 1)", "label (rater 2)"]].to_numpy().tolist() == [["0", "1"], ["", "1"]]
        assert table.export == export
        assert table.frame["text"].tolist() == [row["text"] for row in ROWS]


def test_cells_of_excel_are_written_as_people_read_them(tmp_path: Path) -> None:
    row = [1.0, 0.5, True, datetime.datetime(2024, 5, 31), datetime.datetime(2024, 5, 31, 14, 30), None, "#N/A"]
    write_excel(tmp_path / "a.xlsx", [list("abcdefg"), row, [None] * 7])
    (cells,) = read_file(tmp_path / "a.xlsx").frame.to_numpy().tolist()
    assert cells == ["1", "0.5", "true", "2024-05-31", "2024-05-31 14:30:00", "", "#N/A"]


def test_a_formula_gives_the_value_that_was_calculated(tmp_path: Path) -> None:
    save_formula(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "a.xlsx") as old, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as new:
        for name in old.namelist():
            new.writestr(name, re.sub(rb"</f><v ?/?>(</v>)?", b"</f><v>7</v>", old.read(name)))
    assert read_file(tmp_path / "b.xlsx").frame["text"].tolist() == ["a", "7"]


def save_formula(path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["text"], ["a"], ["=A2"]):
        book.worksheets[0].append(row)
    book.save(path)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text\nso\n")


def cut_parquet(path: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    path.write_bytes(path.read_bytes()[:-20])


HOSTILE: dict[str, tuple[str, bytes | Callable[[Path], Any], str]] = {
    "empty": ("a.csv", b"", "holds no rows"),
    "header only": ("a.csv", b"id,text\r\n", "holds no rows"),
    "empty Excel": ("a.xlsx", lambda path: openpyxl.Workbook().save(path), "holds no rows"),
    "empty JSON": ("a.json", b"[]", "holds no rows"),
    "a picture": ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "line 1, byte 1 is not UTF-8"),
    "all bytes": ("a.csv", bytes(range(256)) * 9, "is not UTF-8"),
    "PDF": ("a.pdf", b"%PDF-1.4\n%\xe2\xe3\n", "is a web page or a document: export the table"),
    "web page": ("a.xls", b"<html><table><tr><td>1", "is a web page or a document: export the table"),
    "old Excel": ("a.xls", b"\xd0\xcf\x11\xe0" + b"\0" * 600, "is an old workbook (.xls) or has a password"),
    "zip named xlsx": ("a.xlsx", write_zip, "is an archive: unpack it"),
    "text named xlsx": ("a.xlsx", b"id,text\n1,so\n", "is no Excel workbook, or a damaged one"),
    "formula": ("a.xlsx", save_formula, "row 3 has a formula without its value (=A2)"),
    "cut Parquet": ("a.parquet", cut_parquet, "is not a readable Parquet file"),
    "JSON number": ("a.json", b"3", "is neither a list of objects nor an object with one such list"),
    "JSON columns": (
        "a.json",
        b'{"text": {"0": "a"}}',
        "is neither a list of objects nor an object with one such list",
    ),
    "JSON two lists": ("a.json", b'{"a": [{"x": 1}], "b": [{"x": 1}]}', "is neither a list of objects"),
    "cut JSON": ("a.json", b'[{"text": "a"}', "is not valid JSON"),
    "list as lines": ("a.jsonl", b'[{"text": "a"},\n{"text": "b"}]', "row 1 is not valid JSON"),
    "folder": ("a", lambda path: path.mkdir(), "is a folder, but no data set"),
    "damaged folder": ("a", lambda path: (path.mkdir(), (path / "state.json").write_text("{}")), "save it again"),
    "missing": ("a.csv", lambda path: None, "does not exist"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_table_gives_one_sentence(case: str, tmp_path: Path) -> None:
    name, content, sentence = HOSTILE[case]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        content(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read_file(tmp_path / name)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "L'élève a compris que la réponse est négative, ça va être «très» dur"),
        ("cp1250", "Zażółć gęślą jaźń, uczeń nie rozumie, że ułamki są większe"),
        ("cp1251", "Ученик не понял вопрос и ответил неправильно"),
        ("cp1254", "\u00d6\u011frenci soruyu anlamad\u0131 ve yanl\u0131\u015f cevap verdi, \u00e7ok g\u00fc\u00e7"),
        ("cp1255", "התלמיד לא הבין את השאלה וענה לא נכון"),
        ("shift_jis", "生徒は質問を理解していなかったので間違えました"),
        ("gb18030", "学生没有理解这个问题所以回答错误了"),
        ("mac_roman", "Der Schüler erklärt die Größe"),
        ("utf-16-be", "Der Schüler erklärt die Größe"),
    ],
)
def test_an_older_encoding_is_found_and_may_be_said(
    encoding: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(f"id;text\n1;{text}\n".encode(encoding))
    assert read_file(tmp_path / "a.csv").frame["text"].tolist() == [text]
    parse_table(tmp_path / "a.csv", File(path="a.csv"))
    assert "a.csv is not UTF-8, and was read as " in capsys.readouterr().err
    parse_table(tmp_path / "a.csv", File(path="a.csv", encoding=encoding))
    assert not capsys.readouterr().err
    assert read_file(tmp_path / "a.csv", encoding=encoding).frame["text"].tolist() == [text]
    with pytest.raises(DataError, match="cannot be read as 'latin-99', which is no encoding"):
        read_file(tmp_path / "a.csv", encoding="latin-99")


def test_a_split_of_the_hub_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="names no split of a data set: write hub:owner/name:split"):
        read_file(Path("hub:owner/name"))
    with pytest.raises(DataError, match=r"the data set owner/name cannot be had \("):
        read_file(Path("hub:owner/name:train"), cache=tmp_path)
    (tmp_path / "owner/name").mkdir(parents=True)
    write_json(tmp_path / "owner/name/train.jsonl", ROWS, lines=True)
    monkeypatch.chdir(tmp_path)  # where `datasets` takes the folder for the repository
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda _, name: DatasetInfo(id=name, sha="0" * 40))
    table = read_file(Path("hub:owner/name:train"), cache=tmp_path)
    assert table.frame.to_dict("records") == [{**row, "split": "train"} for row in ROWS]
    source = HubSource.model_validate(table.origin)
    assert (source.repository, source.revision, source.splits) == ("owner/name", "0" * 40, ["train"])


def test_a_large_file_and_a_long_cell_are_read(tmp_path: Path) -> None:
    rows = "".join(f"{number},so {number}\n" for number in range(100_000))
    (tmp_path / "a.csv").write_text(f"id,text\n{rows}-1,{'x' * 1_000_000}\n", encoding="utf-8")
    table: Table = read_file(tmp_path / "a.csv")
    assert (len(table.frame), len(table.frame["text"].iloc[-1])) == (100_001, 1_000_000)
