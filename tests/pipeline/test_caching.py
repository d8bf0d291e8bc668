"""Nothing runs or is paid for twice: what a change runs again, and what comes back from the cache."""

import json
import shutil
from typing import Any

from tests.pipeline.project import AFTER_RATIO, HUMAN_ROWS, ROWS, Project
from tests.pipeline.server import StubServer


def examine(project: Project) -> dict[str, Any]:
    return dict(json.loads(project.do("amalgam", "doctor", "--json").output))


def test_a_temperature_asks_anew_as_the_doctor_said_and_is_restored_later(project: Project, server: StubServer) -> None:
    healthy = examine(project)
    assert (healthy["stages"], healthy["requests"], healthy["problems"]) == ([], [], [])
    project.set_params(synthesis__temperature=0.3)
    changed = examine(project)
    asking = ["synthesize", "judge", "curate"]
    assert changed["stages"] == [*asking, "describe", *AFTER_RATIO[1:]]  # real texts are labelled as before
    assert changed["requests"] == [
        {"stage": stage, "requests": 2 * ROWS, "answered": 0, "to_send": 2 * ROWS, "at_most": at_most}
        for stage, at_most in (("synthesize", False), ("judge", True))
    ]
    assert not server.log.answered
    run = project.repro("mix")
    assert (run.ran, run.restored) == ([*asking, "mix"], [])
    assert (server.log.synthesis, server.log.grading) == (2 * ROWS, 2 * ROWS)
    server.reset()
    project.set_params(synthesis__temperature=0.7)
    run = project.repro()
    assert (run.ran, run.restored) == ([], [*asking, "mix"])
    assert not server.log.answered
    assert not project.list_changes()


def test_more_human_rows_or_a_lost_cache_change_neither_test_rows_nor_requests(
    project: Project, server: StubServer
) -> None:
    project.set_params(human_rows=HUMAN_ROWS + 20)  # more than the shots are drawn from
    project.repro("judge")
    server.reset()
    project.set_params(human_rows=HUMAN_ROWS + 30)
    kept = ("data/prepared/test.csv", "data/prompts.jsonl", "data/completions", "data/judgements")
    with project.keep(*kept):
        assert project.repro("judge").ran == ["prepare", "prompts", "judge"]
        shutil.rmtree(project.folder / ".dvc/cache")
        for path in kept:
            path = project.folder / path
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        # The journal alone answers everything.
        assert sorted(project.repro("judge").ran) == ["judge", "models", "prepare", "prompts", "synthesize"]
    assert not server.log.answered


def test_more_uncoded_texts_train_no_teacher(project: Project, server: StubServer) -> None:
    project.set_params(split__unlabelled=40)
    assert sorted(project.repro("teacher").ran) == ["curate", "label", "prepare"]
    assert not server.log.answered
