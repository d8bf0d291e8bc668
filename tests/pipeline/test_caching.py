"""Nothing runs or is paid for twice: what a change runs again, and what comes back from the cache."""

import json
import re
import shutil
from typing import Any

from amalgam.report.content import flatten
from amalgam.tasks.schema import load_task
from tests.pipeline.project import AFTER_RATIO, HUMAN_ROWS, ROWS, Project
from tests.pipeline.server import StubServer

SUMMARY = "metrics/summary.json"


def examine(project: Project) -> dict[str, Any]:
    return dict(json.loads(project.do("amalgam", "doctor", "--json").output))


def test_a_ratio_runs_what_follows_the_mix_and_is_restored_later(project: Project, server: StubServer) -> None:
    # Without synthetic rows there is nothing to guard: the teacher is the human-only one.
    judged = "models/teacher/out_of_fold.csv"
    with project.keep("models/human_only", judged):
        run = project.do("dvc", "exp", "run", "--set-param", "ratio=0", "--set-param", "teacher.guard=true")
    assert (sorted(run.ran), run.restored) == (sorted(AFTER_RATIO), [])
    assert "guard" not in project.read_json("models/teacher/summary.json")
    assert project.list_members() == ["contrastive", "human_only"]
    assert re.search(r"^ratio: 0 +# synthetic share", (project.folder / "params.yaml").read_text(), re.MULTILINE)
    for form in ((), ("--md",)):
        differences = project.do("dvc", "metrics", "diff", *form).output
        assert re.search(r"metrics/summary\.json[ |]+student\.auc ", differences), differences
        lines = differences.strip().splitlines()
        assert len(lines) <= 40, differences
        assert max(map(len, lines)) <= 100, differences
    words = set(re.findall(r"\w+", " ".join(flatten(project.read_json(SUMMARY)))))
    assert not words & {"toy", *load_task(project.folder / "data/tasks/toy").label_names}
    project.set_params(ratio=0.8, teacher__guard=False)
    run = project.repro()
    assert (run.ran, sorted(run.restored)) == ([], sorted(AFTER_RATIO))
    assert not project.list_changes()
    assert not server.log.answered


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
