"""What is paid for or trained survives whatever happens to a stage: nothing is lost, nothing is paid for again."""

import random
import shutil
import sys
import time

from amalgam.llm.journal import open_journal
from tests.pipeline.project import ROWS, Project
from tests.pipeline.server import StubServer

KILLS = 12
MORE = 200  # rows a label, so that no run between two kills comes to an end
MODELS = "models/human_only"


def count_answers(project: Project) -> int:
    with open_journal(project.folder / ".cache/journal.sqlite") as journal:
        return sum(model.answers for model in journal.summarise())


def test_a_stage_that_is_killed_again_and_again_pays_each_answer_once(project: Project, server: StubServer) -> None:
    project.set_params(synthesis__rows=MORE, llm__concurrency=4)
    project.repro("prompts")
    before = count_answers(project)
    server.delay = 0.2
    draw = random.Random(3)
    for _ in range(KILLS):
        sent = len(server.log.answered)
        command = [sys.executable, "stages/synthesize.py"]
        project.kill(command, lambda sent=sent: len(server.log.answered) > sent, draw.uniform(0.0, 0.6))
    time.sleep(2 * server.delay)  # until the server is done with what was in flight at the last kill
    known = count_answers(project) - before
    assert KILLS < known < 2 * (MORE - ROWS)
    # Only what was in flight may have been lost: at most four requests a kill.
    assert 0 <= len(server.log.answered) - known <= 4 * KILLS
    server.reset()
    project.repro("synthesize")
    assert server.log.synthesis == 2 * (MORE - ROWS) - known
    assert server.log.answered_twice == 0
    assert count_answers(project) - before == 2 * (MORE - ROWS)


def test_what_is_killed_while_it_trains_is_trained_again(project: Project) -> None:
    project.set_params(seeds=[1], teacher__steps=100)
    shutil.rmtree(project.folder / MODELS)
    training = (project.folder / MODELS).rglob
    assert project.kill(["dvc", "repro", "human_only"], lambda: any(training("*.tsv"))) != 0  # dvclive's curves
    assert not list((project.folder / MODELS).rglob("model.safetensors"))
    assert project.repro("human_only").ran == ["human_only"]
    with project.keep(MODELS, "dvc.lock"):  # what a run without a kill gives
        assert project.repro("--force", "--single-item", "human_only").ran == ["human_only"]


def test_limits_end_a_stage_and_the_next_run_goes_on(project: Project, server: StubServer) -> None:
    project.set_params(synthesis__temperature=0.3, llm__max_requests=30)
    with project.keep("data/completions"):
        run = project.repro("synthesize", fails=True)
    assert server.log.synthesis == 30
    (message,) = run.messages
    assert "`llm.max_requests: 30` is reached" in message
    assert f"30 answers of this run are kept, {2 * ROWS - 30} are left" in message
    project.set_params(llm__max_requests=None, llm__offline=True)
    run = project.repro("synthesize", fails=True)
    assert f"{2 * ROWS - 30} of {2 * ROWS} requests have no answer and `llm.offline` is true" in run.output
    assert server.log.synthesis == 30
    project.set_params(llm__offline=False)
    project.repro("synthesize")
    assert server.log.synthesis == 2 * ROWS
