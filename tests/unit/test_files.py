import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.files import read_json, read_jsonl, write_json, write_jsonl, write_text

UNICODE = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@settings(max_examples=25)
@given(st.lists(st.dictionaries(UNICODE, UNICODE | st.integers() | st.none(), max_size=3), max_size=4))
def test_json_and_json_lines_come_back_as_they_were(folder: Path, rows: list[dict[str, object]]) -> None:
    write_json(folder / "a.json", rows)
    assert read_json(folder / "a.json") == rows
    write_jsonl(folder / "a.jsonl", iter(rows))
    assert list(read_jsonl(folder / "a.jsonl")) == rows
    write_json(folder / "a.json", {"b": "é", "a": [1.5]})
    assert (folder / "a.json").read_bytes() == '{\n  "b": "é",\n  "a": [\n    1.5\n  ]\n}\n'.encode()


def test_a_failed_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"a": 1}])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_jsonl(path, [{"a": 2}, {"a": float("inf")}])
    assert list(read_jsonl(path)) == [{"a": 1}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_text(path, '{"a": 1}\n')
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom amalgam.files import write_jsonl\n"
        "def rows():\n yield {'a': 2}\n os.kill(os.getpid(), 9)\n yield {}\n"
        "write_jsonl(Path(sys.argv[1]), rows())"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -signal.SIGKILL
    assert list(read_jsonl(path)) == [{"a": 1}]


@pytest.mark.parametrize("content", [b'{"a"', b"\xff", b""])
def test_broken_json_names_the_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json is not valid JSON .*: delete it and run `dvc repro`"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("line", [b'{"a"', b'{"a": "\xff"}', b""])
def test_a_broken_line_is_named_by_its_number(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2 is not valid JSON"):
        list(read_jsonl(tmp_path / "a.jsonl"))


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json is missing: run `dvc repro` to make it"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.jsonl is missing: run `dvc repro` to make it"):
        list(read_jsonl(tmp_path / "a.jsonl"))
