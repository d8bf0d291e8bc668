"""`amalgam estimate` by value, and once in a real DVC project."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from amalgam.cli.doctor import examine_project
from amalgam.cli.estimate import Estimate, build_estimate, print_estimate, run_estimate
from amalgam.cli.plan import Sending
from amalgam.llm.journal import open_journal
from amalgam.llm.prices import Prices
from amalgam.params import Params, load_params
from tests.pipeline.toy import write_task

TOP = Path(__file__).parents[2]
PRICES = Prices.model_validate(
    {"date": "2026-10-09", "source": "x", "batch": 0.5, "models": {"m": {"prompt": 1, "completion": 10}}}
)
WRITE = Sending("synthesize", 100, 80, True, 8000, 2000, 4000, True)  # 0.028 USD, at most 0.048
GRADE = Sending("judge", 90, 90, False, 9000, 3600, 3600, False)  # 0.045 USD


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(TOP / "params.yaml")


def estimate(params: Params, *sendings: Sending, spent: float = 0.0, in_batches: int = 0, **llm: Any) -> Estimate:
    values = {"endpoint": "https://api.openai.com/v1", "model": "m"} | llm
    return build_estimate(
        params.llm.model_copy(update=values), list(sendings), PRICES, spent=spent, in_batches=in_batches
    )


def test_each_stage_has_its_price(params: Params) -> None:
    found = estimate(params, WRITE, GRADE)
    write, grade = found.stages
    counts = (write.stage, write.requests, write.answered, write.to_send, write.at_most)
    assert counts == ("synthesize", 100, 20, 80, False)
    assert (write.prompt_tokens, write.completion_tokens, write.measured) == (8000, 2000, True)
    assert (write.live_usd, write.batch_usd) == (pytest.approx(0.028), pytest.approx(0.014))
    assert (grade.at_most, grade.answered, grade.live_usd) == (True, 0, pytest.approx(0.045))
    assert (found.live_usd, found.batch_usd) == (pytest.approx(0.073), pytest.approx(0.0365))
    assert (found.prices_of, found.left_usd, found.notices) == ("2026-10-09", None, [])


def test_an_unknown_price_is_said(params: Params) -> None:
    found = estimate(params, WRITE, model="new")
    assert (found.live_usd, found.stages[0].batch_usd) == (None, None)
    assert found.notices == ["no price is known of new: add it to data/prices.yaml"]
    (notice,) = estimate(params, WRITE, model="new", budget_usd=5.0).notices
    assert notice.endswith("data/prices.yaml; until then, `llm.budget_usd` lets nothing be sent")


def test_requests_of_unknown_length_have_no_cost(params: Params) -> None:
    unknown = Sending("judge", 90, 90, False, None, None, None, False)
    found = estimate(params, WRITE, unknown, budget_usd=9.0)
    assert (found.stages[1].live_usd, found.live_usd) == (None, None)
    assert found.notices == ["nothing is known yet of the length of the requests of `judge`"]


@pytest.mark.parametrize(
    ("spent", "words"),
    [
        (0.0, None),
        (4.951, None),
        (4.953, "may stop the run before it is done: it needs about 0.0280 USD, at most 0.0480, and 0.0470 are left"),
        (4.975, "stops the run before it is done"),
        (7.0, "and 0.0000 are left"),
    ],
)
def test_a_budget_that_would_stop_the_run_is_said(spent: float, words: str | None, params: Params) -> None:
    found = estimate(params, WRITE, budget_usd=5.0, spent=spent)
    assert found.left_usd == pytest.approx(max(5.0 - spent, 0.0))
    assert [words in notice for notice in found.notices if words] == [True] * bool(words)
    assert bool(found.notices) == bool(words)


def test_a_batch_is_bounded_by_the_bytes_of_its_requests(params: Params) -> None:
    (notice,) = estimate(params, WRITE, budget_usd=0.035, batch=True).notices  # (32000 + 40000) / 2 millionths
    assert "may stop the run before it is done: it needs about 0.0140 USD, at most 0.0360, and 0.0350" in notice
    assert estimate(params, WRITE, budget_usd=0.0361, batch=True).notices == []


def test_a_limit_of_requests_that_would_stop_a_stage_is_said(params: Params) -> None:
    assert estimate(params, WRITE, GRADE, max_requests=85).notices == [
        "`llm.max_requests: 85` may stop `judge`, once so many are sent"
    ]
    assert estimate(params, WRITE, max_requests=79, batch=True).notices == [
        "`llm.max_requests: 79` stops `synthesize`, before a batch that passes it"
    ]


def test_settings_that_let_nothing_be_sent_are_said(params: Params) -> None:
    assert estimate(params, WRITE, offline=True).notices == [
        "`llm.offline` is true: the run fails rather than send a request"
    ]
    assert estimate(params, WRITE, endpoint="embedded", batch=True).notices == [
        "`llm.batch` is true, but the embedded LLM has no Batch API: the run fails"
    ]


def test_where_all_is_answered_no_limit_matters(params: Params) -> None:
    answered = replace(WRITE, unanswered=0, prompt_tokens=0, completion_tokens=0, most_completion_tokens=0)
    found = estimate(params, answered, offline=True, max_requests=0, budget_usd=0.0, model="new")
    assert found.notices == []


def test_the_text_says_it_all(
    params: Params, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = estimate(params, WRITE, GRADE, spent=0.25, in_batches=7, budget_usd=1.0, offline=True)
    print_estimate(found, params)
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


def test_what_costs_nothing_has_no_prices(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    found = estimate(params, WRITE, endpoint="embedded", model="small", budget_usd=0.0)
    assert (found.live_usd, found.prices_of, found.notices) == (0.0, None, [])
    print_estimate(estimate(params, WRITE, endpoint="embedded"), params)
    assert "USD" not in capsys.readouterr().out


def test_the_text_says_where_nothing_is_sent(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    print_estimate(estimate(params), params)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "the next `dvc repro` sends nothing",
        "prices of 2026-10-09, from data/prices.yaml",
    ]


def test_a_project_is_estimated_without_sending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

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
    assert findings["requests"] == [{"stage": "baselines", "needed": 1, "unanswered": 1, "exact": True}]
    assert findings["problems"] == []
    with open_journal(tmp_path / ".cache/journal.sqlite") as journal:
        assert journal.summarise() == []


def test_help_needs_no_heavy_library() -> None:
    code = "import sys, amalgam.cli; print({'openai', 'torch', 'pandas', 'dvc'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
