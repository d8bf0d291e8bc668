import csv
import datetime
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from amalgam.errors import DataError, ModelError
from amalgam.shipping.card import write_manifest
from amalgam.shipping.predict import Shipped, label_table, load_shipped
from amalgam.shipping.tables import survey_table
from amalgam.tasks.formats import open_source
from tests.pipeline.toy import LABELS, make_rows

PAIRS = [(".csv", ".jsonl"), (".jsonl", ".parquet"), (".parquet", ".xlsx"), (".xlsx", ".csv"), (".csv", ".parquet")]
ADDED = ["label", "p_complaint", "p_praise", "needs_human"]
HOSTILE = ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "\t=1", "'=1", 'a "note", two\nlines', "a\rb", "🙂\u202e"]


@pytest.fixture(scope="module")
def opened(shipped: Path) -> Shipped:
    return load_shipped(shipped)


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows; outside JSON they have an id and a text."""
    table = pd.DataFrame(rows, columns=["id", "text"], dtype=str)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        write = {".csv": table.to_csv, ".xlsx": table.to_excel, ".parquet": table.to_parquet}[path.suffix]
        write(path, index=False)
    return path


def read_table(path: Path) -> list[dict[str, Any]]:
    if path.suffix in (".csv", ".tsv"):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="," if path.suffix == ".csv" else "\t"))
    if path.suffix in (".json", ".jsonl"):
        text = path.read_text(encoding="utf-8")
        return list(json.loads(text) if path.suffix == ".json" else map(json.loads, text.splitlines()))
    if path.suffix == ".xlsx":
        header, *rows = openpyxl.load_workbook(path).worksheets[0].values
        return [dict(zip(header, ("" if cell is None else cell for cell in row), strict=True)) for row in rows]
    return parquet.read_table(path).to_pylist()


def label(source: Path, target: Path, opened: Shipped, **columns: str) -> list[dict[str, Any]]:
    label_table(source, target, opened, **columns)
    return read_table(target)


@pytest.mark.parametrize(("ending", "to"), PAIRS)
def test_rows_keep_order_and_columns(ending: str, to: str, opened: Shipped, tmp_path: Path) -> None:
    rows = [{"id": row["id"], "text": row["text"] * (number % 3)} for number, row in enumerate(make_rows(200))]
    labelled = label(write_table(tmp_path / f"in{ending}", rows), tmp_path / f"out{to}", opened)
    assert [{name: row[name] or "" for name in ("id", "text")} for row in labelled] == rows
    assert list(labelled[0]) == ["id", "text", *ADDED]
    texts = list(dict.fromkeys(row["text"] for row in rows))  # equal ones are scored once
    expected = dict(zip(texts, opened.scorer.score({"text": texts}), strict=True))
    for row in labelled:
        chances = expected[row["text"] or ""]
        assert [float(row["p_complaint"]), float(row["p_praise"])] == pytest.approx(list(chances), abs=1e-6)
        assert row["label"] == LABELS[chances.argmax()]
        assert str(row["needs_human"]).lower() == str(chances.max() < 0.7 or not row["text"]).lower()
    assert {row["label"] for row in labelled} == set(LABELS)  # else any order would do


@pytest.mark.parametrize(("ending", "to"), PAIRS)
def test_no_row_gives_an_empty_table(ending: str, to: str, opened: Shipped, tmp_path: Path) -> None:
    assert label(write_table(tmp_path / f"in{ending}", []), tmp_path / f"out{to}", opened) == []
    if (ending, to) == (".csv", ".parquet"):
        assert parquet.read_schema(tmp_path / "out.parquet").names == ["id", "text", *ADDED]


def test_cells_that_a_spreadsheet_would_run_become_text_in_csv_alone(opened: Shipped, tmp_path: Path) -> None:
    source = write_table(tmp_path / "in.jsonl", [{"id": "-2.5e3", "text": text} for text in HOSTILE])
    for row, text in zip(label(source, tmp_path / "out.csv", opened), HOSTILE, strict=True):
        assert row["id"] == "-2.5e3"  # a number is not a formula
        assert row["text"] == ("'" + text if text[0] in "=@+-\t'" else text)
    for ending in (".json", ".jsonl", ".parquet", ".xlsx"):
        # XML has no carriage return.
        kept = [text.replace("\r", "\n") if ending == ".xlsx" else text for text in HOSTILE]
        assert [row["text"] for row in label(source, tmp_path / f"out{ending}", opened)] == kept
    cells = [row[1] for row in openpyxl.load_workbook(tmp_path / "out.xlsx").worksheets[0].iter_rows(min_row=2)]
    assert {cell.data_type for cell in cells} == {"s"}
    assert [cell.quotePrefix for cell in cells] == [text[0] in "=@+-\t'" for text in HOSTILE]
    (tmp_path / "head.csv").write_text('text,"=1+1"\nrude,\n', encoding="utf-8")
    assert "'=1+1" in label(tmp_path / "head.csv", tmp_path / "out.csv", opened)[0]


def test_values_keep_their_types_where_the_format_has_them(opened: Shipped, tmp_path: Path) -> None:
    rows = [{"text": "rude", "n": 3, "tags": ["a"], "none": None}, {"text": None, "more": True}]
    source = write_table(tmp_path / "in.jsonl", rows)
    labelled = label(source, tmp_path / "out.jsonl", opened)
    assert [{name: row[name] for name in given} for row, given in zip(labelled, rows, strict=True)] == rows
    assert label(source, tmp_path / "out.csv", opened)[1]["more"] == "true"
    assert label(source, tmp_path / "out.parquet", opened)[0]["tags"] == '["a"]'
    table = pyarrow.table({"text": ["rude"], "n": pyarrow.array([3], pyarrow.int16())})
    parquet.write_table(table, tmp_path / "in.parquet")
    label(tmp_path / "in.parquet", tmp_path / "out.parquet", opened)
    assert parquet.read_schema(tmp_path / "out.parquet").field("n").type == pyarrow.int16()
    rows = [{"text": "fine", "score": float("nan"), "marks": [1.5, float("inf")]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "in.parquet")
    (row,) = label(tmp_path / "in.parquet", tmp_path / "out.jsonl", opened)
    assert label(tmp_path / "in.parquet", tmp_path / "out.json", opened) == [row]
    assert (row["score"], row["marks"]) == (None, [1.5, None])  # what is not a number is null


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet"])
def test_a_text_inside_an_object_has_the_name_that_new_gives_it(ending: str, opened: Shipped, tmp_path: Path) -> None:
    rows = [{"answer": {"text": text, "by": {"age": 9}}} for text in ("rude", "fine", None)]
    source = tmp_path / f"in{ending}"
    if ending == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), source)
    else:
        source.write_text(json.dumps(rows) if ending == ".json" else "\n".join(map(json.dumps, rows)), encoding="utf-8")
    labelled = label(source, tmp_path / "out.jsonl", opened, text="answer.text")
    assert [row["answer"] for row in labelled] == [row["answer"] for row in rows]
    assert labelled[-1]["needs_human"]
    with pytest.raises(DataError, match=r"no key 'answer\.name', only answer\.text, answer\.by\.age: fix"):
        label(source, tmp_path / "out.jsonl", opened, text="answer.name")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("in.csv", "text\nä\n\udcff\n", "line 3, byte 1 is not UTF-8"),
        ("in.csv", "text,label\na,b\n", "already has a column 'label': rename it, or give --prefix"),
        ("in.jsonl", '{"text": "a"}\n{"text": \n', "row 2 is not valid JSON"),
        ("in.jsonl", '{"text": "\\ud800"}\n', "row 1 is not valid JSON"),
        ("in.jsonl", '{"text": 3}\n', "row 1 has no text under 'text'"),
        ("in.jsonl", '{"texts": "3"}\n', "row 1 has no key 'text', only texts"),
        ("in.csv", 'id,"What?\nWhy?"\n1,x\n', "no column 'text', only id, What? Why?: name"),
        ("in.csv", "id:comment\n1:x\n", "or separate its cells by commas"),
        ("in.xlsx", "text", "in.xlsx is not an Excel workbook or is damaged: save it as .xlsx"),
        ("in.csv", "", "in.csv has no header"),
    ],
)
def test_a_fault_gives_a_sentence(name: str, content: str, sentence: str, opened: Shipped, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=f"^.*{re.escape(sentence)}.*$"):
        label(tmp_path / name, tmp_path / "out.csv", opened)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_input_is_never_overwritten(opened: Shipped, tmp_path: Path) -> None:
    source = write_table(tmp_path / "in.csv", [{"id": "1", "text": "rude"}])
    os.link(source, tmp_path / "same.csv")
    for target in (source, tmp_path / "same.csv", tmp_path / "no" / ".." / "in.csv"):
        with pytest.raises(DataError, match="is the input itself"):
            label(source, target, opened)
    assert len(read_table(source)) == 1


def test_texts_are_read_as_prepare_cleans_them_and_kept_as_they_were(shipped: Path, tmp_path: Path) -> None:
    texts = ["don&#39;t buy  it &lt;3", "don't buy it <3", "rude\u200b &amp;amp; slow", "rude & slow"]
    texts += ["bater\u00c3\u00ada", "bater\u00eda"]
    source = write_table(tmp_path / "in.csv", [{"id": "1", "text": text} for text in texts])
    folder = shutil.copytree(shipped, tmp_path / "student")
    manifest = json.loads((folder / "manifest.json").read_text())
    for repair in (None, "mojibake"):  # of the task
        write_manifest(folder, manifest["model"], manifest["calibration"], repair=repair)
        rows = label(source, tmp_path / "out.csv", load_shipped(folder))
        assert [row.pop("text") for row in rows] == texts
        assert (rows[0], rows[2]) == (rows[1], rows[3])
        assert (rows[4] == rows[5]) == (repair == "mojibake")


def test_excel_becomes_excel(opened: Shipped, tmp_path: Path) -> None:
    day = datetime.datetime(2024, 5, 31)
    rows = [[17, "rude", day, True, None], ["so", 42, day, False, datetime.timedelta(days=1, hours=6)]]
    book = openpyxl.Workbook()
    for row in (["n", "text", "day", "flag", "none"], *rows):
        book.worksheets[0].append(row)
    book.worksheets[0].title = "Answers"
    book.save(tmp_path / "in.xlsx")
    labelled = label(tmp_path / "in.xlsx", tmp_path / "out.xlsx", opened)
    assert openpyxl.load_workbook(tmp_path / "out.xlsx").sheetnames == ["Answers"]
    assert [[*row.values()][:5] for row in labelled] == [[*rows[0][:4], ""], rows[1]]
    assert label(tmp_path / "in.xlsx", tmp_path / "out.csv", opened)[1]["day"] == "2024-05-31"
    source = write_table(tmp_path / "in.jsonl", [{"id": 123456789012345678, "text": "so"}])
    assert label(source, tmp_path / "out.xlsx", opened)[0]["id"] == "123456789012345678"  # or Excel rounds it
    source = write_table(tmp_path / "in.csv", [{"id": "1", "text": "x" * 32_768}])
    for refuse in (partial(label, source, opened=opened), partial(survey_table, open_source(source), ["text"])):
        with pytest.raises(DataError, match=r"cannot hold a text of 32,768 characters, .*: write \.csv"):
            refuse(tmp_path / "long.xlsx")  # the second is called before a row is scored
    for name, where in (("in.csv", "column$"), ("in.xlsx", "column, or put its sheet before `Answers`")):
        with pytest.raises(DataError, match=rf"{name} has no column 'text\.2', only (id|n), text.*{where}"):
            label(tmp_path / name, tmp_path / "out.csv", opened, text="text.2")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".xlsx"])
def test_a_labelled_table_is_labelled_alike(ending: str, opened: Shipped, tmp_path: Path) -> None:
    source = write_table(tmp_path / "in.jsonl", [{"id": str(text), "text": text} for text in HOSTILE])
    first = label(source, tmp_path / f"first{ending}", opened)
    for again in label(tmp_path / f"first{ending}", tmp_path / f"second{ending}", opened, prefix="again_"):
        before = first.pop(0)
        assert {name: again[name] for name in before} == before
        assert {name: str(again[f"again_{name}"]) for name in ADDED} == {name: str(before[name]) for name in ADDED}


@pytest.mark.parametrize(
    ("content", "to", "head"),
    [
        (b"\xef\xbb\xbfid;text\r\n1;h\xc3\xa4lt\r\n", "out.csv", b"\xef\xbb\xbfid;text;label;"),
        (b"\xff\xfe" + "id\ttext\n1\th\u00e4lt\n".encode("utf-16-le"), "out.csv", b"\xef\xbb\xbfid\ttext\tlabel\t"),
        (b"\xef\xbb\xbfid;text\n1;h\xc3\xa4lt\n", "out.tsv", b"\xef\xbb\xbfid\ttext\tlabel\t"),
        (b"sep=:\nid:text\n1:rude\n", "out.csv", b"id,text,label,"),
        (b"id|text\n1|rude\n", "out.csv", b"id|text|label|"),
        (b"id,text\n1,h\xe4lt\n", "out.csv", b"\xef\xbb\xbfid,text,label,"),
        (b"\xef\xbb\xbfid;text\n1;h\xc3\xa4lt\n", "out.jsonl", b'{"id": "1", "text": "h\xc3\xa4lt", '),
    ],
)
def test_spreadsheets_open_the_output(content: bytes, to: str, head: bytes, opened: Shipped, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    notes = label_table(tmp_path / "in.csv", tmp_path / to, opened).notes
    assert bool(notes) == (content == b"id,text\n1,h\xe4lt\n")
    assert (tmp_path / to).read_bytes().startswith(head)


def test_a_changed_byte_is_found_before_the_model_runs(shipped: Path, tmp_path: Path) -> None:
    for name in ("model.int8.onnx", "tokenizer.json", "amalgam.json"):
        folder = shutil.copytree(shipped, tmp_path / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"?")
        with pytest.raises(ModelError, match=rf"{name} is not the file that manifest.json names"):
            load_shipped(folder)
        (folder / name).unlink()
        with pytest.raises(ModelError, match=f"{name} is missing"):
            load_shipped(folder)


def test_a_gpu_is_used_only_where_there_is_one(shipped: Path) -> None:
    assert load_shipped(shipped, device="auto").model == load_shipped(shipped, device="cpu").model
    with pytest.raises(ModelError, match="finds no GPU here: install `onnxruntime-gpu`"):
        load_shipped(shipped, device="cuda")


def test_a_folder_without_a_usable_manifest_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a shipped student: run `dvc repro`"):
        load_shipped(tmp_path)
    for content in ("{", '{"model": "x", "calibration": 3, "files": {}}'):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(ModelError):
            load_shipped(tmp_path)
