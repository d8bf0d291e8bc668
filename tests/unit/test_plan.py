"""What `dvc repro` would send; which stages it would run is tested with a whole project."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from amalgam.cli.plan import Plan, Sending
from amalgam.files import write_json, write_jsonl
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.request import Answer, Request
from amalgam.params import Params, load_params
from amalgam.rows import write_rows
from amalgam.synthesis import asking
from amalgam.synthesis.asking import Rounds, write_completions
from amalgam.synthesis.grading import build_grading_requests
from amalgam.synthesis.prompts import build_prompts
from amalgam.synthesis.templates import load_template
from amalgam.tasks.schema import FileSource, Task

ROWS = 4  # samples a label
TOP = Path(__file__).parents[2]
FINE = Answer("it was fine", "stop", 50, 7)
CUT_OFF = Answer("it was", "length", 50, 64)


def change(params: Params, section: str, **values: Any) -> Params:
    return params.model_copy(update={section: getattr(params, section).model_copy(update=values)})


@pytest.fixture(scope="module")
def params() -> Params:
    params = load_params(TOP / "params.yaml").model_copy(update={"task": "toy"})
    return change(change(params, "synthesis", rows=ROWS), "baselines", llm_grader=True)


class Project:
    """The files of a project that the plan reads, after the stages before `synthesize` ran."""

    def __init__(self, folder: Path, task: Task, params: Params, journal: Journal) -> None:
        self.folder, self.task, self.params, self.journal = folder, task, params, journal
        self.train = self.make_rows("train", 8)
        self.test = self.make_rows("test", 3)
        self.prompts = self.build_prompts(params)
        self.requests = self.build_requests(0)
        (folder / "data/templates").mkdir(parents=True)
        (folder / "data/templates/chat.j2").write_bytes((TOP / "data/templates/chat.j2").read_bytes())
        write_json(folder / "models/base/llm/identity.json", {"model": "sha256:00"})
        write_rows(folder / "data/prepared/train.csv", self.train)
        write_rows(folder / "data/prepared/test.csv", self.test)
        write_jsonl(folder / "data/prompts.jsonl", self.prompts)

    def build_prompts(self, params: Params) -> list[dict[str, Any]]:
        template = load_template("chat", [TOP / "data/templates"])
        return list(build_prompts(self.task, self.train, template, params.prompts, params.synthesis.rows))

    def build_requests(self, attempt: int, prompts: list[dict[str, Any]] | None = None) -> list[Request]:
        asked = self.prompts if prompts is None else prompts
        rounds = Rounds(asked, "sha256:00", self.params.synthesis)
        return [rounds.build_request(slot, attempt) for slot in range(len(asked))]

    def make_rows(self, name: str, count: int) -> pd.DataFrame:
        rows = [
            {"id": f"{name}-{label}-{number}", "text": f"{name} {label} {number}", "question": "", "label": label}
            for number in range(count)
            for label in self.task.label_names
        ]
        return pd.DataFrame(rows)

    def build_grading(self, rows: pd.DataFrame) -> list[Request]:
        return build_grading_requests(self.task, rows, self.train, "sha256:00", self.params.judge)

    def write_completions(self, answers: list[Answer]) -> None:
        """Write the answers to the first requests, as `synthesize` does."""
        rounds = Rounds(self.prompts[: len(answers)], "sha256:00", self.params.synthesis)
        rounds.add_answers(answers)
        write_completions(self.folder / "data/completions", rounds)

    def answer(self, requests: list[Request], answer: Answer = FINE) -> None:
        self.journal.record([(request, answer) for request in requests])

    def plan(self, *stages: str, params: Params | None = None, seed: Any = lambda: 0) -> list[Sending]:
        return Plan(self.folder, params or self.params, self.task, list(stages), self.journal).count_requests(seed)

    def count(self, *stages: str, params: Params | None = None) -> list[tuple[str, int, int, bool]]:
        plan = self.plan(*stages, params=params)
        return [(sending.stage, sending.needed, sending.unanswered, sending.exact) for sending in plan]


@pytest.fixture
def project(tmp_path: Path, task: Task, params: Params) -> Iterator[Project]:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        yield Project(tmp_path, task, params, journal)


def test_only_what_has_no_answer_is_counted(project: Project) -> None:
    assert project.plan() == project.plan("mix", "teacher", "report") == []
    assert project.count("synthesize") == [("synthesize", 12, 12, True)]
    project.answer(project.requests[:5])
    assert project.count("synthesize") == [("synthesize", 12, 7, True)]
    project.answer(project.requests)
    assert project.count("synthesize") == [("synthesize", 12, 0, True)]


def test_tokens_are_those_of_what_is_missing(project: Project) -> None:
    (sending,) = project.plan("synthesize")
    letters = sum(len(message["content"]) for request in project.requests for message in request.body["messages"])
    assert sending.prompt_tokens == pytest.approx(letters / 4, rel=0.02)
    assert (sending.completion_tokens, sending.most_completion_tokens) == (12 * 64, 12 * 64)
    assert not sending.measured


def test_earlier_answers_say_how_long_the_others_will_be(project: Project) -> None:
    project.write_completions([Answer("x", "stop", 1, 20), Answer("y", "stop", 1, 30)])
    (sending,) = project.plan("synthesize")
    assert (sending.completion_tokens, sending.measured) == (12 * 25, True)
    write_json(project.folder / "data/baselines/summary.json", {"llm_grader": {"requests": 2, "completion_tokens": 22}})
    write_json(project.folder / "data/judgements/summary.json", {"rows": 4, "completion_tokens": 1000})
    judge, baselines = project.plan("judge", "baselines")
    assert (baselines.completion_tokens, baselines.measured) == (9 * 11, True)
    assert judge.completion_tokens == judge.most_completion_tokens == 2 * 40
    project.answer(project.requests[:3])
    project.answer(project.requests[3:4], Answer("a long one", "stop", 50, 27))
    (sending,) = project.plan("synthesize")
    assert (sending.completion_tokens, sending.most_completion_tokens) == (8 * (3 * 7 + 27) / 4, 8 * 64)


def test_more_samples_send_the_new_ones_alone(project: Project) -> None:
    project.answer(project.requests)
    params = change(project.params, "synthesis", rows=ROWS + 2)
    assert project.count("prompts", "synthesize", "judge", params=params) == [
        ("synthesize", 18, 6, True),
        ("judge", 18, 18, False),
    ]


def test_an_answer_of_no_use_is_asked_again_when_all_are_there(project: Project) -> None:
    project.answer(project.requests[1:2], CUT_OFF)
    project.answer(project.requests[2:])
    assert project.count("synthesize") == [("synthesize", 12, 1, True)]  # what the first may bring is not known
    project.answer(project.requests[:1])
    assert project.count("synthesize") == [("synthesize", 13, 1, True)]
    again = [project.build_requests(attempt, project.prompts[1:2]) for attempt in (1, 2)]
    project.answer(again[0], CUT_OFF)
    assert project.count("synthesize") == [("synthesize", 14, 1, True)]
    project.answer(again[1])
    assert project.count("synthesize") == [("synthesize", 14, 0, True)]


def test_the_attempts_come_to_an_end(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ATTEMPTS", 2)
    project.answer(project.requests, CUT_OFF)
    for attempt in (1, 2):
        project.answer(project.build_requests(attempt), CUT_OFF)
    assert project.count("synthesize") == [("synthesize", 36, 0, True)]


def test_what_dvc_shares_is_taken_in_first_if_anything_is_missing(project: Project) -> None:
    calls = []

    def seed() -> int:
        calls.append("seed")
        return project.journal.seed({"key": request.key, **asdict(FINE)} for request in project.requests[:8])

    assert project.plan("synthesize", seed=seed)[0].unanswered == 4
    project.answer(project.requests)
    assert project.plan("synthesize", seed=seed)[0].unanswered == 0
    assert calls == ["seed"]


def test_what_is_not_known_yet_is_counted_at_most(project: Project) -> None:
    project.answer(project.requests)
    plan = project.count("models", "prepare", "prompts", "synthesize", "judge", "baselines")
    tested = project.params.split.test
    assert plan == [("synthesize", 12, 12, False), ("judge", 12, 12, False), ("baselines", tested, tested, False)]


def test_its_tokens_are_guessed_by_what_is_like_it(project: Project) -> None:
    synthesis, judge = project.plan("prepare", "prompts", "synthesize", "judge")
    known = project.plan("synthesize")[0]
    assert (synthesis.prompt_tokens, synthesis.completion_tokens) == (known.prompt_tokens, known.completion_tokens)
    (graded,) = project.build_grading(pd.DataFrame([{"id": "x", "text": "x" * 256, "question": ""}]))
    letters = sum(len(message["content"]) for message in graded.body["messages"])
    assert judge.prompt_tokens == pytest.approx(12 * letters / 4, abs=1)
    assert (judge.completion_tokens, judge.measured) == (12 * 40, False)


def test_where_nothing_is_like_it_nothing_is_said(project: Project) -> None:
    (project.folder / "data/prepared/train.csv").unlink()
    for sending in project.plan("prepare", "prompts", "synthesize", "judge", "baselines"):
        assert sending.prompt_tokens is sending.completion_tokens is sending.most_completion_tokens is None


def test_at_an_endpoint_the_name_of_the_model_is_enough(project: Project) -> None:
    remote = change(project.params, "llm", endpoint="http://127.0.0.1:9/v1", model="sha256:00")
    project.answer(project.requests[:5])
    (project.folder / "models/base/llm/identity.json").unlink()
    assert project.count("models", "synthesize", params=remote) == [("synthesize", 12, 7, True)]
    assert project.count("models", "synthesize") == [("synthesize", 12, 12, False)]


def test_the_judge_grades_what_holds_a_response(project: Project) -> None:
    project.write_completions([*(Answer(f"answer {number}", "stop", 1, 1) for number in range(11)), CUT_OFF])
    assert project.count("judge") == [("judge", 11, 11, True)]


def test_the_judge_grades_the_first_rows_unless_it_decides(project: Project) -> None:
    few = change(project.params, "judge", rows=2)
    everything = change(few, "curation", consistency="judge")
    project.write_completions([Answer(f"answer {number}", "stop", 1, 1) for number in range(12)])
    for params, count in ((few, 6), (everything, 12)):
        assert project.count("judge", params=params) == [("judge", count, count, True)]
        assert project.count("synthesize", "judge", params=params)[1] == ("judge", count, count, False)
    assert project.count("judge", params=change(project.params, "judge", rows=0)) == []


def test_several_responses_an_answer_need_fewer_requests(project: Project) -> None:
    params = change(change(project.params, "prompts", responses=3, format="json"), "judge", rows=100)
    counted = project.count("prompts", "synthesize", "judge", params=params)
    assert counted == [("synthesize", 6, 6, True), ("judge", 18, 18, False)]


def test_the_baselines_grade_the_test_rows_if_they_are_to(project: Project) -> None:
    project.answer(project.build_grading(project.test)[:4])
    assert project.count("baselines") == [("baselines", 9, 5, True)]
    write_rows(project.folder / "data/prepared/transfer_test.csv", project.make_rows("transfer", 2))
    assert project.count("baselines") == [("baselines", 15, 11, True)]
    tested = project.params.split.test + 6
    assert project.count("models", "baselines") == [("baselines", tested, tested, False)]
    assert project.count("baselines", params=change(project.params, "baselines", llm_grader=False)) == []


def test_a_transfer_test_that_is_not_made_yet_is_counted_in_its_source(project: Project) -> None:
    lines = [f"r{number},text {number},{label},{part}" for number, (label, part) in enumerate(_CODED)]
    folder = project.folder / "data/tasks/toy"
    folder.mkdir(parents=True)
    columns = {"set": "part"}
    source = {"kind": "file", "files": ["rows.csv"], "obtain": "write it"}
    task = {**project.task.model_dump(exclude={"columns", "source"}), "columns": columns, "source": source}
    project.task = Task.model_validate(task)
    assert isinstance(project.task.source, FileSource)
    tested = project.params.split.test
    assert project.count("prepare", "baselines") == [("baselines", tested, tested, False)]  # its file is not there
    (folder / "rows.csv").write_text("\n".join(["id,text,label,part", *lines]), encoding="utf-8")
    assert project.count("prepare", "baselines") == [("baselines", tested + 2, tested + 2, False)]


_CODED = [(label, "main") for label in ("bad", "good", "mixed_view") * 2]
_CODED += [("bad", "transfer_test"), ("good", "transfer_test")]
