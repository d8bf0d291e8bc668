"""The journal with several threads and processes, after kills, and on full disks."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from amalgam.llm.journal import Batch, Journal, ModelSummary, lock_sending, open_journal
from amalgam.llm.request import Answer, Request
from tests.unit.journals import HEAD, make_keys, make_request, start_process

ANSWER = Answer("Grüße 😀\x00", "stop", 3, 2)
# Records answers to the requests 0, 1, 2, … and reports each transaction.
WRITER = f"""{HEAD}
name, count, size = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
with open_journal(path) as journal:
    for start in range(0, count, size):
        numbers = range(start, start + size)
        journal.record([(Request("r", "m", {{"number": n}}, 0), Answer(name, "stop", n, 0, 0.25)) for n in numbers])
        print(start + size - 1, flush=True)
"""
# Takes the sending lock and keeps it until it ends.
SENDER = f"""{HEAD}
with lock_sending(path):
    print("ready", flush=True)
    sys.stdin.readline()
"""
# Has room for only so many bytes a file.
LIMITED = f"""{HEAD}
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    with open_journal(path) as journal:
        for number in range(10**6):
            journal.record([(Request("r", "m", {{"number": number}}, 0), Answer("x" * 500, "stop", number, 0))])
            print(number, flush=True)
except DataError as error:
    print(error)
