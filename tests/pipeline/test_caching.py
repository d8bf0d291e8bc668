"""Nothing runs twice, and nothing is paid twice."""

import json
import re
import shutil

from amalgam.report.phrases import flatten
from amalgam.tasks.schema import load_task
from tests.pipeline.project import AFTER_RATIO, HUMAN_ROWS, KEY, ROWS, STAGES, TEST, Project, Run
from tests.pipeline.server import Log, StubServer

SUMMARY = "metrics/summary.json"


def list_changes(project: Project) -> str:
    """Say what Git sees as changed: params.yaml, dvc.lock and the metrics among it."""
    return project.run("git", "status", "--porcelain").output


def test_the_first_run_runs_every_stage_and_asks_each_question_once(first_run: tuple[Project, Run, Log]) -> None:
    _, run, log = first_run
    assert sorted(run.ran) == sorted(STAGES)
    assert log.synthesis == 2 * ROWS
    assert log.grading == 2 * ROWS + TEST
    assert not log.failed
    assert "warn" not in run.output.lower()
    assert {request.authorization for request in log.answered} == {f"Bearer {KEY}"}


def test_the_second_run_runs_nothing_nor_does_another_speed_of_asking(project: Project, server: StubServer) -> None:
    assert not (run := project.repro()).ran + run.restored
    assert not list_changes(project)
    project.set_params(llm__concurrency=3, llm__timeout=5.0, llm__retries=1, llm__requests_per_minute=60)
    project.set_params(llm__budget_usd=1.0, llm__max_requests=1, llm__batch=True, llm__offline=True, llm__slots=2)
    assert not (run := project.repro()).ran + run.restored
    assert not server.log.answered


def test_a_ratio_runs_what_follows_the_mix_and_is_restored_later(project: Project, server: StubServer) -> None:
    run = project.run("dvc", "exp", "run", "--set-param", "ratio=0")
    assert (run.code, sorted(run.ran), run.restored) == (0, sorted(AFTER_RATIO), []), run.output
    assert re.search(r"^ratio: 0 +# synthetic share", (project.folder / "params.yaml").read_text(), re.MULTILINE)
    for form in ((), ("--md",)):
        differences = project.do("dvc", "metrics", "diff", *form).output
        assert re.search(r"metrics/summary\.json[ |]+student\.auc ", differences), differences
        lines = differences.strip().splitlines()
        assert len(lines) <= 40, differences
        assert max(map(len, lines)) <= 100, differences
    words = set(re.findall(r"\w+", " ".join(flatten(json.loads((project.folder / SUMMARY).read_text())))))
    assert not words & {"toy", *load_task(project.folder / "data/tasks/toy").label_names}
    project.set_params(ratio=0.8)
    run = project.repro()
    assert (run.ran, sorted(run.restored)) == ([], sorted(AFTER_RATIO))
    assert not list_changes(project)
    project.set_params(ratio=0)
    run = project.repro()
    assert (run.ran, sorted(run.restored)) == ([], sorted(AFTER_RATIO))
    assert not server.log.answered


def test_a_temperature_asks_anew_and_is_restored_later(project: Project, server: StubServer) -> None:
    project.set_params(synthesis__temperature=0.3)
    run = project.repro("mix")
    assert (run.ran, run.restored) == (["synthesize", "judge", "curate", "mix"], [])
    assert (server.log.synthesis, server.log.grading) == (2 * ROWS, 2 * ROWS)
    server.reset()
    project.set_params(synthesis__temperature=0.7)
    run = project.repro()
    assert (run.ran, run.restored) == ([], ["synthesize", "judge", "curate", "mix"])
    assert not server.log.answered
    assert not list_changes(project)


def test_more_rows_ask_only_for_what_is_missing(project: Project, server: StubServer) -> None:
    project.set_params(synthesis__rows=ROWS + 3)
    run = project.repro("judge")
    assert run.ran == ["prompts", "synthesize", "judge"]
    assert (server.log.synthesis, server.log.grading) == (2 * 3, 2 * 3)


def test_more_human_rows_change_neither_test_rows_nor_requests(project: Project, server: StubServer) -> None:
    project.set_params(human_rows=HUMAN_ROWS + 20)  # more than the shots are drawn from
    project.repro("judge")
    server.reset()
    project.set_params(human_rows=HUMAN_ROWS + 30)
    with project.keep("data/prepared/test.csv", "data/prompts.jsonl", "data/completions", "data/judgements"):
        run = project.repro("judge")
    assert run.ran == ["prepare", "prompts", "judge"]
    assert not server.log.answered


def test_the_journal_alone_answers_everything(project: Project, server: StubServer) -> None:
    shutil.rmtree(project.folder / ".dvc/cache")
    ours = ("tasks", "templates", "prices.yaml", ".gitignore")
    for path in (project.folder / "data").iterdir():
        if path.name not in ours:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run = project.repro("judge")
    assert sorted(run.ran) == ["judge", "models", "prepare", "prompts", "synthesize"]
    assert not server.log.answered
