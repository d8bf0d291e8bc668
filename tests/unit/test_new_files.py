"""`amalgam new` on files that nobody should have, and on strange ones that are valid nevertheless."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    write_zip,
)

Content = str | bytes | Callable[[Path], Any]
EXPORT = "export the table as .xlsx"
# A file, and a part of the error that it causes.
HOSTILE: list[tuple[str, Content, str]] = [
    ("a.csv", b"", "holds no rows"),
    ("a.xlsx", write_sheets([]), "holds no rows"),
    ("a.csv", write_csv([{"text": row["text"]} for row in ROWS]), "no column has between 2 and 20 codes"),
    ("a.csv", code(["x", "", ""]).replace("code", "Good"), "cells of `Good` have one or none: write 0"),
    ("a.csv", write_csv(ROWS[:10]), "10 coded rows are too few for 2 labels: code at least 22"),
    ("a.csv", "a,b\n" + "1,2\n3,4\n" * 20, "no column holds free text"),
    ("a.csv", code(["unclear", "N/A", "?"]), "`code` holds no code, but a classifier needs two labels"),
    ("a.csv", code(["good"]), "`code` holds only 'good'"),
    ("a.csv", write_csv([*ROWS, {**ROWS[0], "id": "x", "code": "odd"}]), "`odd` in `code` has 1 rows"),
    ("a.csv", code([f"{number}.5" for number in range(70)]), "`code` holds 70 numbers: set with --above X"),
    ("a.csv", code([f"c{number}" for number in range(80)]), "`code` holds 80 codes, but at most 20 can be told apart"),
    ("a.csv", write_csv([{**row, "answer": row["text"][::-1]} for row in ROWS]), "name it, as in --text 'text', or"),
    ("a.csv", TWO_CODES, "the code may be in `code` or `class`: name it, as in --label"),
    ("a.csv", code(["gut", "\u00e4rger"]).encode() + b"x,y,h\xe4lt,gut\n" * 9, "82, byte 6 is not UTF-8"),
    ("a.csv", b"\xff\xfei\0d\0,\0x\0\n\0\x00\xd8", "is not utf-16 after line 1: save the file as UTF-8"),
    ("a.csv", write_csv(ROWS).replace("bread", "br\0ead"), "line 17 has a NUL"),
    ("a.csv", write_csv(ROWS)[:300] + '\nx,y,"never closed, good\n', "line 4 begins a row that cannot be read"),
    ("a.csv", write_csv(ROWS) + "Total,80\n", "row 82 has 2 cells, but the header has 4"),
    ("a.csv", "id,,text\n1,so,x\n", "row 2 has 'so' in column 2, which has no name"),
    ("a.csv.gz", gzip.compress(write_csv(ROWS).encode(), mtime=0)[:-9], "put a complete, readable file there"),
    ("a.xls", b"\xd0\xcf\x11\xe0" + b"\0" * 600, f"(.xls) or has a password: {EXPORT} without a password, or"),
    ("a.xlsx", write_sheets([["code", "is"], ["x", "y"]], CELLS), "in the sheet `Sheet` (--sheet names another), no"),
    ("a.xlsx", write_sheets(CELLS)[:900], "is not an Excel workbook or is damaged"),
    ("a.xlsx", write_zip("a.txt", "text\nso\n"), "is an archive: unpack it"),
    ("a.ods", write_zip("mimetype", "application/vnd.oasis.opendocument.spreadsheet"), f"OpenDocument file: {EXPORT}"),
    ("a.csv", b"SQLite format 3\0" + b"\0" * 600, f"is a database: {EXPORT}"),
    ("a.parquet", b"PAR1" + b"\0" * 60, "is not a readable Parquet file"),
    ("a.json", json.dumps(ROWS)[:-9], "is not valid JSON"),
    ("a.json", "12", "is neither a list of objects nor an object with one such list"),
    ("a.jsonl", '"word"\n"other"\n', "row 1 is not a JSON object"),
    ("a.jsonl", "\n".join([json.dumps(ROWS[0]), '{"id": "x", "te', json.dumps(ROWS[1])]), "row 2 is not valid JSON"),
    ("a.jsonl", '{"text": "a", "text": "b"}\n', "row 1 is not valid JSON (two keys are named 'text'"),
    ("a.jsonl", '{"text": "a"}\n{"text": "\\ud83d"}\n', "row 2 is not valid JSON"),
    ("a.jsonl", "[" * 100_000, "row 1 is not valid JSON"),
    ("a", lambda path: path.mkdir(), "is a folder, but not one written by `save_to_disk`"),
    ("a", lambda path: (path.mkdir(), (path / "state.json").write_text("{}")), "save it again with `save_to_disk`"),
    ("a.csv", lambda path: None, "does not exist"),
    ("hub:owner/name", lambda path: None, "does not name a split of a data set: write hub:owner/name:split"),
]
# The same, with the flags that cause it.
FLAGGED: list[tuple[str, Content, str, list[str]]] = [
    ("a.csv", code([f"c{number}" for number in range(26)]), "26 labels, but at most 20 can", ["--label", "code"]),
    ("a.csv", write_csv(ROWS).partition("\n")[2], "put a row of names above it", ["--yes"]),
    ("a.csv", DOUBTFUL_DAYS, "the day cannot be told from the month", ["--time", "when"]),
    ("a.csv", write_csv(ROWS), "there is no column `colour` for --label", ["--label", "colour"]),
    ("a.csv", write_csv(ROWS), "defines none of complaint, praise", ["--rubric", "params.yaml"]),
]


@pytest.mark.parametrize("case", [*((*case, []) for case in HOSTILE), *FLAGGED], ids=lambda case: case[2])
def test_a_hostile_file_is_one_sentence_and_leaves_nothing(
    case: tuple[str, Content, str, list[str]], amalgam: Amalgam
) -> None:
    name, content, words, flags = case
    if callable(content):
        content(Path(name))
    else:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    exit_code, out, err = amalgam("new", "mine", "--from", name, *flags)
    assert (exit_code, out) == (2, ""), (out, err)
    assert err.startswith("amalgam: ")
    assert words in err
    assert err.count("\n") == 1, err
    assert len(err) < 500
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert not [*Path("data/tasks").iterdir()]


FRAME = pd.DataFrame(ROWS)
ASKED = {"id": "Response ID", "guest": "Who are you?", "text": "How was the bakery?", "code": "code"}
TITLES = {"id": "_recordId", "guest": "Q1", "text": "Q2_text", "code": "code"}
HEADERS = pd.DataFrame([ASKED, {name: json.dumps({"ImportId": title}) for name, title in TITLES.items()}])
STUDIO = [
    {
        "id": int(row["id"][1:]),
        "data": {"text": row["text"], "guest": row["guest"]},
        "annotations": [{"completed_by": 1, "result": [{"from_name": "tone", "value": {"choices": [row["code"]]}}]}],
    }
    for row in ROWS
]
ANSWERS = ["", "", "Open-Ended Response", "", "Bread", "Other"]  # SurveyMonkey's second header row
MONKEY = [["Respondent ID", "guest", "Tell the text", "code", "What did you buy?", ""], ANSWERS]
DATASHOP = {"id": "Transaction Id", "guest": "Anon Student Id", "text": "Input text", "code": "CF (Code)"}
CODERS = [FRAME.assign(coder=name) for name in ("Ann", "Bo")]
STRANGE: dict[str, tuple[str, str | bytes]] = {
    "formulas": ("a.csv", write_csv([{**row, "text": f"=SUM(A1) {row['text']}"} for row in ROWS])),
    "names of a colon": ("a.csv", write_csv(ROWS).replace("guest", '"a: [b], #c"')),
    "a title and a blank row": ("a.csv", f"Survey of the bakery\n\n{write_csv(ROWS, ';')}"),
    "merged header": ("a.xlsx", write_sheets([["Who", None, "What", None], *CELLS])),
    "a hidden sheet and a chart": ("a.xlsx", write_sheets([["a", "b"], [1, 2], [3, 4]], CELLS, hidden=True)),
    "errors of Excel": ("a.xlsx", write_sheets([*CELLS, ["x", "y", "Not coded at all.", "#REF!"]])),
    "a total of scores": ("a.csv", code(["0", "1", "2"]) + "Total,,,80\n"),
    "a column in brackets": ("a.csv", code(["good", "bad"], name="[redacted]")),
    "breaks within codes": ("a.csv", code(["Partly\nright", "wrong"])),
    "blanks within": ("a.csv", write_csv(ROWS).replace(",complaint", ", Complaint ")),
    "JSON by columns": ("a.json", pd.DataFrame(ROWS).to_json()),
    "JSON of lists": ("a.json", json.dumps(pd.DataFrame(ROWS).to_dict(orient="list"))),
    "JSON split": ("a.json", pd.DataFrame(ROWS).to_json(orient="split")),
    "JSON by rows": ("a.json", pd.DataFrame(ROWS).set_index("id").to_json(orient="index")),
    "objects within": ("a.json", json.dumps({"data": [{"in": row} for row in ROWS]})),
    "Qualtrics": ("a.csv", pd.concat([HEADERS, FRAME]).rename(columns=TITLES).to_csv(index=False)),
    "SurveyMonkey": ("a.xlsx", write_sheets([*MONKEY, *([*row.values(), "Bread", "Tea"] for row in ROWS)])),
    "Label Studio": ("a.json", json.dumps(STUDIO)),
    "doccano": ("a.jsonl", FRAME.assign(code=[[row["code"]] for row in ROWS]).to_json(orient="records", lines=True)),
    "booleans in lists": (
        "a.json",
        FRAME.assign(code=[[row["code"] == "praise"] for row in ROWS]).to_json(orient="split"),
    ),
    "DataShop": ("a.txt", FRAME.rename(columns=DATASHOP).to_csv(index=False, sep="\t")),
    "a row a coder": ("a.csv", pd.concat(CODERS).sort_values("id").to_csv(index=False)),
    "lists of Parquet": ("a.parquet", pd.DataFrame([{**row, "tags": ["a", "b"]} for row in ROWS]).to_parquet()),
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_file_is_read_all_the_same(case: str, amalgam: Amalgam) -> None:
    found = make_task(amalgam, STRANGE[case][1], "--yes", name=STRANGE[case][0])
    assert "text" in re.split(r"[. _]", found["columns"]["text"])
    assert {*re.split(r"[. _]", found["columns"]["id"].lower())} & {"id", "recordid"}
    assert sum(found["labels"].values()) == 80


def test_responses_without_blanks_between_words_are_found(amalgam: Amalgam) -> None:
    rows = [{"\u56de\u7b54": "\u767d\u8272" * 5 + str(number), "code": "ab"[number % 2]} for number in range(80)]
    found = make_task(amalgam, write_csv(rows))
    assert (found["columns"]["text"], found["words"]) == ("\u56de\u7b54", [6, 6, 6])


def test_a_source_is_never_taken_for_the_codes_that_people_add(amalgam: Amalgam) -> None:
    found = make_task(amalgam, write_csv(ROWS), name="coded.csv")
    assert [file.path for file in found["task"].source.files] == ["source_coded.csv"]
    codes = Path("data/tasks/mine/coded.csv")
    assert not codes.exists()
    codes.write_text("id,text,question,label\nx,Fine,,odd\n", encoding="utf-8")
    exit_code, out, _ = amalgam("check", "mine")
    assert (exit_code, "coded.csv, row 2 has the label 'odd'" in out) == (2, True)


def test_responses_that_are_names_are_no_roster(amalgam: Amalgam) -> None:
    names = [f"{first}a {last}son" for first in ("Ann", "Ev", "Id", "Em") for last in "ABCDEFGHIJKLMNOPQRST"]
    found = make_task(amalgam, FRAME.assign(text=names).to_csv(index=False))
    assert found["personal"] == {"text": "name"}
    assert found["task"].columns.roster is None
    shared = FRAME.rename(columns={"guest": "First name"})
    shared["First name"] = [f"Ann{chr(97 + number % 26)}" for number in range(80)]  # not of one person
    assert make_task(amalgam, shared.to_csv(index=False))["columns"]["group"] == ""


def test_a_grader_of_each_row_is_no_rater_but_coders_of_equal_texts_are(amalgam: Amalgam) -> None:
    twice = pd.concat([FRAME.head(40)] * 4)
    graders = [*"ABC"] * 54
    graded = twice.assign(id=[f"s{number // 5}" for number in range(160)], grader=graders[:160])
    alone = twice[["text", "code"]].assign(grader=graders[:40] * 4)
    for frame in (graded.rename(columns={"id": "student"}).drop(columns="guest"), alone):
        found = make_task(amalgam, frame.to_csv(index=False))
        assert (found["columns"]["coder"], sum(found["labels"].values())) == ("", 160)
    found = make_task(amalgam, pd.concat([*CODERS, CODERS[0].head(1)]).drop(columns="id").to_csv(index=False))
    assert (found["columns"]["coder"], sum(found["labels"].values())) == ("coder", 80)
    assert found["left_out"] == {"coded_again": 1}
    unnamed = pd.concat(CODERS).rename(columns={"coder": "coded_by", "code": "irony"})
    found = make_task(amalgam, unnamed.to_csv(index=False))["columns"]
    assert (found["label"], found["coder"]) == ("irony", "coded_by")
    odd = pd.concat([CODERS[0].assign(code=["odd"] * 9 + [*FRAME["code"][9:]]), CODERS[1]])  # only one coder says so
    found = make_task(amalgam, odd.to_csv(index=False), "--drop-rare", "5")
    assert (found["order"], sum(found["labels"].values())) == (["complaint", "praise"], 80)
