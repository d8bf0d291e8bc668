import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from amalgam.cli import app
from amalgam.errors import DataError
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request

MODEL = "sha256:" + hashlib.sha256(b"model").hexdigest()
REQUESTS = [
    Request("r", MODEL, {"messages": [{"role": "user", "content": "a secret shot"}], "temperature": 0.7}, number)
    for number in range(40)
]
ANSWERS = [Answer(f"Antwort ü {number}", "stop", 10, 2, 0.25) for number in range(40)]
FOUND = {request.key: answer for request, answer in zip(REQUESTS, ANSWERS, strict=True)}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a journal, as the current folder."""
    project = tmp_path / "project"
    with open_journal(project / ".cache/journal.sqlite", pytest.fail) as journal:
        journal.record(list(zip(REQUESTS, ANSWERS, strict=True)))
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A project without one."""
    (tmp_path / "clone").mkdir()
    return tmp_path / "clone"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["journal", *map(str, arguments)], catch_exceptions=True)


def fail(*arguments: object) -> tuple[str, str]:
    """Return what a command that fails writes as notices, and the sentence that it ends with."""
    result = run(*arguments)
    assert isinstance(result.exception, DataError), result.output
    assert "\n" not in str(result.exception)
    return result.stderr, str(result.exception)


def read_journal(project: Path) -> dict[str, Answer]:
    with open_journal(project / ".cache/journal.sqlite", pytest.fail) as journal:
        assert all(line["model"] in ("", MODEL) for line in journal.iterate())
        return journal.find(list(FOUND))


def test_what_is_in_the_journal_is_shown(project: Path) -> None:
    for result in (run(), run("show")):
        assert result.exit_code == 0
        name, numbers = result.stdout.splitlines()[1].split(maxsplit=1)
        assert name == MODEL[:19]
        assert numbers.split() == ["40", "0", "400", "80", "10.0000"]
        assert "40 answers, 0.0 MB; 10.0000 USD spent from this clone" in result.stdout
    shown = json.loads(run("show", "--json").stdout)
    size = (project / ".cache/journal.sqlite").stat().st_size
    assert shown["bytes"] == size
    assert shown["answers"] == 40
    assert shown["spending_usd"] == 10
    assert shown["models"] == [
        {
            "model": MODEL,
            "answers": 40,
            "seeded": 0,
            "prompt_tokens": 400,
            "completion_tokens": 80,
            "cost_usd": 10,
            "unpriced": 0,
        }
    ]
    assert str(project) not in json.dumps(shown)


