"""Files between stages are read as they were written, are never half there, and their faults are reported."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amalgam import files
from amalgam.errors import DataError

UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
CELL = UNICODE | st.text("'=+-@\t\r\n,\" a", max_size=5)
READERS: dict[str, Callable[[Path], Any]] = {
    "a.json": files.read_json,
    "a.jsonl": lambda path: list(files.read_jsonl(path)),
    "a.csv": files.read_rows,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def test_json_and_json_lines_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [{"b": "é\u2028\n", "a": [1.5]}, {}]
    files.write_json(tmp_path / "a.json", rows[0])
    assert (tmp_path / "a.json").read_bytes() == '{\n  "b": "é\u2028\\n",\n  "a": [\n    1.5\n  ]\n}\n'.encode()
    assert files.read_json(tmp_path / "a.json") == rows[0]
    files.write_jsonl(tmp_path / "a.jsonl", iter(rows))
    assert list(files.read_jsonl(tmp_path / "a.jsonl")) == rows


@settings(max_examples=40)
@given(st.lists(st.tuples(CELL, CELL), max_size=4))
@example([("NA", "null"), ("", "1e5"), ("007", " x "), ("'=1", "''-")])
def test_rows_come_back_as_they_were(folder: Path, cells: list[tuple[str, str]]) -> None:
    values = [(f"r{number}", text, "", label) for number, (text, label) in enumerate(cells)]
    rows = pd.DataFrame(values, columns=["id", "text", "question", "label"], dtype=str)
    files.write_rows(folder / "rows.csv", rows)
    pd.testing.assert_frame_equal(files.read_rows(folder / "rows.csv"), rows, check_dtype=False, check_index_type=False)
    for cell in rows["text"]:
        assert not files.guard_cell(cell).startswith(("=", "+", "-", "@", "\t", "\r"))
        assert files.unguard_cell(files.guard_cell(cell)) == cell


def test_formulas_are_guarded_and_a_carriage_return_is_quoted(tmp_path: Path) -> None:
    rows = pd.DataFrame({"id": ["a", "b"], "text": ["=1", 'x\r"y"'], "sample": [7, 8]})
    files.write_rows(tmp_path / "rows.csv", rows)
    assert (tmp_path / "rows.csv").read_bytes() == b'id,text,sample\na,\'=1,7\n"b","x\r""y""","8"\n'


def test_a_writing_that_fails_or_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    files.write_text(path, '{"a": 1}\n')
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_jsonl(path, [{"a": 2}, {"a": float("inf")}])
    assert list(tmp_path.iterdir()) == [path]
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom amalgam.files import write_jsonl\n"
        "def rows():\n yield {'a': 2}\n os.kill(os.getpid(), 9)\n yield {}\n"
        "write_jsonl(Path(sys.argv[1]), rows())"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -signal.SIGKILL
    assert list(files.read_jsonl(path)) == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("a.json", (b'{"a"', b"\xff", b""), "is not valid JSON: delete it and run"),
        ("a.jsonl", (b'{}\n{"a"', b'{}\n{"a": "\xff"}', b"{}\n\n"), "line 2 is not valid JSON"),
        ("a.csv", (b"", b'id,text\na,b,c,d\n"', b"id,text\na,\xff\n"), "is not a table in UTF-8: delete it and run"),
    ],
)
def test_a_broken_or_missing_file_gives_one_sentence(
    name: str, contents: tuple[bytes, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"{name} is missing: run `dvc repro` to make it"):
        READERS[name](tmp_path / name)
    for content in contents:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}.* {words}"):
            READERS[name](tmp_path / name)
