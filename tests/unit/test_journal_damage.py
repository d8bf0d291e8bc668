"""What a journal saves from damaged files, and what it reports if it cannot be used."""

import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from amalgam.errors import DataError
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.request import Answer, Request
from tests.unit.journals import HEAD, make_keys, make_request, start_process

PAGE, COUNT = 4096, 300
# Opens a journal, waits, and reads it whole.
OPENER = f"""{HEAD}
print("ready", flush=True)
sys.stdin.readline()
keys = [Request("r", "m", {{"number": number}}, 0).key for number in range(300)]
with open_journal(path, print) as journal:
    journal.find(keys)
"""
READ_ONLY = f"""{HEAD}
if os.geteuid() == 0:
    os.seteuid(65534)
for opened in (open_journal, lock_sending):
    try:
        with opened(path):
            print("opened")
    except DataError as error:
        print(error)
"""
KEYS = make_keys(COUNT)
# Some are longer than a page; every second has a price.
KEPT = [
    Answer(f"é{number}" * (2000 if number % 50 == 0 else 20), "stop", number, 1, 0.5 if number % 2 else None)
    for number in range(COUNT)
]


def fill(journal: Journal) -> None:
    entries = [(make_request(number), answer) for number, answer in enumerate(KEPT)]
    for start in range(0, COUNT, 10):
        journal.record(entries[start : start + 10])
    journal.add_batch("one", KEYS[:50], "batch_1")
    journal.mark_seeded("folder")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with answers, an open batch, and a file that was read in."""
    path = tmp_path_factory.mktemp("good") / "journal.sqlite"
    with open_journal(path, pytest.fail) as journal:
        fill(journal)
    return path


@pytest.fixture
def path(good: Path, tmp_path: Path) -> Path:
    shutil.copyfile(good, tmp_path / "copy.sqlite")
    return tmp_path / "copy.sqlite"


def find_page(path: Path, kind: int, content: bytes = b"") -> int:
    """Find the start of the first page of a kind that holds the bytes; 13 are leaves of tables, 10 of indexes."""
    data = path.read_bytes()
    starts = range(PAGE, len(data), PAGE)
    return next(start for start in starts if data[start] == kind and content in data[start : start + PAGE])


def overwrite(path: Path, start: int, content: bytes) -> None:
    with path.open("rb+") as stream:
        stream.seek(start)
        stream.write(content)


def test_a_journal_that_is_locked_gives_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amalgam.llm.journal_file._WAIT", 0.05)
    new = [(Request("r", "m", {}, 0), KEPT[1])]
    with open_journal(path, pytest.fail) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DataError, match=r"cannot be used \(database is locked\): close programs"):
                journal.record(new)
        assert len(journal.find(KEYS)) == COUNT
        journal.record(new)
        assert journal.read_spending() == 0.5 * COUNT / 2 + 0.5


def test_a_folder_that_may_not_be_written_to_gives_one_sentence(good: Path) -> None:
    with TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        shutil.copyfile(good, folder / "journal.sqlite")
        folder.chmod(0o555)
        command = [sys.executable, "-W", "error", "-c", READ_ONLY, str(folder / "journal.sqlite")]
        opened, locked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        folder.chmod(0o755)
    assert "cannot be used ([Errno 13] Permission denied" in opened
    assert "cannot be locked (Permission denied)" in locked


def test_a_journal_of_a_newer_version_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(DataError, match="was written by a newer Amalgam"), open_journal(path, pytest.fail):
        pass
    assert not Path(f"{path}.damaged-1").exists()


def read_saved(path: Path) -> dict[str, Answer]:
    """Open a damaged journal; check that its answers are right, one notice came, and the rest can be recorded again."""
    notices: list[str] = []
    damaged = path.read_bytes()
    with open_journal(path, notices.append) as journal:
        found = journal.find(KEYS)
        assert found.items() <= dict(zip(KEYS, KEPT, strict=True)).items()
        assert not journal.is_seeded("folder")  # what it gave may be lost now
        fill(journal)
        assert journal.read_spending() >= 0.5 * COUNT / 2  # lost answers were paid for as well
        assert len(journal.find(KEYS)) == COUNT
    (notice,) = notices
    assert f"{path}, was damaged: its readable answers ({len(found)}) " in notice
    assert f"the damaged file is {path.name}.damaged-1" in notice
    assert Path(f"{path}.damaged-1").read_bytes() == damaged
    return found


@pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\x00 and" * 99])
def test_a_file_that_is_no_journal_is_set_aside(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    assert read_saved(tmp_path / "journal.sqlite") == {}


@pytest.mark.parametrize(("kind", "content", "most"), [(13, b"\xc3\xa9123", 30), (10, bytes.fromhex(KEYS[5]), 0)])
def test_a_lost_page_costs_only_the_answers_in_it(kind: int, content: bytes, most: int, path: Path) -> None:
    overwrite(path, find_page(path, kind, content), bytes(PAGE))
    assert COUNT - most <= len(read_saved(path)) <= COUNT - (most > 0)
    with open_journal(path, pytest.fail) as journal:
        assert journal.read_batch_keys("one") == KEYS[:50]


def test_a_damaged_answer_is_left_out(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE answers SET text = 'forged' WHERE prompt_tokens IN (3, 4)")
    text = KEPT[7].text.encode()
    path.write_bytes(path.read_bytes().replace(text, text[:-1] + b"\xff"))  # which is not UTF-8
    assert set(KEYS) - read_saved(path).keys() == {KEYS[3], KEYS[4], KEYS[7]}


def test_random_damage_is_survived(good: Path, tmp_path: Path) -> None:
    rng, whole = random.Random(3), good.read_bytes()
    for number in range(12):
        path, data = tmp_path / f"{number}.sqlite", bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            start = rng.randrange(PAGE, len(data))
            data[start : start + rng.randrange(1, 2 * PAGE)] = rng.randbytes(rng.randrange(1, 50))
        path.write_bytes(data)
        with open_journal(path, lambda _notice: None) as journal:
            # Damage may come to light after a key was found, so look until nothing more is lost.
            while len(journal.find(KEYS)) < COUNT:
                fill(journal)
            assert journal.find(KEYS) == dict(zip(KEYS, KEPT, strict=True))


@pytest.mark.parametrize("moved", [[], [""], ["", "-wal"]])
def test_a_log_is_read_with_its_damaged_file_and_a_killed_repair_is_finished(moved: list[str], tmp_path: Path) -> None:
    path, copy, notices = tmp_path / "journal.sqlite", tmp_path / "copy.sqlite", []
    with open_journal(path, pytest.fail) as journal:
        fill(journal)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint")
        journal.record([(Request("r", "m", {}, 0), Answer("only in the log", "stop", 0, 0))])
        for name in ("", "-wal"):  # as a process that is killed leaves them
            shutil.copyfile(f"{path}{name}", f"{copy}{name}")
    overwrite(copy, find_page(copy, 10, bytes.fromhex(KEYS[5])), bytes(PAGE))
    damaged, log = copy.read_bytes(), Path(f"{copy}-wal").read_bytes()
    for name in moved:
        Path(f"{copy}{name}").rename(f"{copy}.damaged-1{name}")
    with open_journal(copy, notices.append) as journal:
        assert len(journal.find(KEYS)) == COUNT
        assert sum(model.answers for model in journal.summarise()) == COUNT + 1
    assert len(notices) == 1
    assert Path(f"{copy}.damaged-1").read_bytes() == damaged
    assert Path(f"{copy}.damaged-1-wal").read_bytes() == log
    assert not Path(f"{copy}.damaged-2").exists()


def test_processes_that_find_the_damage_at_once_repair_it_once_and_go_on(path: Path) -> None:
    new = [(Request("r", "m", {}, number), Answer("later", "stop", 3, 2)) for number in range(2)]
    with open_journal(path, pytest.fail) as journal:
        journal.record(new[:1])
        openers = [start_process(OPENER, path) for _ in range(3)]
        overwrite(path, find_page(path, 10, bytes.fromhex(KEYS[5])), bytes(PAGE))
        said = "".join(opener.communicate("\n")[0] for opener in openers)
        assert [opener.returncode for opener in openers] == [0, 0, 0]
        assert said.count("was damaged") == 1
        assert not Path(f"{path}.damaged-2").exists()
        journal.record(new[1:])  # goes into the file that another process has put in place
    with open_journal(path, pytest.fail) as journal:
        assert len(journal.find([*KEYS, *(request.key for request, _ in new)])) == COUNT + 2
