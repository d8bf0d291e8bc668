"""What `dvc repro` would send; which stages it would run is tested with a whole project."""

from pathlib import Path

import pandas as pd
import pytest

from amalgam.files import write_json, write_jsonl
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request
from amalgam.params import Params, load_params
from amalgam.plan import Sending, plan_requests
from amalgam.rows import write_rows
from amalgam.synthesis.completions import build_requests, write_completions
from amalgam.synthesis.grading import build_grading_requests
from amalgam.synthesis.prompts import build_prompts
from amalgam.tasks.schema import Task

ROWS = 4  # samples a label


@pytest.fixture(scope="module")
def params() -> Params:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    synthesis = params.synthesis.model_copy(update={"rows": ROWS})
    return params.model_copy(update={"synthesis": synthesis})


class Project:
    """The files of a project that the plan reads, after a run with `ROWS` samples a label."""

    def __init__(self, folder: Path, task: Task, params: Params) -> None:
        self.folder, self.task, self.params = folder, task, params
        self.train = self.make_rows("train", 8)
        self.test = self.make_rows("test", 3)
        self.prompts = build_prompts(task, self.train, params.prompts, ROWS)
        self.requests = build_requests(self.prompts, "sha256:00", params.synthesis)
        write_json(folder / "models/base/llm/identity.json", {"model": "sha256:00"})
        write_rows(folder / "data/prepared/train.csv", self.train)
        write_rows(folder / "data/prepared/test.csv", self.test)
        write_jsonl(folder / "data/prompts.jsonl", self.prompts)
        answers = [Answer(f"answer {number}", "stop", 1, 1) for number in range(len(self.requests) - 1)]
        answers.append(Answer("", "error", 0, 0))  # which nobody grades
        write_completions(folder / "data/completions", self.prompts, self.requests, answers)

    def make_rows(self, name: str, count: int) -> pd.DataFrame:
        rows = [
            {"id": f"{name}-{label}-{number}", "text": f"{name} {label} {number}", "question": "", "label": label}
            for number in range(count)
            for label in self.task.label_names
        ]
        return pd.DataFrame(rows)

    def answer(self, requests: list[Request]) -> None:
        with open_journal(self.folder / ".cache/journal.sqlite") as journal:
            for request in requests:
                journal.record(request, Answer("fine", "stop", 1, 1))

    def plan(self, *stages: str, params: Params | None = None) -> list[Sending]:
        return plan_requests(self.folder, params or self.params, self.task, list(stages))


@pytest.fixture
def project(tmp_path: Path, task: Task, params: Params) -> Project:
    return Project(tmp_path, task, params)


def test_stages_that_ask_nobody_send_nothing(project: Project) -> None:
    assert project.plan() == project.plan("mix", "teacher", "report") == []


def test_only_what_has_no_answer_is_counted(project: Project) -> None:
    assert project.plan("synthesize") == [Sending("synthesize", 12, 12, exact=True)]
    project.answer(project.requests[:5])
    assert project.plan("synthesize") == [Sending("synthesize", 12, 7, exact=True)]


def test_more_samples_send_the_new_ones_alone(project: Project) -> None:
    project.answer(project.requests)
    more = project.params.synthesis.model_copy(update={"rows": ROWS + 2})
    params = project.params.model_copy(update={"synthesis": more})
    sendings = project.plan("prompts", "synthesize", "judge", params=params)
    assert sendings == [Sending("synthesize", 18, 6, exact=True), Sending("judge", 18, 18, exact=False)]


def test_what_is_not_known_yet_is_counted_at_most(project: Project) -> None:
    project.answer(project.requests)
    sendings = project.plan("models", "prepare", "prompts", "synthesize", "judge", "baselines")
    assert [(s.stage, s.needed, s.unanswered, s.exact) for s in sendings] == [
        ("synthesize", 12, 12, False),
        ("judge", 12, 12, False),
        ("baselines", project.params.split.test, project.params.split.test, False),
    ]


def test_the_judge_grades_what_holds_a_response(project: Project) -> None:
    assert project.plan("judge") == [Sending("judge", 11, 11, exact=True)]


def test_the_baselines_grade_the_test_rows_if_they_are_to(project: Project) -> None:
    judge = project.params.judge
    project.answer(build_grading_requests(project.task, project.test, project.train, "sha256:00", judge)[:4])
    assert project.plan("baselines") == [Sending("baselines", 9, 5, exact=True)]
    without = project.params.baselines.model_copy(update={"llm_grader": False})
    assert project.plan("baselines", params=project.params.model_copy(update={"baselines": without})) == []
