"""What the journal saves out of damaged files."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from amalgam.llm.journal import Batch, open_journal
from amalgam.llm.request import Answer, Request
from tests.unit.journals import (
    ANSWERS,
    COUNT,
    KEYS,
    OPENER,
    PAGE,
    REQUESTS,
    fill,
    find_page,
    list_missing,
    overwrite,
)


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


def read_saved(path: Path, notices: list[str]) -> dict[str, Answer]:
    """Open a damaged journal; check that what it holds is right, and that what it lacks can be recorded again."""
    with open_journal(path, notices.append) as journal:
        saved = journal.find(KEYS)
        assert all(saved[key] == answer for key, answer in zip(KEYS, ANSWERS, strict=True) if key in saved)
        journal.record(list(zip(REQUESTS, ANSWERS, strict=True)))
        assert len(list(journal.iterate())) == COUNT
        assert journal.read_spending() == 0.5 * COUNT / 2
    with open_journal(path, pytest.fail) as journal:
        assert journal.find(KEYS) == dict(zip(KEYS, ANSWERS, strict=True))
    return saved


def check_notice(notices: list[str], path: Path, saved: int) -> None:
    assert notices == [
        f"the journal of LLM answers, {path}, was damaged: {saved} answer{'' if saved == 1 else 's'} could be saved "
        "into a new one, the damaged file is now journal.sqlite.damaged-1, and only what is missing will be asked again"
    ]


@pytest.mark.parametrize(
    ("start", "content"),
    [
        (0, bytes(PAGE)),
        (0, b"\xa5" * 100),
        (0, b"no database" * 300),
        (PAGE // 2, bytes(PAGE // 2)),
        (16, b"\x02\x00"),  # a size of pages that they do not have
        (20, b"\x09"),  # and bytes at their ends that would be left out
    ],
    ids=["zeroed", "noise", "text", "half", "size", "reserve"],
)
def test_all_answers_survive_the_loss_of_the_first_page(start: int, content: bytes, path: Path) -> None:
    overwrite(path, start, content)
    damaged, notices = path.read_bytes(), []
    assert len(read_saved(path, notices)) == COUNT
    check_notice(notices, path, COUNT)
    assert path.with_name("journal.sqlite.damaged-1").read_bytes() == damaged
    with open_journal(path, pytest.fail) as journal:
        assert journal.list_batches() == [Batch("one", "batch_1", 50)]
        assert journal.read_batch_keys("one") == KEYS[:50]
        assert next(journal.iterate())["model"] == "m"
        # It may have held what is lost now.
        assert not journal.is_seeded("folder")


def test_a_lost_page_costs_only_what_it_held(path: Path) -> None:
    overwrite(path, find_page(path, 13, b"\xc3\xa9123"), bytes(PAGE))
    notices: list[str] = []
    saved = read_saved(path, notices)
    assert KEYS[123] not in saved
    assert 0 < COUNT - len(saved) < 30
    assert notices[0].split(":")[0] == f"the journal of LLM answers, {path}, was damaged"


def test_a_lost_page_of_the_index_costs_nothing(path: Path) -> None:
    overwrite(path, find_page(path, 10, bytes.fromhex(KEYS[5])), bytes(PAGE))
    notices: list[str] = []
    assert len(read_saved(path, notices)) == COUNT
    check_notice(notices, path, COUNT)


def test_a_cut_file_keeps_what_is_left(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, size // 2)
    notices: list[str] = []
    saved = read_saved(path, notices)
    assert 50 < len(saved) < COUNT
    check_notice(notices, path, len(saved))


@pytest.mark.parametrize("content", [b"", b"x", b"no database, but long enough" * 500, b"SQLite format 3\x00 and" * 99])
def test_a_file_that_is_no_journal_is_moved_aside(content: bytes, tmp_path: Path) -> None:
    path, notices = tmp_path / "journal.sqlite", []
    path.write_bytes(content)
    assert read_saved(path, notices) == {}
    check_notice(notices, path, 0)
    assert path.with_name("journal.sqlite.damaged-1").read_bytes() == content


def test_a_database_of_another_kind_is_moved_aside(tmp_path: Path) -> None:
    path, notices = tmp_path / "journal.sqlite", []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE answers (key TEXT)")
    assert read_saved(path, notices) == {}
    check_notice(notices, path, 0)


def test_random_damage_is_survived(good: Path, tmp_path: Path) -> None:
    rng, whole = random.Random(3), good.read_bytes()
    for number in range(25):
        path, data = tmp_path / f"{number}.sqlite", bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            start = rng.randrange(PAGE, len(data))
            data[start : start + rng.randrange(1, 2 * PAGE)] = rng.randbytes(rng.randrange(1, 50))
        path.write_bytes(data)
        with open_journal(path, lambda _notice: None) as journal:
            # Damage may come to light after a key was found, so look until nothing more is lost.
            while missing := list_missing(journal):
                journal.record([(REQUESTS[number], ANSWERS[number]) for number in missing])
            assert journal.find(KEYS) == dict(zip(KEYS, ANSWERS, strict=True))


def test_a_damaged_answer_counts_as_missing_and_is_said_once(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE answers SET text = 'forged' WHERE prompt_tokens IN (3, 4)")
    text = ANSWERS[7].text.encode()
    path.write_bytes(path.read_bytes().replace(text, text[:-1] + b"\xff"))  # which is no UTF-8
    notices: list[str] = []
    with open_journal(path, notices.append) as journal:
        lost = list_missing(journal)
        assert lost == [3, 4, 7]
        assert not journal.is_seeded("folder")
        journal.record([(REQUESTS[number], ANSWERS[number]) for number in lost])
        assert journal.find(KEYS) == dict(zip(KEYS, ANSWERS, strict=True))
    assert len(notices) == 1
    assert notices[0].startswith(f"some answers in the journal of LLM answers, {path}, are damaged")


def test_a_damaged_index_is_found_when_all_answers_are_read(path: Path) -> None:
    key = bytes.fromhex(KEYS[5])
    start = find_page(path, 10, key)
    overwrite(path, path.read_bytes().index(key, start), key[:-1] + bytes([key[-1] ^ 1]))
    notices: list[str] = []
    with open_journal(path, notices.append) as journal:
        assert journal.find([KEYS[5]]) == {}
        assert len(list(journal.iterate())) == COUNT
        assert journal.find([KEYS[5]]) == {KEYS[5]: ANSWERS[5]}
    assert f"{COUNT} answers could be saved" in notices[0]


@pytest.mark.parametrize("tear", ["header", "frame", "page"])
def test_a_torn_log_costs_only_what_was_in_the_tear(tear: str, tmp_path: Path) -> None:
    path, copy, notices = tmp_path / "journal.sqlite", tmp_path / "copy.sqlite", []
    with open_journal(path, pytest.fail) as journal:
        fill(journal)
        for name in ("", "-wal"):  # as a process that is killed leaves them
            shutil.copyfile(f"{path}{name}", f"{copy}{name}")
    log = Path(f"{copy}-wal")
    frame = 32 + (log.stat().st_size // (PAGE + 24) // 2) * (PAGE + 24)
    overwrite(log, {"header": 0, "frame": frame, "page": frame + 24}[tear], bytes(24))
    torn = log.read_bytes()
    saved = read_saved(copy, notices)
    assert len(saved) == COUNT
    assert len(notices) == 1
    assert notices[0].startswith(f"the log of the journal of LLM answers, {copy}, was torn:")
    assert Path(f"{copy}.damaged-1-wal").read_bytes() == torn


def test_a_log_is_saved_with_its_damaged_file(tmp_path: Path) -> None:
    path, copy, notices = tmp_path / "journal.sqlite", tmp_path / "copy.sqlite", []
    last = Request("r", "m", {}, 0)
    with open_journal(path, pytest.fail) as journal:
        fill(journal)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint")
        journal.record([(last, Answer("only in the log", "stop", 0, 0))])
        for name in ("", "-wal"):
            shutil.copyfile(f"{path}{name}", f"{copy}{name}")
    overwrite(copy, 0, bytes(100))
    damaged, log = copy.read_bytes(), Path(f"{copy}-wal").read_bytes()
    with open_journal(copy, notices.append) as journal:
        assert journal.count_missing([*KEYS, last.key]) == 0
    assert f"{COUNT + 1} answers could be saved into a new one" in notices[0]
    assert Path(f"{copy}.damaged-1").read_bytes() == damaged
    assert Path(f"{copy}.damaged-1-wal").read_bytes() == log


def test_a_log_that_cannot_be_read_is_said_once(tmp_path: Path) -> None:
    path, copy, notices = tmp_path / "journal.sqlite", tmp_path / "copy.sqlite", []
    with open_journal(path, pytest.fail) as journal:
        fill(journal)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint")
        shutil.copyfile(path, copy)
        Path(f"{copy}-wal").write_bytes(b"noise" * 9999)
    for _ in range(2):
        with open_journal(copy, notices.append) as journal:
            assert journal.count_missing(KEYS) == 0
    assert len(notices) == 1
    assert "was torn: 0 answers could be saved from behind the tear" in notices[0]


def test_a_log_without_its_file_is_read(tmp_path: Path) -> None:
    path, copy, notices = tmp_path / "journal.sqlite", tmp_path / "copy.sqlite", []
    with open_journal(path, pytest.fail) as journal:
        fill(journal)
        shutil.copyfile(f"{path}-wal", f"{copy}-wal")
    assert len(read_saved(copy, notices)) == COUNT
    assert len(notices) == 1
    assert f"{COUNT} answers could be saved into a new one" in notices[0]


def test_a_log_that_a_killed_process_left_is_no_damage(tmp_path: Path) -> None:
    path, copy = tmp_path / "journal.sqlite", tmp_path / "copy.sqlite"
    with open_journal(path, pytest.fail) as journal:
        fill(journal)
        shutil.copyfile(path, copy)
        shutil.copyfile(f"{path}-wal", f"{copy}-wal")
    # The last transaction did not get to its end.
    os.truncate(f"{copy}-wal", Path(f"{copy}-wal").stat().st_size - PAGE)
    with open_journal(copy, pytest.fail) as journal:
        assert journal.find(KEYS) == dict(zip(KEYS, ANSWERS, strict=True))


@pytest.mark.parametrize("moved", [("",), ("", "-wal"), ("", "-wal", "done")])
def test_a_repair_that_was_cut_short_is_finished(moved: tuple[str, ...], path: Path) -> None:
    notices: list[str] = []
    overwrite(path, 0, bytes(100))
    Path(f"{path}-wal").write_bytes(b"")
    damaged = path.read_bytes()
    for name in moved[:2]:
        Path(f"{path}{name}").rename(f"{path}.repairing{name}")
    if "done" in moved:
        with open_journal(path.with_name("new")) as journal:
            journal.record([(REQUESTS[0], ANSWERS[0])])
        path.with_name("new").rename(path)
    with open_journal(path, notices.append) as journal:
        assert journal.count_missing(KEYS) == (COUNT - 1 if "done" in moved else 0)
    check_notice(notices, path, 1 if "done" in moved else COUNT)
    assert Path(f"{path}.damaged-1").read_bytes() == damaged
    assert not Path(f"{path}.repairing").exists()


def test_processes_that_find_the_damage_at_once_repair_it_once(path: Path) -> None:
    overwrite(path, find_page(path, 10, bytes.fromhex(KEYS[5])), bytes(PAGE))
    command = [sys.executable, "-W", "error", "-c", OPENER, str(path), *KEYS]
    openers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for opener in openers:
        assert opener.stdout
        assert opener.stdout.readline() == "ready\n"
    said = "".join(opener.communicate("\n")[0] for opener in openers)
    assert [opener.returncode for opener in openers] == [0, 0, 0]
    assert said.count("was damaged") == 1
    assert not Path(f"{path}.damaged-2").exists()
    with open_journal(path, pytest.fail) as journal:
        assert journal.count_missing(KEYS) == 0