"""


def test_all_answers_come_back(tmp_path: Path) -> None:
    nasty = [
        ("", "", 0, 0, None),
        ("\ud7ff\U0010ffff\r\n'\"", "\x00", 2**63 - 1, 1, 0.0),
        ("x" * 10**6, "é", 0, 0, 1e6),
    ]
    answers = {make_request(number).key: Answer(*fields) for number, fields in enumerate(nasty)} | {"1" * 64: ANSWER}
    with open_journal(tmp_path / "a", pytest.fail) as one, open_journal(tmp_path / "b", pytest.fail) as other:
        one.record_keys("m", answers.items())
        assert other.seed(answers.items()) == len(answers)
        assert one.find([*answers, "0" * 64]) == other.find(list(answers)) == answers
        assert (one.read_spending(), other.read_spending()) == (1e6, 0)


def test_the_first_answer_is_never_replaced_and_paid_only_once(journal: Journal) -> None:
    keys = make_keys(5001)  # more than a transaction or a query takes
    journal.record([(make_request(0), Answer("a", "stop", 0, 0, 1.5))])
    journal.record([(make_request(0), Answer("b", "stop", 0, 0, 4.0)), (make_request(1), Answer("c", "stop", 0, 0))])
    assert journal.seed((key, ANSWER) for key in [*keys, *keys[:3]]) == 4999
    found = journal.find(keys)
    assert [found[key].text for key in keys] == ["a", "c", *[ANSWER.text] * 4999]
    assert journal.read_spending() == 1.5


def test_the_summary_adds_up_by_model(journal: Journal) -> None:
    priced = [(Request("r", "b", {"t": number}, number), Answer("", "stop", 10, 1, 0.5)) for number in range(3)]
    journal.record([*priced, (Request("r", "a", {}, 0), Answer("", "stop", 7, 0))])
    journal.seed([("0" * 64, ANSWER)])
    journal.record_keys("b", [("1" * 64, Answer("", "stop", 1, 1, 0.25))])
    assert journal.summarise() == [
        ModelSummary("", 1, 1, 3, 2, 0.0, 1),
        ModelSummary("a", 1, 0, 7, 0, 0.0, 1),
        ModelSummary("b", 4, 0, 31, 4, 1.75, 0),
    ]
    assert journal.read_spending() == 1.75


def test_batches_and_folders_are_remembered(tmp_path: Path) -> None:
    keys = [make_request(number).key for number in (2, 0, 1)]
    with open_journal(tmp_path / "journal.sqlite", pytest.fail) as journal:
        journal.add_batch("one", keys)
        journal.add_batch("two", keys[:1])
        journal.add_batch("two", keys[:1], "batch_123")
        journal.mark_seeded("a")
        journal.mark_seeded("a")
    with open_journal(tmp_path / "journal.sqlite", pytest.fail) as journal:
        assert (journal.is_seeded("a"), journal.is_seeded("b")) == (True, False)
        assert journal.list_batches() == [Batch("one", "", 3), Batch("two", "batch_123", 1)]
        assert journal.read_batch_keys("one") == keys
        assert journal.read_batch_keys("three") == []
        journal.close_batch("one")
        assert journal.list_batches() == [Batch("two", "batch_123", 1)]


def test_a_journal_is_for_ever(tmp_path: Path) -> None:
    # An answer or a batch in it that cannot be found would be paid for again.
    path = tmp_path / "journal.sqlite"
    earlier = Request("r", "m", {"temperature": 0.5, "seed": 3, "user": "me", "messages": []}, 3)
    with open_journal(path, pytest.fail) as journal:
        journal.record([(make_request(0), Answer("ü", "stop", 4, 5, 0.25))])
        journal.add_batch("one", ["0a" * 32], "batch_1")
    with closing(sqlite3.connect(path)) as connection:
        (row,) = connection.execute("SELECT * FROM answers")
        key, numbers = bytes.fromhex(make_request(0).key), (4, 5, 0.25, 681781066)
        assert row[1:] == (key, 46182234567271, None, 0, "ü", "stop", *numbers)
        assert list(connection.execute("SELECT * FROM batches")) == [("one", "batch_1", b"\x0a" * 32, 182987832)]
        marks = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        assert marks == [0x416D6C67, 2]
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        # As rows were written when setups still held settings.
        values = (2, bytes.fromhex(earlier.key), 126645382549589, 3, 0, "ü", "stop", 4, 5, 0.25, 1159435616)
        connection.execute(f"INSERT INTO answers VALUES ({','.join('?' * 11)})", values)
        connection.execute("INSERT INTO setups VALUES (126645382549589, 'm', '{\"temperature\": 0.5}')")
        connection.commit()
    with open_journal(path, pytest.fail) as journal:
        assert len(journal.find([earlier.key, make_request(0).key])) == 2
        assert [(model.model, model.answers) for model in journal.summarise()] == [("m", 2)]


def test_processes_share_a_new_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writers = [start_process(WRITER, path, name, 30, 1) for name in "abc"]  # they also race to make the file
    for writer in writers:
        with writer:
            assert writer.stdout
            assert len(writer.stdout.read().split()) == 30
        assert writer.returncode == 0
    with open_journal(path, pytest.fail) as journal:
        assert len(journal.find(make_keys(30))) == 30
        assert journal.read_spending() == 7.5


def test_a_killed_process_loses_nothing_that_it_recorded(tmp_path: Path) -> None:
    path, rng, last = tmp_path / "journal.sqlite", random.Random(1), 0
    for size in (1, 7, 100, 1):
        writer = start_process(WRITER, path, "a", 10**6, size)
        assert writer.stdout
        goal = last + rng.randrange(1, 300)
        last = next(number for number in map(int, writer.stdout) if number >= goal)
        time.sleep(rng.random() * 2e-3)
        writer.kill()
        rest = writer.communicate()[0].split()
        assert writer.returncode == -signal.SIGKILL
        last = int(rest[-1]) if rest else last
        keys = make_keys(last + 1)
        with open_journal(path, pytest.fail) as journal:
            found = journal.find(keys)
            assert [found[key].prompt_tokens for key in keys] == list(range(last + 1))
            answers = sum(model.answers for model in journal.summarise())
            assert journal.read_spending() == answers / 4  # also of what was durable and not yet reported


def test_one_process_sends_at_a_time(tmp_path: Path) -> None:
    path, said = tmp_path / "deep/journal.sqlite", []
    holder = start_process(SENDER, path)
    timer = threading.Timer(0.3, holder.kill)
    timer.start()
    start = time.monotonic()
    with lock_sending(path, said.append):  # a killed holder frees it
        assert time.monotonic() - start >= 0.25
    timer.join()
    holder.communicate()
    assert len(said) == 1
    assert said[0].startswith("waiting for another run in this clone that is sending requests")
    with lock_sending(path, pytest.fail):
        pass


def test_a_full_disk_gives_one_sentence_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    command = [sys.executable, "-W", "error", "-c", LIMITED, str(path)]
    *reported, error = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    assert error.startswith(f"the journal of LLM answers, {path}, cannot be used (")
    assert "free some space" in error
    assert reported
    with open_journal(path, pytest.fail) as journal:
        assert len(journal.find(make_keys(len(reported)))) == len(reported)
