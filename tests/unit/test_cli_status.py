import hashlib
import json
from pathlib import Path

import pytest

from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request
from tests.unit.answers import Amalgam

MODEL = "sha256:" + hashlib.sha256(b"model").hexdigest()
PLACE = Path(".cache/journal.sqlite")
REQUESTS = [Request("r", MODEL, {"messages": []}, number) for number in range(40)]


@pytest.fixture
def filled(amalgam: Amalgam) -> Amalgam:
    """Run a command in a project whose journal holds forty answers."""
    with open_journal(PLACE, pytest.fail) as journal:
        journal.record([(one, Answer(f"Antwort ü {one.sample}", "stop", 10, 2, 0.25)) for one in REQUESTS])
    return amalgam


def test_what_is_in_the_journal_is_shown(filled: Amalgam) -> None:
    header, numbers, total = filled("journal")[1].splitlines()
    assert header.split() == ["model", "answers", "read", "in", "prompt", "tokens", "completion", "tokens", "USD"]
    assert numbers.split() == [MODEL[:19], "40", "0", "400", "80", "10.0000"]
    assert total == f"{PLACE}: 40 answers, 0.0 MB; 10.0000 USD spent from this clone"
    shown = json.loads(filled("journal", "--json")[1])
    counts = {"answers": 40, "seeded": 0, "prompt_tokens": 400, "completion_tokens": 80, "cost_usd": 10, "unpriced": 0}
    whole = {"journal": str(PLACE), "bytes": PLACE.stat().st_size, "answers": 40, "spending_usd": 10}
    assert shown == whole | {"models": [{"model": MODEL} | counts], "batches": []}
    with open_journal(PLACE, pytest.fail) as journal:  # answers without a price, or without a model
        for model, key in ((MODEL, "0" * 64), ("", "1" * 64)):
            journal.record_keys(model, [(key, Answer("x", "stop", 1, 1))])
    unnamed, priced = filled("journal")[1].splitlines()[1:3]
    assert unnamed.split() == ["not", "named", "1", "0", "1", "1", "no", "price"]
    assert priced.split()[-5:] == ["10.0000", "and", "1", "without", "price"]


def test_looking_makes_no_journal(amalgam: Amalgam) -> None:
    assert amalgam("journal") == (0, f"{PLACE} holds no answers yet\n", "")
    assert json.loads(amalgam("journal", "--json")[1])["answers"] == 0
    exit_code, _, said = amalgam("journal", "forget", "amalgam-1")
    assert (exit_code, "there is no journal" in said) == (2, True)
    assert not PLACE.parent.exists()


@pytest.mark.parametrize("command", ["journal", "tasks"])
def test_a_folder_below_the_project_is_refused(command: str, amalgam: Amalgam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("data")
    exit_code, shown, said = amalgam(command)
    assert (exit_code, shown) == (2, "")
    assert said.endswith("amalgam: params.yaml is missing: run from the top folder of the project\n")


def test_a_batch_is_listed_and_given_up(filled: Amalgam) -> None:
    with open_journal(PLACE, pytest.fail) as journal:
        journal.add_batch("amalgam-1", [request.key for request in REQUESTS[:3]])
    assert "batch amalgam-1 with 3 requests waits at the endpoint, if it arrived: run again" in filled("journal")[1]
    exit_code, _, said = filled("journal", "forget", "other")
    assert (exit_code, "no batch other is open" in said) == (2, True)
    assert filled("journal", "forget", "amalgam-1")[1].startswith("the batch amalgam-1 is given up: its 3 requests")
    assert json.loads(filled("journal", "--json")[1])["batches"] == []
