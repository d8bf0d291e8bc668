import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from amalgam.errors import DataError
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request

ANSWER = Answer("Grüße 😀\x00", "stop", 3, 2)
# A process that waits for its start, then records answers to the requests 0, 1, 2, … and says so after each.
WRITER = """
import sys, time
from pathlib import Path
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with open_journal(path) as journal:
    for number in range(count):
        journal.record(Request("r", "m", {"number": number}, 0), Answer(name, "stop", number, 0))
        print(number, flush=True)
"""


def make_request(number: int) -> Request:
    return Request("r", "m", {"number": number}, 0)


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", WRITER, str(path), name, str(count)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    assert writer.stdout.readline() == "ready\n"
    return writer


def test_an_answer_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep/journal.sqlite"
    with open_journal(path) as journal:
        assert journal.find([]) == journal.find([make_request(0).key]) == {}
        journal.record(make_request(0), ANSWER)
        assert journal.find([make_request(0).key, make_request(1).key]) == {make_request(0).key: ANSWER}
    with open_journal(path) as journal:
        assert journal.find([make_request(0).key]) == {make_request(0).key: ANSWER}


def test_the_first_answer_is_never_replaced(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        journal.record(make_request(0), ANSWER)
        journal.record(make_request(0), Answer("another", "stop", 0, 0))
        assert journal.find([make_request(0).key]) == {make_request(0).key: ANSWER}


def test_many_keys_are_found_at_once(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        kept = [make_request(number) for number in range(0, 1500, 500)]
        for request in kept:
            journal.record(request, ANSWER)
        found = journal.find([make_request(number).key for number in range(1501)])
    assert found == {request.key: ANSWER for request in kept}


def test_processes_share_a_new_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writers = [start_writer(path, name, 30) for name in "abc"]
    for writer in writers:  # all at once: they also race to make the file
        assert writer.stdin
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [len(writer.communicate()[0].split()) for writer in writers] == [30, 30, 30]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    with open_journal(path) as journal:
        assert len(journal.find([make_request(number).key for number in range(30)])) == 30


def test_a_new_journal_waits_for_another_process(tmp_path: Path) -> None:
    # For this lock SQLite itself would not wait.
    other = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.1, other.execute, ["COMMIT"])
    timer.start()
    with open_journal(tmp_path / "journal.sqlite") as journal:
        journal.record(make_request(0), ANSWER)
        assert journal.find([make_request(0).key])
    timer.join()
    other.close()


def test_a_killed_process_loses_nothing_that_it_recorded(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writer = start_writer(path, "a", 10**6)
    assert writer.stdin
    assert writer.stdout
    writer.stdin.write("\n")
    writer.stdin.flush()
    last = next(number for number in map(int, writer.stdout) if number >= 20)
    writer.kill()
    rest = writer.communicate()[0].split()
    assert writer.returncode == -signal.SIGKILL
    last = int(rest[-1]) if rest else last
    requests = [make_request(number) for number in range(last + 1)]
    with open_journal(path) as journal:
        found = journal.find([request.key for request in requests])
        assert [found[request.key].prompt_tokens for request in requests] == list(range(last + 1))
        journal.record(make_request(10**6), ANSWER)


@pytest.mark.parametrize(
    "content", [b"no database, but long enough to be taken for one" * 50, b"SQLite format 3\x00 and noise" * 99]
)
def test_a_file_that_is_no_journal_gives_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"journal\.sqlite, cannot be used \(.*\): free its disk, or move") as caught:  # noqa: SIM117
        with open_journal(path):
            pass
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_an_older_table_of_another_form_gives_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE answers (key TEXT)")
    connection.close()
    with pytest.raises(DataError, match="cannot be used"), open_journal(path) as journal:
        journal.find(["x"])
