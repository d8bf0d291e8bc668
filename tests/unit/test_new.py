"""`amalgam new` and `amalgam check`: tables as people have them, and tables that nobody should have."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from tests.pipeline.toy import make_rows
from tests.unit.helpers import run_amalgam

ROOT = Path(__file__).parents[2]
ROWS = [{"id": row["id"], "guest": row["guest"], "text": row["text"], "code": row["label"]} for row in make_rows(80)]


def write_csv(rows: list[dict[str, str]], separator: str = ",") -> str:
    return pd.DataFrame(rows).to_csv(index=False, sep=separator)


def write_xlsx(rows: list[dict[str, str]]) -> bytes:
    book, stream = openpyxl.Workbook(), io.BytesIO()
    book.active.title = "Codes"
    for row in [list(rows[0]), *([*row.values()] for row in rows)]:
        book.active.append(row)
    book.save(stream)
    return stream.getvalue()


def code(codes: list[str], **changes: Any) -> str:
    """Write the rows with other codes, gone through again and again."""
    return write_csv([{**row, "code": codes[place % len(codes)], **changes} for place, row in enumerate(ROWS)])


Amalgam = Callable[..., tuple[int, str, str]]


@pytest.fixture
def amalgam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Amalgam:
    """Run a command in a project without tasks; returns its exit code and what it printed."""
    project = tmp_path / "project"
    (project / "data/tasks").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", project)
    monkeypatch.chdir(project)

    def run(*args: str) -> tuple[int, str, str]:
        return run_amalgam(*args), *capsys.readouterr()

    return run


HOSTILE: dict[str, tuple[str, str | bytes, list[str]]] = {
    "empty": ("a.csv", b"", []),
    "blank lines": ("a.csv", b"\n\n \n", []),
    "header only": ("a.csv", "id,text,code\n", []),
    "one column": ("a.csv", write_csv([{"text": row["text"]} for row in ROWS]), []),
    "one row": ("a.csv", write_csv(ROWS[:1]), []),
    "ten rows": ("a.csv", write_csv(ROWS[:10]), []),
    "numbers alone": ("a.csv", "a,b\n" + "1,2\n3,4\n" * 20, []),
    "no codes": ("a.csv", code([""]), []),
    "unclear codes": ("a.csv", code(["unclear", "N/A", "?"]), []),
    "one class": ("a.csv", code(["good"]), []),
    "a class of one row": ("a.csv", write_csv([*ROWS, {**ROWS[0], "id": "x", "code": "odd"}]), []),
    "too many classes": ("a.csv", code([f"c{number}" for number in range(26)]), ["--label", "code"]),
    "a score": ("a.csv", code([f"{number}.5" for number in range(70)]), []),
    "equal texts": ("a.csv", code(["good", "bad"], text="All of it was just as it was."), []),
    "two texts": ("a.csv", write_csv([{**row, "answer": row["text"][::-1]} for row in ROWS]), []),
    "two codes": ("a.csv", write_csv([{**row, "class": "xy"[number // 3 % 2]} for number, row in enumerate(ROWS)]), []),
    "binary": ("a.csv", bytes(range(256)) * 40, []),
    "an image": ("a.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), []),
    "NUL bytes": ("a.csv", write_csv(ROWS).replace("bread", "br\0ead").encode(), []),
    "an open quote": ("a.csv", write_csv(ROWS)[:300] + '\nx,y,"never closed, good\n', []),
    "too many cells": ("a.csv", write_csv(ROWS) + "x,y,some text,good,more,and more\n", []),
    "two encodings": (
        "a.csv",
        code(["gut", "sehr \u00e4rgerlich"]).encode() + "x,y,h\u00e4lt,gut\n".encode("cp1252") * 9,
        [],
    ),
    "old workbook": ("a.xls", b"\xd0\xcf\x11\xe0" + b"\0" * 600, []),
    "half a workbook": ("a.xlsx", write_xlsx(ROWS)[:900], []),
    "an archive": ("a.xlsx", b"PK\x03\x04" + b"\0" * 600, []),
    "half a Parquet file": ("a.parquet", b"PAR1" + b"\0" * 60, []),
    "broken JSON": ("a.json", json.dumps(ROWS)[:-9], []),
    "a JSON number": ("a.json", "12", []),
    "JSON of words": ("a.jsonl", '"word"\n"other"\n', []),
    "no such sheet": ("a.xlsx", write_xlsx(ROWS), ["--sheet", "Other"]),
    "no such column": ("a.csv", write_csv(ROWS), ["--label", "colour"]),
    "no such label": ("a.csv", write_csv(ROWS), ["--rubric", "params.yaml"]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_one_sentence_and_leaves_nothing(case: str, amalgam: Amalgam) -> None:
    name, content, flags = HOSTILE[case]
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    exit_code, out, err = amalgam("new", "mine", "--from", name, *flags)
    assert (exit_code, out) == (2, ""), (out, err)
    assert err.startswith("amalgam: ")
    assert err.count("\n") == 1, err
    assert len(err) < 500
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert not [*Path("data/tasks").iterdir()]
    print(case, "->", err)
