import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from amalgam.cli import app
from amalgam.errors import DataError
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request

MODEL = "sha256:" + hashlib.sha256(b"model").hexdigest()
REQUESTS = [Request("r", MODEL, {"messages": []}, number) for number in range(40)]
ANSWERS = [Answer(f"Antwort ü {number}", "stop", 10, 2, 0.25) for number in range(40)]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a journal, as the current folder."""
    with open_journal(tmp_path / ".cache/journal.sqlite", pytest.fail) as journal:
        journal.record(list(zip(REQUESTS, ANSWERS, strict=True)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["journal", *arguments], catch_exceptions=True)


def fail(*arguments: str) -> str:
    """Return the sentence that a command which fails ends with."""
    result = run(*arguments)
    assert isinstance(result.exception, DataError), result.output
    return str(result.exception)


def test_what_is_in_the_journal_is_shown(project: Path) -> None:
    header, numbers, total = run().stdout.splitlines()
    assert header.split() == ["model", "answers", "read", "in", "prompt", "tokens", "completion", "tokens", "USD"]
    assert numbers.split() == [MODEL[:19], "40", "0", "400", "80", "10.0000"]
    assert total == ".cache/journal.sqlite: 40 answers, 0.0 MB; 10.0000 USD spent from this clone"
    shown = json.loads(run("--json").stdout)
    size = (project / ".cache/journal.sqlite").stat().st_size
    assert (shown["bytes"], shown["answers"], shown["spending_usd"]) == (size, 40, 10)
    counts = {"answers": 40, "seeded": 0, "prompt_tokens": 400, "completion_tokens": 80, "cost_usd": 10, "unpriced": 0}
    assert shown["models"] == [{"model": MODEL} | counts]
    assert str(project) not in json.dumps(shown)


def test_answers_without_a_price_or_a_model_are_named(project: Path) -> None:
    more = [("0" * 63 + digit, Answer("x", "stop", 1, 1)) for digit in "01"]
    with open_journal(project / ".cache/journal.sqlite", pytest.fail) as journal:
        journal.record_keys(MODEL, more[:1])
        journal.record_keys("", more[1:])
    rows = [line.split() for line in run().stdout.splitlines()[1:3]]
    assert rows == [
        ["not", "named", "1", "0", "1", "1", "no", "price"],
        [MODEL[:19], "41", "0", "401", "81", "10.0000", "and", "1", "without", "price"],
    ]


def test_looking_makes_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run().stdout == ".cache/journal.sqlite holds no answers yet\n"
    assert json.loads(run("--json").stdout)["answers"] == 0
    assert "there is no journal" in fail("forget", "amalgam-1")
    assert not list(tmp_path.iterdir())


def test_a_batch_is_listed_and_given_up(project: Path) -> None:
    with open_journal(project / ".cache/journal.sqlite", pytest.fail) as journal:
        journal.add_batch("amalgam-1", [request.key for request in REQUESTS[:3]])
    assert "batch amalgam-1 with 3 requests waits at the endpoint, if it arrived: run again" in run().stdout
    assert "no batch other is open" in fail("forget", "other")
    assert run("forget", "amalgam-1").stdout.startswith("the batch amalgam-1 is given up: its 3 requests")
    assert json.loads(run("--json").stdout)["batches"] == []
