"""`amalgam preview`, `estimate`, `doctor` and `tasks` in a project: what they show, and what is never sent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo  # here, since it keeps the stdout that it is first imported with

from amalgam.cli.estimate import examine_project, run_estimate
from amalgam.cli.preview import run_preview
from amalgam.cli.tasks import run_tasks
from amalgam.errors import DataError
from amalgam.files import read_rows, write_json, write_jsonl
from amalgam.llm.journal import open_journal
from amalgam.params import load_params
from amalgam.synthesis.grading import build_grading_requests
from amalgam.tasks.schema import load_task
from tests.pipeline.server import StubServer
from tests.pipeline.toy import LABELS, write_task

TOP = Path(__file__).parents[2]
ROWS, GRADED = 15, 6  # a label
SETTINGS: dict[str, Any] = {
    "human_rows": 24,
    "split.test": 40,
    "llm.model": "stub",
    "prompts.shots": 2,
    "synthesis.rows": ROWS,
    "judge.rows": GRADED,
}


@pytest.fixture
def project(tmp_path: Path, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy task beside another one, in a fresh project at the stub endpoint, as the current folder."""
    Repo.init(str(tmp_path), no_scm=True).close()
    for name in ("data/templates", "data/prices.yaml"):
        copy = shutil.copytree if (TOP / name).is_dir() else shutil.copy
        copy(TOP / name, tmp_path / name)
    write_task(tmp_path / "data/tasks/toy")
    change_params(tmp_path, TOP / "params.yaml", **{"llm.endpoint": server.url, **SETTINGS})
    write_json(tmp_path / "models/base/llm/identity.json", {"model": "stub"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change_params(folder: Path, source: Path, **values: Any) -> None:
    params = yaml.safe_load(source.read_text())
    for key, value in values.items():
        *sections, name = key.split(".")
        (params[sections[0]] if sections else params)[name] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def preview(capsys: pytest.CaptureFixture[str], rows: int | None = 3, name: str | None = "toy") -> dict[str, Any]:
    capsys.readouterr()
    run_preview(Path(), name, rows, as_json=True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def run_stages(project: Path, *stages: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(TOP / "src")}
    for stage in stages:
        subprocess.run([sys.executable, TOP / f"stages/{stage}.py"], cwd=project, env=environment, check=True)


def test_its_requests_are_the_first_of_the_run_which_pays_for_the_rest(
    project: Path, server: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.spoilt = {1: "length", 5: "length", 7: "refusal", 11: "length"}  # of fifteen; the preview sees three
    found = preview(capsys)
    assert (server.log.synthesis, server.log.grading, found["sent"]) == (6, 4, 10)
    assert [(row["label"], row["fault"]) for row in found["rows"]] == [
        (label, fault) for fault in ("", "cut_off", "") for label in LABELS
    ]
    assert all(row["judged"] in LABELS for row in found["rows"] if not row["fault"])
    assert preview(capsys)["sent"] == 0
    change_params(project, project / "params.yaml", task="toy")
    run_stages(project, "prepare", "prompts", "synthesize", "judge")
    assert (server.log.synthesis, server.log.grading) == (2 * (ROWS + 4), 2 * GRADED)
    assert server.log.answered_twice == 0
    with (project / "data/prompts.jsonl").open() as stream:
        first = [json.loads(next(stream)) for _ in LABELS]
    assert [prompt["messages"] for prompt in found["prompts"][:2]] == [line["messages"] for line in first]
    # What was foretold of the tokens.
    with open_journal(project / ".cache/journal.sqlite") as journal:
        (model,) = journal.summarise()
    assert found["whole_run"]["tokens"] == pytest.approx(model.prompt_tokens + model.completion_tokens, rel=0.1)
    whole = preview(capsys)["whole_run"]
    assert whole["tokens"] == model.prompt_tokens + model.completion_tokens
    assert [stage["to_send"] for stage in whole["stages"]] == [0, 0]


def test_it_takes_a_minute_unless_it_is_said_how_many(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amalgam.cli.preview._PATIENCE", 0.0)
    found = preview(capsys, None)
    assert (len(found["rows"]), found["sent"], found["cut_short"]) == (2, 4, True)
    monkeypatch.setattr("amalgam.cli.preview._PATIENCE", 45.0)
    found = preview(capsys, None)
    assert (len(found["rows"]), found["sent"], found["cut_short"]) == (10, 16, False)


def test_the_terminal_shows_prompts_rows_cost_and_time(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"llm.model": "gpt-4o-mini", "llm.batch": True, "baselines.llm_grader": True}
    change_params(project, project / "params.yaml", **values)
    run_preview(Path(), "toy", 2, as_json=False)
    shown = capsys.readouterr().out
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
    project: Path, server: StubServer, capsys: pytest.CaptureFixture[str], *, allowed: bool
) -> None:
    folder = project / "data/tasks/toy"
    lines = (folder / "responses.csv").read_text().splitlines()
    lines = [line.replace(".", " (ann@example.org).", 1) if place % 3 else line for place, line in enumerate(lines)]
    (folder / "responses.csv").write_text("\n".join(lines))
    with (folder / "task.yaml").open("a") as stream:
        stream.write(f"send_personal: {str(allowed).lower()}\n")
    preview(capsys, rows=ROWS)
    sent = [request for request in server.log.answered if "ann@example.org" in request.text]
    assert bool(sent) == allowed
    change_params(project, project / "params.yaml", **{"baselines.llm_grader": True})
    preview(capsys)  # the endpoint is on this machine
    change_params(project, project / "params.yaml", **{"llm.endpoint": "https://llm.example.org/v1"})
    words = r"test rows hold personal data .* sent to https://llm\.example\.org/v1: .*`send_personal: true`"
    if not allowed:
        with pytest.raises(DataError, match=words):
            preview(capsys)


def test_the_next_run_is_estimated_without_sending(
    project: Path, server: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"llm.model": "gpt-4o-mini", "baselines.llm_grader": True}
    change_params(project, project / "params.yaml", task="toy", **values)
    stage = "stages:\n  baselines:\n    cmd: none\n    deps: [data/prepared]\n    outs: [data/baselines]\n"
    (project / "dvc.yaml").write_text(stage)
    (project / "data/prepared").mkdir()
    for name in ("train", "test"):
        lines = ["id,text,question,label", *(f"{number},a comment,,praise" for number in range(3))]
        (project / f"data/prepared/{name}.csv").write_text("\n".join(lines) + "\n")
    capsys.readouterr()
    run_estimate(Path(), as_json=True)
    found = json.loads(capsys.readouterr().out)
    (baselines,) = found["stages"]
    counts = {"stage": "baselines", "requests": 1, "answered": 0, "to_send": 1, "at_most": False}
    assert baselines.items() >= counts.items()
    assert 0 < found["batch_usd"] < found["live_usd"] < 0.001
    findings = examine_project(Path())
    assert (findings["requests"], findings["problems"]) == ([counts], [])
    # What DVC shares is taken in first.
    task, test = load_task(Path("data/tasks/toy")), read_rows(Path("data/prepared/test.csv"))
    request = build_grading_requests(task, test, test, "gpt-4o-mini", load_params(Path("params.yaml")).judge)[0]
    answer = {"text": "praise", "finish_reason": "stop", "prompt_tokens": 50, "completion_tokens": 7}
    write_jsonl(project / "answers/00000.jsonl", [{"key": request.key, **answer}])
    with Repo() as repo:
        repo.add("answers")
    assert examine_project(Path())["requests"] == [counts | {"answered": 1, "to_send": 0}]
    assert not server.log.answered


def test_tasks_are_listed_with_what_is_known_of_them(
    project: Path, server: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = project / "data/tasks/lost"
    write_task(lost)
    (lost / "responses.csv").unlink()
    (lost / "task.yaml").write_text((lost / "task.yaml").read_text().replace("name: toy", "name: lost"))
    capsys.readouterr()
    run_tasks(project, as_json=True)
    said = capsys.readouterr()
    kept = {"labels": list(LABELS), "licence": "CC0-1.0", "student_auc": None}
    assert json.loads(said.out) == [{"name": "lost", "rows": None, **kept}, {"name": "toy", "rows": 160, **kept}]
    assert "lost: " in said.err
    run_tasks(project, as_json=False)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["toy", "160", "-", "complaint,", "praise", "CC0-1.0"]
    with pytest.raises(DataError, match=r"responses\.csv is missing: write the file"):
        run_preview(project, "lost", 3, as_json=True)  # which fails with the sentence of the run
    assert not server.log.answered