def test_looking_makes_no_journal(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    assert run().stdout == ".cache/journal.sqlite holds no answers yet\n"
    assert json.loads(run("show", "--json").stdout)["answers"] == 0
    assert "there is no journal" in fail("export", "x.jsonl")[1]
    assert not list(clone.iterdir())


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.gz"])
def test_an_export_is_imported(name: str, project: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = clone / name
    assert run("export", target).stdout == f"40 answers exported to {target}\n"
    first = target.read_bytes()
    assert run("export", target).exit_code == 0
    assert target.read_bytes() == first
    text = (gzip.decompress(first) if name.endswith(".gz") else first).decode()
    assert [json.loads(line)["key"] for line in text.splitlines()] == sorted(FOUND)
    assert json.loads(text.splitlines()[0])["request"].keys() == {"sample", "temperature"}
    assert "Antwort ü" in text
    assert "secret" not in text
    assert [path.name for path in clone.iterdir()] == [name]
    monkeypatch.chdir(clone)
    assert run("import", name).stdout == f"40 answers read from {name}: 40 new, 0 known already\n"
    assert run("import", name).stdout == f"40 answers read from {name}: 0 new, 40 known already\n"
    assert read_journal(clone) == FOUND
    assert json.loads(run("show", "--json").stdout)["spending_usd"] == 0
    assert run("export", "again.jsonl").exit_code == 0
    assert (clone / "again.jsonl").read_text("utf-8") == text


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_lines(first: int, last: int) -> list[dict[str, Any]]:
    """Make lines as a stage writes them."""
    keys = list(FOUND)
    return [{"key": keys[n], "label": "good", "sample": 7, **asdict(ANSWERS[n])} for n in range(first, last)]


def test_a_folder_of_raw_answers_is_imported(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    write_lines(clone / "data/completions/00000.jsonl", make_lines(0, 25))
    write_lines(clone / "data/completions/deep/00001.jsonl", make_lines(25, 40))
    (clone / "data/completions/summary.json").write_text("{}")
    assert run("import", "data/completions").stdout == (
        "40 answers read from data/completions: 40 new, 0 known already\n"
    )
    assert read_journal(clone) == FOUND
    assert "not named" in run().stdout


def test_a_file_with_bad_lines_is_left_out(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    write_lines(clone / "a/good.jsonl", make_lines(0, 20))
    bad = [*make_lines(20, 30), {"key": "short", "text": "a secret"}, *[{}] * 30]
    write_lines(clone / "a/bad.jsonl", bad)
    with (clone / "a/bad.jsonl").open("a") as stream:
        stream.write("\n{half of a li")
    said, error = fail("import", "a")
    assert said.splitlines()[0].startswith("a/bad.jsonl, line 11 is no stored answer (`key`: ")
    assert said.splitlines()[1] == "a/bad.jsonl, line 12 is no stored answer (`key`: Field required): mend or delete it"
    assert said.splitlines()[20] == "a/bad.jsonl has 12 more such lines"
    assert len(said.splitlines()) == 21
    assert "secret" not in said
    assert error == "1 of 2 files were left out, see above: mend them and import again"
    assert read_journal(clone).keys() == set(list(FOUND)[:20])


def test_a_damaged_compressed_file_is_left_out(project: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("export", clone / "a.jsonl.gz")
    content = (clone / "a.jsonl.gz").read_bytes()
    monkeypatch.chdir(clone)
    for damaged in (content[:-20], content[:200] + b"\x00\xff" * 9 + content[218:], content[:20]):
        Path("a.jsonl.gz").write_bytes(damaged)
        said, _ = fail("import", "a.jsonl.gz")
        assert "the compressed file is damaged" in said.splitlines()[-1]
    assert read_journal(clone) == {}


def test_what_cannot_be_read_or_written_gives_one_sentence(project: Path) -> None:
    assert "is no file and no folder with .jsonl" in fail("import", "missing")[1]
    assert "is no file and no folder with .jsonl" in fail("import", ".")[1]
    assert fail("export", "missing/x.jsonl")[1].startswith("missing/x.jsonl cannot be written (No such file")
    Path("folder").mkdir()
    assert fail("export", "folder")[1].startswith("folder cannot be written (Is a directory")
    assert sorted(path.name for path in project.iterdir()) == [".cache", "folder"]


def test_a_batch_is_listed_and_given_up(project: Path) -> None:
    with open_journal(project / ".cache/journal.sqlite", pytest.fail) as journal:
        journal.add_batch("amalgam-1", list(FOUND)[:3])
    assert "batch amalgam-1 with 3 requests waits at the endpoint, if it arrived: run again" in run().stdout
    assert "no batch other is open" in fail("forget", "other")[1]
    assert run("forget", "amalgam-1").stdout.startswith("the batch amalgam-1 is given up: its 3 requests")
    with open_journal(project / ".cache/journal.sqlite", pytest.fail) as journal:
        assert journal.list_batches() == []


def test_what_dvc_has_is_read_in_once(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR"):
        monkeypatch.setenv(name, str(clone.parent / "outside"))
    monkeypatch.chdir(clone)
    write_lines(clone / "answers/00000.jsonl", make_lines(0, 30))
    write_lines(clone / "answers/00001.jsonl", make_lines(30, 40))
    with Repo.init(str(clone), no_scm=True) as repo:
        repo.add("answers")
    shutil.rmtree(clone / "answers")
    assert run("seed").stdout == "40 answers new, from 2 files of answers that were not read in before\n"
    assert read_journal(clone) == FOUND
    assert run("seed").stdout == "0 answers new, from 0 files of answers that were not read in before\n"


def test_nothing_is_read_in_outside_a_dvc_project(project: Path) -> None:
    assert run("seed").stdout == "0 answers new, from 0 files of answers that were not read in before\n"


def test_the_command_ends_with_one_sentence_and_code_2(clone: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", "from amalgam.cli import main; main()", "journal", "import", "x"]
    result = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("amalgam: x is no file and no folder")
    assert result.stderr.count("\n") == 1
