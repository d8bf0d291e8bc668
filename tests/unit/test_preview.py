"""`amalgam preview`, `estimate`, `doctor` and `tasks` in a project: what they show, and what is never sent."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo  # here, since it keeps the stdout that it is first imported with

from amalgam.files import read_rows, write_json, write_jsonl
from amalgam.llm.journal import open_journal
from amalgam.params import load_params
from amalgam.synthesis.grading import build_grading_requests
from amalgam.tasks.schema import load_task
from tests.pipeline.server import StubServer
from tests.pipeline.toy import LABELS, write_task
from tests.unit.answers import Amalgam

TOP = Path(__file__).parents[2]
ROWS, GRADED = 15, 6  # a label
SETTINGS = {"human_rows": 24, "split.test": 40, "llm.model": "stub", "prompts.shots": 2}
SETTINGS |= {"synthesis.rows": ROWS, "judge.rows": GRADED}


@pytest.fixture
def project(amalgam: Amalgam, server: StubServer) -> Amalgam:
    """Run a command in a fresh project with the toy task at the stub endpoint, whose params name another task."""
    Repo.init(no_scm=True).close()
    shutil.copytree(TOP / "data/templates", "data/templates")
    shutil.copy(TOP / "data/prices.yaml", "data")
    write_task(Path("data/tasks/toy"))
    change_params({"llm.endpoint": server.url, **SETTINGS})
    write_json(Path("models/base/llm/identity.json"), {"model": "stub"})
    return amalgam


def change_params(values: dict[str, Any]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    for key, value in values.items():
        *sections, name = key.split(".")
        (params[sections[0]] if sections else params)[name] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))


def ask(project: Amalgam, *command: str) -> Any:
    """Return what a command prints as JSON."""
    exit_code, out, err = project(*command, "--json")
    assert exit_code == 0, err
    return json.loads(out)


def test_its_requests_are_the_first_of_the_run_which_pays_for_the_rest(project: Amalgam, server: StubServer) -> None:
    server.spoilt = {1: "length", 5: "length", 7: "refusal", 11: "length"}  # of fifteen; the preview sees three
    found = ask(project, "preview", "toy", "-n", "3")
    assert (server.log.synthesis, server.log.grading, found["sent"]) == (6, 4, 10)
    assert [(row["label"], row["fault"]) for row in found["rows"]] == [
        (label, fault) for fault in ("", "cut_off", "") for label in LABELS
    ]
    assert all(row["judged"] in LABELS for row in found["rows"] if not row["fault"])
    assert ask(project, "preview", "toy", "-n", "3")["sent"] == 0
    change_params({"task": "toy"})
    for stage in ("prepare", "prompts", "synthesize", "judge"):
        environment = os.environ | {"PYTHONPATH": str(TOP / "src")}
        subprocess.run([sys.executable, TOP / f"stages/{stage}.py"], env=environment, check=True)
    assert (server.log.synthesis, server.log.grading) == (2 * (ROWS + 4), 2 * GRADED)
    assert server.log.answered_twice == 0
    with Path("data/prompts.jsonl").open() as stream:
        first = [json.loads(next(stream)) for _ in LABELS]
    assert [prompt["messages"] for prompt in found["prompts"][:2]] == [line["messages"] for line in first]
    # The forecast of the tokens.
    with open_journal(Path(".cache/journal.sqlite")) as journal:
        (model,) = journal.summarise()
    tokens = model.prompt_tokens + model.completion_tokens
    assert found["whole_run"]["tokens"] == pytest.approx(tokens, rel=0.1)
    whole = ask(project, "preview")["whole_run"]
    assert (whole["tokens"], [stage["to_send"] for stage in whole["stages"]]) == (tokens, [0, 0])


def test_it_takes_a_minute_unless_it_is_said_how_many(project: Amalgam, monkeypatch: pytest.MonkeyPatch) -> None:
    for patience, rows, sent in ((0.0, 2, 4), (45.0, 10, 16)):
        monkeypatch.setattr("amalgam.cli.preview._PATIENCE", patience)
        found = ask(project, "preview", "toy")
        assert (len(found["rows"]), found["sent"], found["cut_short"]) == (rows, sent, rows == 2)


def test_the_terminal_shows_prompts_rows_cost_and_time(project: Amalgam) -> None:
    change_params({"llm.model": "gpt-4o-mini", "llm.batch": True, "baselines.llm_grader": True})
    _, shown, _ = project("preview", "toy", "-n", "2")
    for label in LABELS:
        assert f"Write another guest comment that is {label}." in shown
        assert f"\n{label}: " in shown
    assert "[system] A guest of a small bakery was asked how it was.\nPut a label on a guest comment." in shown
    assert "8 requests were sent" in shown
    (row,) = [line.split() for line in shown.splitlines() if line.startswith("synthesize")]
    assert row[1:3] == ["4", "26"]
    assert float(row[-1]) > 0
    assert "min of training" in shown


@pytest.mark.parametrize("allowed", [False, True])
def test_personal_data_is_sent_only_where_the_task_allows_it(
    project: Amalgam, server: StubServer, *, allowed: bool
) -> None:
    responses, task = Path("data/tasks/toy/responses.csv"), Path("data/tasks/toy/task.yaml")
    text = responses.read_text()
    responses.write_text(re.sub(r"(\n.*\n.*)\.", r"\1 (ann@example.org).", text))  # every second row
    task.write_text(f"{task.read_text()}send_personal: {str(allowed).lower()}\n")
    change_params({"baselines.llm_grader": True})
    ask(project, "preview", "toy", "-n", str(ROWS))  # test rows may be graded on this machine
    assert any("ann@example.org" in request.text for request in server.log.answered) == allowed
    if not allowed:
        change_params({"llm.endpoint": "https://llm.example.org/v1"})
        exit_code, _, said = project("preview", "toy")
        assert exit_code == 2
        words = "test rows hold personal data", "sent to https://llm.example.org/v1: ", "`send_personal: true`"
        assert all(part in said for part in words)


def test_the_next_run_is_estimated_without_sending(project: Amalgam, server: StubServer) -> None:
    change_params({"task": "toy", "llm.model": "gpt-4o-mini", "baselines.llm_grader": True})
    stage = "stages:\n  baselines:\n    cmd: none\n    deps: [data/prepared]\n    outs: [data/baselines]\n"
    Path("dvc.yaml").write_text(stage)
    Path("data/prepared").mkdir()
    for name in ("train", "test"):
        lines = ["id,text,question,label", *(f"{number},a comment,,praise" for number in range(3))]
        Path(f"data/prepared/{name}.csv").write_text("\n".join(lines) + "\n")
    found = ask(project, "estimate")
    (baselines,) = found["stages"]
    counts = {"stage": "baselines", "requests": 1, "answered": 0, "to_send": 1, "at_most": False}
    assert baselines.items() >= counts.items()
    assert 0 < found["batch_usd"] < found["live_usd"] < 0.001
    write_json(Path("models/base/encoder/amalgam.json"), {"name": "e5"})  # of an earlier run
    Path("models/base/encoder/model.safetensors").touch()
    write_json(Path("models/base/llm/identity.json"), {"name": "gpt-4o-mini"})
    findings = ask(project, "doctor")
    assert [*findings["models"].values()] == ["to be fetched", "here"]
    assert (findings["requests"], findings["problems"]) == ([counts], [])
    # Answers that DVC shares are taken in first.
    task, test = load_task(Path("data/tasks/toy")), read_rows(Path("data/prepared/test.csv"))
    request = build_grading_requests(task, test, test, "gpt-4o-mini", load_params(Path("params.yaml")).judge)[0]
    answer = {"text": "praise", "finish_reason": "stop", "prompt_tokens": 50, "completion_tokens": 7}
    write_jsonl(Path("answers/00000.jsonl"), [{"key": request.key, **answer}])
    with Repo() as repo:
        repo.add("answers")
    assert ask(project, "doctor")["requests"] == [counts | {"answered": 1, "to_send": 0}]
    assert not server.log.answered


def test_tasks_are_listed_with_what_is_known_of_them(project: Amalgam, server: StubServer) -> None:
    lost = Path("data/tasks/lost")
    write_task(lost)
    (lost / "responses.csv").unlink()
    (lost / "task.yaml").write_text((lost / "task.yaml").read_text().replace("name: toy", "name: lost"))
    exit_code, out, err = project("tasks", "--json")
    kept = {"labels": list(LABELS), "licence": "CC0-1.0", "student_auc": None}
    assert json.loads(out) == [{"name": "lost", "rows": None, **kept}, {"name": "toy", "rows": 160, **kept}]
    assert (exit_code, "lost: " in err) == (0, True)
    last = project("tasks")[1].splitlines()[-1]
    assert last.split() == ["toy", "160", "-", "complaint,", "praise", "CC0-1.0"]
    exit_code, _, err = project("preview", "lost")  # it fails with the same sentence as the run
    assert (exit_code, "responses.csv is missing: write the file" in err) == (2, True)
    assert not server.log.answered
