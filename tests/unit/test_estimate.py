"""`amalgam estimate` by value, and once in a real DVC project."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from dvc.repo import Repo  # here, since it keeps the stdout that it is first imported with

from amalgam.cli.doctor import examine_project
from amalgam.cli.estimate import Estimator, StageEstimate, price_stages, print_estimate, run_estimate
from amalgam.files import write_json, write_jsonl
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.prices import Prices
from amalgam.llm.request import Answer, Request
from amalgam.params import Params, load_params
from amalgam.rows import read_rows, write_rows
from amalgam.synthesis.asking import Rounds, write_completions
from amalgam.synthesis.grading import build_grading_requests
from amalgam.synthesis.prompts import build_prompts
from amalgam.synthesis.templates import load_template
from amalgam.tasks.schema import Task, load_task
from tests.pipeline.toy import write_task

ROWS = 4  # samples a label
TOP = Path(__file__).parents[2]
FINE = Answer("it was fine", "stop", 50, 7)
CUT_OFF = Answer("it was", "length", 50, 64)
PRICES = Prices.model_validate(
    {"date": "2026-10-09", "source": "x", "batch": 0.5, "models": {"m": {"prompt": 1, "completion": 10}}}
)
WRITE = StageEstimate("synthesize", 100, 20, 80, False, 8000, 2000, 4000, True)  # 0.028 USD, at most 0.048
GRADE = StageEstimate("judge", 90, 0, 90, True, 9000, 3600, 3600)  # 0.045 USD
UNKNOWN = StageEstimate("judge", 90, 0, 90, True)
ANSWERED = StageEstimate("synthesize", 100, 100, 0, False, 0, 0, 0)


@pytest.fixture(scope="module")
def params() -> Params:
    params = load_params(TOP / "params.yaml").model_copy(update={"task": "toy"})
    return change(change(params, "synthesis", rows=ROWS), "baselines", llm_grader=True)


def change(params: Params, section: str, **values: Any) -> Params:
    return params.model_copy(update={section: getattr(params, section).model_copy(update=values)})


def price(
    params: Params, *stages: StageEstimate, spent: float = 0.0, in_batches: int = 0, **llm: Any
) -> dict[str, Any]:
    values = {"endpoint": "https://api.openai.com/v1", "model": "m"} | llm
    changed = params.llm.model_copy(update=values)
    return price_stages(changed, list(stages), PRICES, spent, in_batches)


def test_each_stage_has_its_price(params: Params) -> None:
    found = price(params, WRITE, GRADE)
    write, grade = found["stages"]
    assert (write["live_usd"], write["batch_usd"]) == (pytest.approx(0.028), pytest.approx(0.014))
    assert (found["live_usd"], found["batch_usd"]) == (pytest.approx(0.073), pytest.approx(0.0365))
    assert (grade["live_usd"], found["prices_of"], found["left_usd"]) == (pytest.approx(0.045), "2026-10-09", None)
    assert found["notices"] == []
    embedded = price(params, WRITE, endpoint="embedded", budget_usd=0.0)
    assert (embedded["live_usd"], embedded["prices_of"], embedded["notices"]) == (0.0, None, [])


NO_PRICE = "no price is known of new: add it to data/prices.yaml"
SPENT = "the run before it is done: it needs about"
SAID = [
    ({"model": "new"}, WRITE, NO_PRICE),
    ({"model": "new", "budget_usd": 5.0}, WRITE, f"{NO_PRICE}; until then, `llm.budget_usd` lets nothing be sent"),
    ({"budget_usd": 9.0}, UNKNOWN, "nothing is known yet of the length of the requests of `judge`"),
    ({"max_requests": 85}, GRADE, "`llm.max_requests: 85` may stop `judge`, once so many are sent"),
    ({"max_requests": 80}, WRITE, None),
    (
        {"max_requests": 79, "batch": True},
        WRITE,
        "`llm.max_requests: 79` stops `synthesize`, before a batch that passes it",
    ),
    ({"offline": True}, WRITE, "`llm.offline` is true: the run fails rather than send a request"),
    (
        {"endpoint": "embedded", "batch": True},
        WRITE,
        "`llm.batch` is true, but the embedded LLM has no Batch API: the run fails",
    ),
    ({"offline": True, "max_requests": 0, "budget_usd": 0.0, "model": "new"}, ANSWERED, None),
    ({"budget_usd": 0.049}, WRITE, None),
    (
        {"budget_usd": 0.047},
        WRITE,
        f"`llm.budget_usd: 0.047` may stop {SPENT} 0.0280 USD, at most 0.0480, and 0.0470 are left",
    ),
    (
        {"budget_usd": 0.02},
        WRITE,
        f"`llm.budget_usd: 0.02` stops {SPENT} 0.0280 USD, at most 0.0480, and 0.0200 are left",
    ),
    # A batch is bounded by the bytes of its requests: (32000 + 40000) / 2 millionths.
    ({"budget_usd": 0.0361, "batch": True}, WRITE, None),
    (
        {"budget_usd": 0.035, "batch": True},
        WRITE,
        f"`llm.budget_usd: 0.035` may stop {SPENT} 0.0140 USD, at most 0.0360, and 0.0350 are left",
    ),
]


@pytest.mark.parametrize(("llm", "stage", "notice"), SAID)
def test_what_would_stop_the_run_is_said(
    llm: dict[str, Any], stage: StageEstimate, notice: str | None, params: Params
) -> None:
    assert price(params, stage, **llm)["notices"] == ([notice] if notice else [])


def test_the_text_says_it_all(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    found = price(params, WRITE, GRADE, spent=0.25, in_batches=7, budget_usd=1.0, offline=True)
    print_estimate(found, batch=False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "m at https://api.openai.com/v1"
    assert lines[2:5] == [
        "synthesize 20 80 ~8000 ~2000 0.0280 0.0140",
        "judge 0 max 90 ~9000 max 3600 0.0450 0.0225",
        "all 0.0730 0.0365",
    ]
    assert lines[5:] == [
        "prices of 2026-10-09, from data/prices.yaml",
        "0.2500 USD spent from this clone so far, `llm.budget_usd` leaves 0.7500",
        "answers of no use are asked for again, up to 10 times; that comes on top",
        "7 requests are in batches, which the next run collects; `llm.batch: true` is needed for that",
        "note: `llm.offline` is true: the run fails rather than send a request",
    ]
    print_estimate(price(params, WRITE, endpoint="embedded"), batch=False)
    assert "USD" not in capsys.readouterr().out
    print_estimate(price(params), batch=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "the next `dvc repro` sends nothing",
        "prices of 2026-10-09, from data/prices.yaml",
    ]


def test_a_project_is_estimated_without_sending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Repo.init(str(tmp_path), no_scm=True).close()
    values = yaml.safe_load((TOP / "params.yaml").read_text())
    values["task"] = "toy"
    values["baselines"]["llm_grader"] = True
    values["llm"] |= {"endpoint": "http://127.0.0.1:9/v1", "model": "gpt-4o-mini"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  baselines:\n    cmd: none\n    deps: [data/prepared]\n    outs: [data/baselines]\n"
    )
    write_task(tmp_path / "data/tasks/toy")
    (tmp_path / "data/prices.yaml").write_bytes((TOP / "data/prices.yaml").read_bytes())
    prepared = tmp_path / "data/prepared"
    prepared.mkdir()
    rows = "id,text,question,label\n" + "".join(f"{number},a comment,,praise\n" for number in range(3))
    for name in ("train", "test"):
        (prepared / f"{name}.csv").write_text(rows)
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    run_estimate(Path(), as_json=True)
    found = json.loads(capsys.readouterr().out)
    (stage,) = found["stages"]
    assert (stage["stage"], stage["requests"], stage["to_send"], stage["at_most"]) == ("baselines", 1, 1, False)
    assert 0 < found["batch_usd"] < found["live_usd"] < 0.001
    assert found["spent_usd"] == 0.0
    findings = examine_project(Path())
    counts = {"requests": 1, "answered": 0, "to_send": 1, "at_most": False}
    assert findings["requests"] == [{"stage": "baselines", **counts}]
    assert findings["problems"] == []
    with open_journal(tmp_path / ".cache/journal.sqlite") as journal:
        assert journal.summarise() == []
    # What DVC shares is taken in first.
    params = load_params(Path("params.yaml"))
    test = read_rows(prepared / "test.csv")
    (request, *_) = build_grading_requests(load_task(Path("data/tasks/toy")), test, test, "gpt-4o-mini", params.judge)
    write_jsonl(tmp_path / "answers/00000.jsonl", [{"key": request.key, **asdict(FINE)}])
    with Repo() as repo:
        repo.add("answers")
    assert examine_project(Path())["requests"] == [{"stage": "baselines", **counts, "answered": 1, "to_send": 0}]


class Project:
    """The files of a project that the plan reads, after the stages before `synthesize` ran."""

    def __init__(self, folder: Path, task: Task, params: Params, journal: Journal) -> None:
        self.folder, self.task, self.params, self.journal = folder, task, params, journal
        self.train = self.make_rows("train", 8)
        self.test = self.make_rows("test", 3)
        template = load_template("chat", [TOP / "data/templates"])
        self.prompts = [*build_prompts(task, self.train, template, params.prompts, params.synthesis.rows)]
        self.requests = self.build_requests(0)
        (folder / "data/templates").mkdir(parents=True)
        (folder / "data/templates/chat.j2").write_bytes((TOP / "data/templates/chat.j2").read_bytes())
        write_json(folder / "models/base/llm/identity.json", {"model": "sha256:00"})
        write_rows(folder / "data/prepared/train.csv", self.train)
        write_rows(folder / "data/prepared/test.csv", self.test)
        write_jsonl(folder / "data/prompts.jsonl", self.prompts)

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

    def plan(self, *stages: str, params: Params | None = None) -> list[StageEstimate]:
        return Estimator(self.folder, params or self.params, self.task, list(stages), self.journal).estimate_stages()

    def count(self, *stages: str, params: Params | None = None) -> list[tuple[str, int, int, bool]]:
        plan = self.plan(*stages, params=params)
        assert all(stage.answered == stage.requests - stage.to_send for stage in plan)
        return [(stage.stage, stage.requests, stage.to_send, not stage.at_most) for stage in plan]


@pytest.fixture
def project(tmp_path: Path, task: Task, params: Params) -> Iterator[Project]:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        yield Project(tmp_path, task, params, journal)


def test_only_what_has_no_answer_is_counted(project: Project) -> None:
    assert project.plan("mix", "teacher", "report") == []
    (sending,) = project.plan("synthesize")
    letters = sum(len(message["content"]) for request in project.requests for message in request.body["messages"])
    assert (sending.to_send, sending.prompt_tokens) == (12, pytest.approx(letters / 4, rel=0.02))
    assert sending.completion_tokens == sending.most_completion_tokens == 12 * 64
    assert not sending.measured
    project.answer(project.requests[:5])
    assert project.count("synthesize") == [("synthesize", 12, 7, True)]
    project.answer(project.requests)
    assert project.count("synthesize") == [("synthesize", 12, 0, True)]


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
    assert judge.prompt_tokens == pytest.approx(12 * letters / 4, abs=6)
    assert (judge.completion_tokens, judge.measured) == (12 * 40, False)


def test_where_nothing_is_like_it_nothing_is_said(project: Project) -> None:
    shutil.rmtree(project.folder / "data/prepared")
    for sending in project.plan("prepare", "prompts", "synthesize", "judge", "baselines"):
        assert sending.prompt_tokens is sending.completion_tokens is sending.most_completion_tokens is None


def test_at_an_endpoint_the_name_of_the_model_is_enough(project: Project) -> None:
    remote = change(project.params, "llm", endpoint="http://127.0.0.1:9/v1", model="sha256:00")
    project.answer(project.requests[:5])
    (project.folder / "models/base/llm/identity.json").unlink()
    assert project.count("models", "synthesize", params=remote) == [("synthesize", 12, 7, True)]
    assert project.count("models", "synthesize") == [("synthesize", 12, 12, False)]


def test_the_judge_grades_the_first_rows_unless_it_decides(project: Project) -> None:
    few = change(project.params, "judge", rows=2)
    everything = change(few, "curation", consistency="judge")
    project.write_completions([*(Answer(f"answer {number}", "stop", 1, 1) for number in range(11)), CUT_OFF])
    assert project.count("judge") == [("judge", 11, 11, True)]
    for params, count, known in ((few, 6, 6), (everything, 12, 11)):
        assert project.count("judge", params=params) == [("judge", known, known, True)]
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
    coded = [(label, "main") for label in ("bad", "good", "mixed_view") * 2]
    coded += [("bad", "transfer_test"), ("good", "transfer_test")]
    lines = [f"r{number},text {number},{label},{part}" for number, (label, part) in enumerate(coded)]
    source = {"kind": "file", "files": ["rows.csv"], "obtain": "write it"}
    task = project.task.model_dump(exclude={"columns", "source"}) | {"columns": {"set": "part"}, "source": source}
    project.task = Task.model_validate(task)
    tested = project.params.split.test
    assert project.count("prepare", "baselines") == [("baselines", tested, tested, False)]  # its file is not there
    (project.folder / "data/tasks/toy").mkdir(parents=True)
    (project.folder / "data/tasks/toy/rows.csv").write_text("\n".join(["id,text,label,part", *lines]))
    assert project.count("prepare", "baselines") == [("baselines", tested + 2, tested + 2, False)]


def test_help_needs_no_heavy_library() -> None:
    code = "import sys, amalgam.cli; print({'openai', 'torch', 'pandas', 'dvc'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
