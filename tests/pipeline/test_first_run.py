"""What one run of the whole pipeline does, what it leaves behind, and that the next one has nothing to do."""

from pathlib import Path

from amalgam.machine import choose_device, choose_dtype
from tests.pipeline.project import KEY, ROWS, STAGES, TEST, Project, Run, read_git_objects
from tests.pipeline.server import Log, StubServer

SCRATCH = ("__pycache__", ".dvc/tmp")  # what Python and DVC keep only for this machine


def test_every_stage_runs_and_each_question_is_asked_once(first_run: tuple[Project, Run, Log]) -> None:
    _, run, log = first_run
    assert sorted(run.ran) == sorted(STAGES)
    assert (log.synthesis, log.grading, len(log.failed)) == (2 * ROWS, 2 * ROWS + TEST, 0)
    assert "warn" not in run.output.lower()
    assert ("`quality: fast` takes a third" in run.output) == ("float32" in str(choose_dtype(choose_device())))
    assert {request.authorization for request in log.answered} == {f"Bearer {KEY}"}


def test_no_file_tells_the_key_or_a_path_of_this_machine(first_run: tuple[Project, Run, Log]) -> None:
    project, run, _ = first_run
    assert KEY not in run.output
    files = {str(file.relative_to(project.folder)): file for file in project.folder.rglob("*") if file.is_file()}
    contents = {name: file.read_bytes() for name, file in files.items()} | {"Git": read_git_objects(project.folder)}
    assert len(contents) > 100
    for secret in (KEY, str(project.folder.parent), f"{Path.home()}/"):
        told = [name for name, content in contents.items() if secret.encode() in content]
        assert not [name for name in told if secret == KEY or not any(part in name for part in SCRATCH)], secret


def test_the_second_run_runs_nothing_nor_does_another_speed_of_asking(project: Project, server: StubServer) -> None:
    assert not (run := project.repro()).ran + run.restored
    assert not project.list_changes()
    project.set_params(llm__concurrency=3, llm__timeout=5.0, llm__retries=1, llm__requests_per_minute=60)
    project.set_params(llm__budget_usd=1.0, llm__max_requests=1, llm__batch=True, llm__offline=True, llm__slots=2)
    assert not (run := project.repro()).ran + run.restored
    assert not server.log.answered
