"""`amalgam new` on files that nobody should have, and on strange ones that are right all the same."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.unit.answers import (
    CELLS,
    DOUBTFUL_DAYS,
    ROWS,
    TWO_CODES,
    Amalgam,
    code,
    make_task,
    write_csv,
    write_sheets,
    write_xlsx,
    write_zip,
)

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
    "two codes": ("a.csv", TWO_CODES, []),
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
    "a password": ("a.xlsx", b"\xd0\xcf\x11\xe0" + b"\0" * 600, []),
    "an archive named csv": ("a.csv", write_zip("a.csv", write_csv(ROWS)), []),
    "OpenDocument": ("a.ods", write_zip("mimetype", "application/vnd.oasis.opendocument.spreadsheet"), []),
    "SPSS": ("a.spss", b"$FL2@(#) SPSS DATA FILE" + b"\0" * 600, []),
    "a database": ("a.csv", b"SQLite format 3\0" + b"\0" * 600, []),
    "a broken line": ("a.jsonl", "\n".join([json.dumps(ROWS[0]), '{"id": "x", "te', *map(json.dumps, ROWS)]), []),
    "no names": ("a.csv", write_csv(ROWS).partition("\n")[2], ["--yes"]),
    "a total below": ("a.csv", write_csv(ROWS) + "Total,80\n", []),
    "a label a row": ("a.csv", write_csv([{**row, "code": f"c{number}"} for number, row in enumerate(ROWS)]), []),
    "days or months": ("a.csv", DOUBTFUL_DAYS, ["--time", "when"]),
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


STRANGE: dict[str, tuple[str, str | bytes]] = {
    "a megabyte": ("a.csv", write_csv([{**ROWS[0], "id": "x", "text": "long " * 200_000}, *ROWS])),
    "right to left": ("a.csv", code(["\u05d8\u05d5\u05d1", "\u05e8\u05e2 \U0001f600"])),
    "formulas": ("a.csv", write_csv([{**row, "text": f"=SUM(A1) {row['text']}"} for row in ROWS])),
    "tabs in UTF-16": ("a.tsv", write_csv(ROWS, "\t").encode("utf-16")),
    "names twice": ("a.csv", write_csv([{**row, "x": "1"} for row in ROWS]).replace("code,x", "code,code")),
    "names of a colon": ("a.csv", write_csv(ROWS).replace("guest", '"a: [b], #c"')),
    "gzip": ("a.csv", gzip.compress(write_csv(ROWS).encode())),
    "a title": ("a.csv", f"Survey of the bakery\n{write_csv(ROWS, ';')}"),
    "a title and a blank row": ("a.csv", f"Survey of the bakery,,,\n\n{write_csv(ROWS)}"),
    "a comment": ("a.csv", f"# exported by R\n{write_csv(ROWS)}"),
    "header in row 3": ("a.xlsx", write_sheets([["Survey"], [], *CELLS])),
    "merged header": ("a.xlsx", write_sheets([["Who", None, "What", None], *CELLS])),
    "a cover": ("a.xlsx", write_sheets([["Read me"]], CELLS)),
    "a hidden sheet and a chart": ("a.xlsx", write_sheets([["a", "b"], [1, 2], [3, 4]], CELLS, hidden=True)),
    "errors of Excel": ("a.xlsx", write_sheets([*CELLS, ["x", "y", "Not coded at all.", "#REF!"]])),
    "a total": ("a.csv", write_csv(ROWS) + "Total,,,80\n"),
    "blanks within": ("a.csv", write_csv(ROWS).replace(",complaint", ", Complaint ")),
    "JSON by columns": ("a.json", pd.DataFrame(ROWS).to_json()),
    "JSON of lists": ("a.json", json.dumps(pd.DataFrame(ROWS).to_dict(orient="list"))),
    "JSON split": ("a.json", pd.DataFrame(ROWS).to_json(orient="split")),
    "objects within": ("a.json", json.dumps({"data": [{"in": row} for row in ROWS]})),
    "objects a line": ("a.jsonl", "\n".join(json.dumps({"a": {"of": row}}) for row in ROWS)),
    "lists of Parquet": ("a.parquet", pd.DataFrame([{**row, "tags": ["a", "b"]} for row in ROWS]).to_parquet()),
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_file_is_read_all_the_same(case: str, amalgam: Amalgam) -> None:
    found = make_task(amalgam, STRANGE[case][1], name=STRANGE[case][0])
    assert [found["columns"][key].rpartition(".")[2] for key in ("text", "id")] == ["text", "id"]
    assert sum(found["labels"].values()) == 80 + (case == "a megabyte")
