"""`amalgam estimate` by value; test_preview.py runs it in a DVC project."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amalgam.cli.estimate import price_stages, print_estimate
from amalgam.cli.forecast import Sources, StageEstimate, estimate_stages, estimate_training, find_identity
from amalgam.files import write_json
from amalgam.llm.journal import Journal
from amalgam.llm.request import Answer, Prices, Request
from amalgam.params import Params, load_params
from amalgam.synthesis.asking import write_completions
from amalgam.synthesis.prompts import build_prompts, load_template
from amalgam.tasks.schema import Task, load_task
from tests.unit.test_prompts import make_train

ROWS = 4  # responses a label
TOP = Path(__file__).parents[2]
FINE = Answer("it was fine", "stop", 50, 7)
CUT_OFF = Answer("it was", "length", 50, 64)
PRICES = Prices.model_validate(
    {"date": "2026-10-09", "source": "x", "batch": 0.5, "models": {"m": {"prompt": 1, "completion": 10}}}
)
WRITE = StageEstimate("synthesize", 100, 20, 80, False, 8000, 2000, 4000, True)  # 0.028 USD, at most 0.048
GRADE = StageEstimate("judge", 90, 0, 90, True, 9000, 3600, 3600, False)  # 0.045 USD
ANSWERED = StageEstimate("synthesize", 100, 100, 0, False, 0, 0, 0, True)


@pytest.fixture(scope="module")
def params() -> Params:
    params = load_params(TOP / "params.yaml").model_copy(update={"task": "toy"})
    return change(change(params, "synthesis", rows=ROWS), "baselines", llm_grader=True)


def change(params: Params, section: str, **values: Any) -> Params:
    return params.model_copy(update={section: getattr(params, section).model_copy(update=values)})


def price(params: Params, journal: Journal, *stages: StageEstimate, **llm: Any) -> dict[str, Any]:
    values = {"endpoint": "https://api.openai.com/v1", "model": "m"} | llm
    return price_stages(params.llm.model_copy(update=values), list(stages), PRICES, journal)


STOPS = "`llm.budget_usd: {}` {} the run before it is done: it needs about {} USD, at most {}, and {} are left"
SAID = [
    ({"model": "new"}, WRITE, "no price is known for new: add it to data/prices.yaml"),
    (
        {"model": "new", "budget_usd": 5.0},
        WRITE,
        "no price is known .*; until then, `llm.budget_usd` blocks every requ",
    ),
    ({"max_requests": 85}, GRADE, "`llm.max_requests: 85` may stop `judge` once that many are sent"),
    ({"max_requests": 80}, WRITE, ""),
    ({"max_requests": 80}, replace(WRITE, again=9), "`llm.max_requests: 80` may stop `synthesize` once"),
    ({"max_requests": 79, "batch": True}, WRITE, "`llm.max_requests: 79` stops `synthesize` before a batch that excee"),
    ({"endpoint": "embedded", "batch": True}, WRITE, "`llm.batch` is true, but the embedded LLM has no Batch API"),
    ({"offline": True, "max_requests": 0, "budget_usd": 0.0, "model": "new"}, ANSWERED, ""),
    ({"budget_usd": 0.049}, WRITE, ""),
    ({"budget_usd": 0.047}, WRITE, STOPS.format(0.047, "may stop", "0.0280", "0.0480", "0.0470")),
    ({"budget_usd": 0.02}, WRITE, STOPS.format(0.02, "stops", "0.0280", "0.0480", "0.0200")),
    # A batch is bounded by the bytes of its requests: (32000 + 40000) / 2 millionths.
    ({"budget_usd": 0.0361, "batch": True}, WRITE, ""),
    ({"budget_usd": 0.035, "batch": True}, WRITE, STOPS.format(0.035, "may stop", "0.0140", "0.0360", "0.0350")),
]


@pytest.mark.parametrize(("llm", "stage", "words"), SAID)
def test_what_would_stop_the_run_is_said(
    llm: dict[str, Any], stage: StageEstimate, words: str, params: Params, journal: Journal
) -> None:
    notices = price(params, journal, stage, **llm)["notices"]
    assert len(notices) == bool(words)
    assert re.match(words, "".join(notices))


def test_the_text_says_it_all(params: Params, journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    print_estimate(price(params, journal), batch=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "the next `dvc repro` sends nothing",
        "prices of 2026-10-09, from data/prices.yaml",
    ]
    journal.add_spending(0.25)
    journal.add_batch("amalgam-1", [f"{number:064x}" for number in range(7)])
    print_estimate(price(params, journal, WRITE, GRADE, budget_usd=1.0, offline=True), batch=False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "m at https://api.openai.com/v1"
    assert lines[2:] == [
        "synthesize 20 80 ~8000 ~2000 0.0280 0.0140",
        "judge 0 max 90 ~9000 max 3600 0.0450 0.0225",
        "all 0.0730 0.0365",
        "prices of 2026-10-09, from data/prices.yaml",
        "0.2500 USD spent from this clone so far, `llm.budget_usd` leaves 0.7500",
        "unusable answers are requested again, up to 10 times; these come on top",
        "7 requests are in batches, which the next run collects; that needs `llm.batch: true`",
        "note: `llm.offline` is true: the run fails rather than send a request",
    ]


class Project:
    """What a run of a task with eight train rows and three test rows a label would send."""

    def __init__(self, folder: Path, task: Task, params: Params, journal: Journal) -> None:
        self.folder, self.journal = folder, journal
        sets = {"train": make_train(task, 8), "test": make_train(task, 3)}
        template = load_template("chat", [TOP / "data/templates"])
        prompts = [*build_prompts(task, sets["train"], template, params.prompts, ROWS + 2)]
        self.sources = Sources(params, task, sets, prompts[: 3 * ROWS], "sha256:00")
        self.more = replace(self.sources, params=change(params, "synthesis", rows=ROWS + 2), prompts=prompts)
        self.requests = self.build_requests(0)

    def build_requests(self, attempt: int) -> list[Request]:
        rounds = self.sources.start_rounds(self.sources.prompts)
        return [rounds.build_request(slot, attempt) for slot in range(3 * ROWS)]

    def answer(self, requests: list[Request], answer: Answer = FINE) -> None:
        self.journal.record([(request, answer) for request in requests])

    def plan(self, *stages: str, sources: Sources | None = None) -> list[StageEstimate]:
        return estimate_stages(self.folder, sources or self.sources, list(stages), self.journal)

    def count(self, *stages: str, sources: Sources | None = None) -> list[tuple[str, int, int, bool]]:
        plan = self.plan(*stages, sources=sources)
        assert all(stage.answered == stage.requests - stage.to_send for stage in plan)
        return [(stage.stage, stage.requests, stage.to_send, not stage.at_most) for stage in plan]


@pytest.fixture
def project(tmp_path: Path, task: Task, params: Params, journal: Journal) -> Project:
    return Project(tmp_path, task, params, journal)


def test_only_what_has_no_answer_is_counted(project: Project) -> None:
    assert project.plan("mix", "teacher", "report") == []
    (sending,) = project.plan("synthesize")
    letters = sum(len(message["content"]) for request in project.requests for message in request.body["messages"])
    assert (sending.to_send, sending.prompt_tokens) == (12, pytest.approx(letters / 4, rel=0.02))
    assert sending.completion_tokens == sending.most_completion_tokens == 12 * 64
    assert (sending.measured, sending.again) == (False, 0)
    project.answer(project.requests[:5])
    assert project.count("synthesize") == [("synthesize", 12, 7, True)]
    assert project.count("synthesize", sources=project.more) == [("synthesize", 18, 13, True)]
    project.answer(project.requests)
    assert project.count("synthesize") == [("synthesize", 12, 0, True)]
    assert project.plan("synthesize")[0].held_tokens == 12 * 57


def test_earlier_answers_say_how_long_the_others_will_be(project: Project) -> None:
    rounds = project.sources.start_rounds(project.sources.prompts[:2])
    rounds.add_answers([Answer("x", "stop", 1, 20), Answer("y", "stop", 1, 30)])
    write_completions(project.folder / "data/completions", rounds)
    (sending,) = project.plan("synthesize")
    assert (sending.completion_tokens, sending.measured) == (12 * 25, True)
    write_json(project.folder / "data/baselines/summary.json", {"llm_grader": {"requests": 2, "completion_tokens": 22}})
    write_json(project.folder / "data/judgements/summary.json", {"rows": 4, "completion_tokens": 1000})
    judge, baselines = project.plan("judge", "baselines")
    assert (baselines.requests, baselines.completion_tokens, baselines.measured) == (9, 9 * 11, True)
    assert judge.completion_tokens == judge.most_completion_tokens == 2 * 40
    # Answers in the journal are the best source, also for tokens of a prompt and the share of unusable answers.
    project.answer(project.requests[:3])
    project.answer(project.requests[3:4], CUT_OFF)
    (sending,) = project.plan("synthesize")
    assert (sending.again, sending.to_send) == (round(8 * 3 / 11), 8)
    assert sending.completion_tokens == round(8 * (3 * 7 + 64) / 4 + 2 * 64)  # a second answer has the greatest length
    assert sending.prompt_tokens == pytest.approx(10 * 50, rel=0.05)
    assert sending.held_tokens == 4 * 50 + 3 * 7 + 64
    project.answer(project.requests[4:8], Answer("it was fine", "stop", 0, 0))  # an endpoint that counts no tokens
    (sending,) = project.plan("synthesize")
    assert sending.prompt_tokens == pytest.approx((4 + sending.again) * 50, rel=0.1)
    assert sending.completion_tokens > (4 + sending.again) * (3 * 7 + 64) / 4


def test_an_answer_of_no_use_is_asked_again_when_all_are_there(project: Project) -> None:
    project.answer(project.requests[1:2], CUT_OFF)
    project.answer(project.requests[2:])
    assert project.count("synthesize") == [("synthesize", 12, 1, True)]  # what the first will give is not known
    project.answer(project.requests[:1])
    assert project.count("synthesize") == [("synthesize", 13, 1, True)]
    project.answer(project.build_requests(1)[1:2], CUT_OFF)
    assert project.count("synthesize") == [("synthesize", 14, 1, True)]
    project.answer(project.build_requests(2)[1:2])
    assert project.count("synthesize") == [("synthesize", 14, 0, True)]


@pytest.mark.parametrize(("limit", "all_graded"), [(2, False), (9, False), (9, True)])
def test_the_judge_grades_the_first_rows_unless_it_decides(project: Project, limit: int, all_graded: bool) -> None:
    params = change(project.sources.params, "judge", rows=limit)
    params = change(params, "curation", consistency="judge" if all_graded else "none")
    project.sources = replace(project.sources, params=params)
    many = 3 * ROWS if all_graded else 3 * min(limit, ROWS)
    assert project.count("synthesize", "judge")[1] == ("judge", many, many, False)
    dummy = project.plan("synthesize", "judge")[1]
    project.answer(project.requests[:3])  # the responses that are there show what the others are like
    like = project.plan("synthesize", "judge")[1]
    assert (like.requests, like.at_most) == (many, True)
    assert 0 < like.prompt_tokens < dummy.prompt_tokens
    project.answer(project.requests)
    assert project.count("synthesize", "judge")[1] == ("judge", many, many, True)
    none = replace(project.sources, params=change(params, "judge", rows=0))
    assert len(project.plan("synthesize", "judge", sources=none)) == 1 + all_graded


@pytest.mark.parametrize(("text", "times"), [('{"logprobs": {"A": -0.1}}', 1), ("A", 6)])
def test_an_endpoint_without_log_probabilities_is_asked_for_samples(text: str, times: int, project: Project) -> None:
    sets = project.sources.sets | {"validation": make_train(project.sources.task, 1)}
    sets["unlabelled"] = make_train(project.sources.task, 60)
    params = change(project.sources.params, "synthesis", source="both")
    project.sources = replace(project.sources, params=params, sets=sets)
    requests = project.sources.build_labelling()
    count = len({request.key for request in requests})
    assert project.count("label") == [("label", count, count, True)]
    project.answer(requests[:3], Answer(text, "stop", 50, 1))
    assert project.count("label") == [("label", times * count, times * count - 3, True)]


def test_a_model_is_known_by_its_file_even_before_it_is_fetched(project: Project, params: Params) -> None:
    embedded = params.llm.model_copy(update={"endpoint": "embedded"})
    assert find_identity(project.folder, embedded).startswith("sha256:b179c952")
    assert find_identity(project.folder, embedded.model_copy(update={"endpoint": "http://x/v1", "model": "m"})) == "m"
    (project.folder / "own.gguf").write_bytes(b"GGUF")
    own = embedded.model_copy(update={"model": str(project.folder / "own.gguf")})
    assert len(find_identity(project.folder, own)) == 71
    hub = embedded.model_copy(update={"model": "owner/name/file.gguf"})
    assert find_identity(project.folder, hub) == ""
    assert project.count("synthesize", sources=replace(project.sources, model="")) == [("synthesize", 12, 12, False)]
    write_json(project.folder / "models/base/llm/identity.json", {"name": hub.model, "model": "sha256:01"})
    assert find_identity(project.folder, hub) == "sha256:01"


def test_training_takes_longer_with_few_uncoded_texts_as_the_best_student_is_deeper_then(params: Params) -> None:
    rows = make_train(load_task(TOP / "data/tasks" / "product_feedback"), 10)
    minutes = {
        quality: [
            estimate_training(params.model_copy(update={"quality": quality, "human_rows": 51}), rows, uncoded)
            for uncoded in (0, 248, 249)
        ]
        for quality in ("best", "whole", "fast")
    }
    assert minutes["best"] == [minutes["whole"][0]] * 2 + [minutes["best"][2]]
    assert minutes["whole"][0] > minutes["best"][2] > minutes["fast"][0] == minutes["fast"][2]


def test_help_needs_no_heavy_library() -> None:
    code = "import sys, amalgam.cli; print({'openai', 'torch', 'pandas', 'dvc'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
