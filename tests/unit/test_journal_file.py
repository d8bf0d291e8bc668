"""What the journal makes of other processes, full disks, files that may not be written, and files of older forms."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from amalgam.errors import DataError
from amalgam.llm.journal import open_journal
from amalgam.llm.journal.file import JournalFile
from amalgam.llm.journal.queries import add_answers
from amalgam.llm.journal.rows import build_row
from amalgam.llm.request import Answer, Request
from tests.unit.journals import (
    ANSWERS,
    COUNT,
    KEYS,
    PAGE,
    REQUESTS,
    fill,
    find_page,
    overwrite,
    run_opener,
)

LIMITED = """
import resource, sys
from pathlib import Path
from amalgam.errors import DataError
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with open_journal(Path(sys.argv[1])) as journal:
        for number in range(10**6):
            journal.record([(Request("r", "m", {"number": number}, 0), Answer("x" * 500, "stop", number, 0))])
            print(number, flush=True)
except DataError as error:
    print(error)
"""
READ_ONLY = """
import os, sys
from pathlib import Path
import filelock
from amalgam.errors import DataError
from amalgam.llm.journal import lock_sending, open_journal
if os.geteuid() == 0:
    os.seteuid(65534)
for opened in (open_journal, lock_sending):
    try:
        with opened(Path(sys.argv[1])):
            print("opened")
    except DataError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with answers, an open and a closed batch, and a folder that was read in."""
    path = tmp_path_factory.mktemp("good") / "journal.sqlite"
    with open_journal(path, pytest.fail) as journal:
        fill(journal)
        journal.add_batch("gone", KEYS[:9])
        journal.close_batch("gone")
    return path


@pytest.fixture
def path(good: Path, tmp_path: Path) -> Path:
    shutil.copyfile(good, tmp_path / "journal.sqlite")
    return tmp_path / "journal.sqlite"


def test_a_process_goes_on_in_the_file_that_another_has_repaired(path: Path) -> None:
    requests = (Request("r", "m", {}, number) for number in count())
    # The first of them goes into another page than the one that is lost.
    new = list(zip(islice((request for request in requests if request.key > max(KEYS)), 3), ANSWERS, strict=False))
    with open_journal(path, pytest.fail) as journal:
        journal.record(new[:1])
        overwrite(path, find_page(path, 10, bytes.fromhex(min(KEYS))), bytes(PAGE))
        assert f"{COUNT + 1} answers could be saved" in run_opener(path)
        journal.record(new[1:2])
        journal.record(new[2:])
    with open_journal(path, pytest.fail) as journal:
        assert journal.count_missing([*KEYS, *(request.key for request, _ in new)]) == 0


def add_during_repair(connection: sqlite3.Connection, path: Path, said: list[str]) -> None:
    row = build_row("f" * 64, None, None, ANSWERS[0], seeded=False)
    assert add_answers(connection, [row]) == 1
    said.append(run_opener(path) if not said else "")


def test_a_change_that_ends_after_the_file_was_moved_aside_is_made_again(path: Path) -> None:
    said: list[str] = []
    overwrite(path, find_page(path, 10, bytes.fromhex(min(KEYS))), bytes(PAGE))
    file = JournalFile(path, pytest.fail, wait=5)
    file.change(add_during_repair, path, said)
    file.close()
    assert f"{COUNT} answers could be saved" in said[0]
    assert len(said) == 2
    with open_journal(path, pytest.fail) as journal:
        assert journal.find(["f" * 64]) == {"f" * 64: ANSWERS[0]}


def look_after_repair(connection: sqlite3.Connection, path: Path, said: list[str]) -> int:
    if not said:
        said.append(run_opener(path))
    found: int = connection.execute("SELECT count(*) FROM answers INDEXED BY sqlite_autoindex_answers_1").fetchone()[0]
    return found


def test_damage_that_another_process_has_repaired_meanwhile_is_not_repaired_again(path: Path) -> None:
    said: list[str] = []
    overwrite(path, find_page(path, 10, bytes.fromhex(min(KEYS))), bytes(PAGE))
    file = JournalFile(path, pytest.fail, wait=5)
    assert file.read(look_after_repair, path, said) == COUNT
    file.close()
    assert "was damaged" in said[0]
    assert not Path(f"{path}.damaged-2").exists()


def read_settings(connection: sqlite3.Connection) -> list[object]:
    return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "fullfsync")]


def test_what_is_recorded_survives_a_power_failure(path: Path) -> None:
    file = JournalFile(path, pytest.fail, wait=5)
    assert file.read(read_settings) == ["wal", 2, 1]  # 2 is FULL: a commit waits for the disk
    file.close()


def test_a_journal_that_is_locked_gives_one_sentence(path: Path) -> None:
    new = [(Request("r", "m", {}, 0), ANSWERS[1])]
    with open_journal(path, pytest.fail, wait=0.05) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DataError, match="another program has locked it: close that program") as caught:
                journal.record(new)
        assert "\n" not in str(caught.value)
        assert len(journal.find(KEYS)) == COUNT
        journal.record(new)
        assert journal.read_spending() == 0.5 * COUNT / 2 + 0.5


@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_full_disk_gives_one_sentence_and_keeps_what_was_recorded(size: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    command = [sys.executable, "-W", "error", "-c", LIMITED, str(path), str(size)]
    *reported, error = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    assert error.startswith(f"the journal of LLM answers, {path}, cannot be used, since the disk")
    assert bool(reported) == (size > 1000)
    keys = [Request("r", "m", {"number": number}, 0).key for number in range(len(reported))]
    with open_journal(path, pytest.fail) as journal:
        assert journal.count_missing(keys) == 0


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of a Unix")
def test_a_folder_that_may_not_be_written_to_gives_one_sentence(good: Path) -> None:
    with TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        folder = Path(name)
        shutil.copyfile(good, folder / "journal.sqlite")
        folder.chmod(0o555)
        command = [sys.executable, "-W", "error", "-c", READ_ONLY, str(folder / "journal.sqlite")]
        opened, locked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        folder.chmod(0o755)
    assert "cannot be used, since Permission denied" in opened
    assert "cannot be locked (Permission denied)" in locked


def test_a_journal_of_a_newer_version_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(DataError, match="was written by a newer Amalgam"), open_journal(path, pytest.fail):
        pass
    assert not Path(f"{path}.damaged-1").exists()


def write_first_form(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "CREATE TABLE answers (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL) WITHOUT ROWID"
        )
        connection.execute("BEGIN")
        for request, answer in zip(REQUESTS, ANSWERS, strict=True):
            sent = {"model": request.model, "body": request.body | {"messages": ["long"] * 50}, "sample": 5}
            kept = {"text": answer.text, "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 2}
            connection.execute(
                "INSERT INTO answers VALUES (?, ?, ?)",
                (request.key, json.dumps(sent, ensure_ascii=False), json.dumps(kept, ensure_ascii=False)),
            )
        connection.execute("COMMIT")


def test_a_journal_of_the_first_form_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    write_first_form(path)
    for _ in range(2):
        with open_journal(path, pytest.fail) as journal:
            found = journal.find(KEYS)
            assert found == {key: Answer(answer.text, "stop", 1, 2) for key, answer in zip(KEYS, ANSWERS, strict=True)}
            (summary,) = journal.summarise()
            assert (summary.model, summary.answers, summary.seeded) == ("m", COUNT, 0)
            assert next(journal.iterate())["request"].keys() == {"sample", "temperature", "number"}


def test_a_damaged_journal_of_the_first_form_is_taken_over_in_part(tmp_path: Path) -> None:
    path, notices = tmp_path / "journal.sqlite", []
    write_first_form(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE answers SET answer = 'x' WHERE key = ?", [KEYS[1]])
    with open_journal(path, notices.append) as journal:
        assert journal.count_missing(KEYS) == 1
    assert notices == [f"answers in the journal, {path}, are damaged: 1 of them will be asked again"]
    path.unlink()
    write_first_form(path)
    overwrite(path, find_page(path, 10, KEYS[5].encode()), bytes(PAGE))
    notices.clear()
    with open_journal(path, notices.append) as journal:
        assert COUNT - 20 < COUNT - journal.count_missing(KEYS) < COUNT
    assert "was damaged" in notices[0]
