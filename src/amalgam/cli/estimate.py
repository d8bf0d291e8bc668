"""`amalgam estimate`: what the next `dvc repro` would send to the LLM, and what that would cost."""

import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from amalgam.cli import print_table
from amalgam.dvc import iterate_shared_answers, list_stages_to_run
from amalgam.errors import AmalgamError, DataError
from amalgam.files import read_json, write_jsonl
from amalgam.llm.answering import Survey, measure_requests, seed_journal
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.prices import FREE, Price, Prices, load_prices
from amalgam.llm.request import BYTES_A_TOKEN, Request
from amalgam.machine import notify
from amalgam.params import Llm, Params, load_params
from amalgam.rows import read_rows
from amalgam.synthesis.answers import iterate_responses
from amalgam.synthesis.asking import ATTEMPTS, Rounds, read_prompts
from amalgam.synthesis.grading import build_grading_requests, select_gradable
from amalgam.synthesis.prompts import build_prompts
from amalgam.synthesis.templates import load_template
from amalgam.tasks.columns import load_task_rows
from amalgam.tasks.schema import FileSource, Task, load_task

_SAMPLE = 500  # requests that stand for those which are not known yet
# Stages that send requests: the stages that make what each reads, and the outputs that say how long its answers are.
_ASKING = {
    "synthesize": ({"prepare"}, "data/completions/summary.json", "answers"),
    "judge": ({"prepare", "prompts", "synthesize"}, "data/judgements/summary.json", "rows"),
    "baselines": ({"prepare"}, "data/baselines/summary.json", "requests"),
}
_NOTHING = Survey(0, 0, 0, 0)
_COSTS = {"live_usd": False, "batch_usd": True}  # whether through the Batch API


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage would send; tokens are those of the requests to send, None where they are not known.

    `at_most` says that the counts are upper bounds, because what the stage reads is made first; `measured`, that
    earlier answers say how long an answer is.
    """

    stage: str
    requests: int
    answered: int
    to_send: int
    at_most: bool
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    most_completion_tokens: int | None = None
    measured: bool = False


def run_estimate(project: Path, *, as_json: bool) -> None:
    """Print what the next run of a project would send; nothing is sent."""
    params = load_params(project / "params.yaml")
    task = load_task(project / "data/tasks" / params.task)
    stages = list_stages_to_run(project)
    with open_journal(project / ".cache/journal.sqlite", notify) as journal:
        estimates = Estimator(project, params, task, stages, journal).estimate_stages()
        spent = journal.read_spending()
        in_batches = sum(batch.keys for batch in journal.list_batches())
    prices = load_prices(project / "data/prices.yaml")
    estimate = price_stages(params.llm, estimates, prices, spent, in_batches)
    print(json.dumps(estimate, indent=2)) if as_json else print_estimate(estimate, batch=params.llm.batch)


@dataclass(frozen=True)
class Estimator:
    """Counts what a run of a project's `stages` would send; nothing is sent."""

    project: Path
    params: Params
    task: Task
    stages: list[str]
    journal: Journal

    def estimate_stages(self) -> list[StageEstimate]:
        """Count requests and tokens by stage; missing answers are first looked for in DVC's cache, as a run does."""
        asking = [stage for stage in _ASKING if stage in self.stages and self._bound_requests(stage)]
        estimates = [self._estimate_stage(stage) for stage in asking]
        if any(stage.to_send and not stage.at_most for stage in estimates):
            read_seeds = partial(iterate_shared_answers, self.project, notify, fetch=False)
            if seed_journal(self.journal, read_seeds):
                estimates = [self._estimate_stage(stage) for stage in asking]
        return estimates

    def _estimate_stage(self, stage: str) -> StageEstimate:
        mean, known, scale = self._read_mean_tokens(stage), self._is_known(stage), 1.0
        if known:
            requests, survey, tokens = self._look_up(stage)
            mean = sum(tokens) / len(tokens) if tokens else mean
        else:
            requests, survey = self._bound_requests(stage), _NOTHING
            with suppress(AmalgamError):  # what they would be made of may not be there
                survey = measure_requests(self._build_requests(stage)[:_SAMPLE])
            if not survey.requests:
                return StageEstimate(stage, requests, 0, requests, at_most=True)
            scale = requests / survey.requests
        to_send, prompts, most = (round(number * scale) for number in survey[:3])
        about = most if mean is None else min(round(mean * to_send), most)
        return StageEstimate(
            stage, requests, requests - to_send, to_send, not known, prompts, about, most, measured=mean is not None
        )

    def _is_known(self, stage: str) -> bool:
        """Say whether what the requests are made of is there, as it will be when the stage runs."""
        # At an endpoint, the name of a model is its identity; of a file, the hash is, which must be known.
        models = {"models"} if self.params.llm.endpoint == "embedded" else set()
        return not (_ASKING[stage][0] | models) & set(self.stages)

    def _bound_requests(self, stage: str) -> int:
        """Return how many requests the stage needs at most."""
        params, labels = self.params, len(self.task.labels)
        if stage == "synthesize":
            return -(-params.synthesis.rows // params.prompts.responses) * labels
        if stage == "judge":
            responses = params.synthesis.rows + params.prompts.responses - 1  # the last answer may hold too many
            most = self._limit_grades()
            return labels * (responses if most is None else min(most, responses))
        if not params.baselines.llm_grader:
            return 0
        tested, data, path = params.split.test, self.project / "data", self.project / "data/prepared/transfer_test.csv"
        if "prepare" not in self.stages:
            return tested + (len(read_rows(path)) if path.is_file() else 0)
        with suppress(DataError):  # `prepare` will say so
            if isinstance(self.task.source, FileSource):  # others are fetched first
                tested += len(load_task_rows(self.task, data / "tasks" / params.task, data).transfer)
        return tested

    def _look_up(self, stage: str) -> tuple[int, Survey, list[int]]:
        """Count the distinct requests of a stage, measure those without an answer, and list the answers' tokens."""
        rounds = self._start_rounds() if stage == "synthesize" else None
        requests = rounds.build_requests() if rounds else self._build_requests(stage)
        total, missing, tokens = 0, _NOTHING, list[int]()
        while requests:
            keys = [request.key for request in requests]
            places = {key: place for place, key in enumerate(keys)}
            found = self.journal.find(list(places))
            total += len(places)
            tokens += [answer.completion_tokens for answer in found.values()]
            missing = measure_requests(requests[place] for key, place in places.items() if key not in found)
            if missing.requests or not rounds:
                break
            rounds.add_answers([found[key] for key in keys])
            requests = rounds.build_requests()
        return total, missing, tokens

    def _build_requests(self, stage: str) -> Sequence[Request]:
        """Build what a stage asks first; where that is not known yet, some requests that are like it."""
        data, params = self.project / "data", self.params
        if stage == "synthesize":
            return self._start_rounds().build_requests()
        train = read_rows(data / "prepared/train.csv")
        if stage == "baselines":
            rows = pd.concat([read_rows(path) for path in sorted((data / "prepared").glob("*test.csv"))])
        elif (data / "completions/summary.json").is_file():
            responses = iterate_responses(data / "completions")
            rows = select_gradable(responses, self.task.label_names, self._limit_grades())
        else:  # a response of the size that it may have
            size = params.synthesis.max_tokens * BYTES_A_TOKEN // params.prompts.responses
            rows = pd.DataFrame({"id": ["dummy"], "text": ["x" * size], "question": [""]})
        return build_grading_requests(self.task, rows, train, self._read_model(), params.judge, params.llm.body)

    def _start_rounds(self) -> Rounds:
        data, params = self.project / "data", self.params
        path = data / "prompts.jsonl"
        with tempfile.TemporaryDirectory() as folder:
            if "prompts" in self.stages:
                path = Path(folder, path.name)
                folders = [data / "tasks" / params.task / "templates", data / "templates"]
                template = load_template(params.prompts.template, folders)
                train = read_rows(data / "prepared/train.csv")
                prompts = build_prompts(self.task, train, template, params.prompts, params.synthesis.rows)
                write_jsonl(path, islice(prompts, None if self._is_known("synthesize") else _SAMPLE))
            return Rounds(read_prompts(path), self._read_model(), params.synthesis, params.llm.body)

    def _limit_grades(self) -> int | None:
        return None if self.params.curation.consistency == "judge" else self.params.judge.rows

    def _read_model(self) -> str:
        if self.params.llm.endpoint != "embedded":
            return self.params.llm.model
        if "models" in self.stages:
            return ""  # not known yet: the requests are only like those that will be sent
        return str(read_json(self.project / "models/base/llm/identity.json")["model"])

    def _read_mean_tokens(self, stage: str) -> float | None:
        """Return the tokens of an answer in the stage's last outputs, on average; None where there are none."""
        _, path, count = _ASKING[stage]
        with suppress(DataError, KeyError, TypeError, ZeroDivisionError):
            summary = read_json(self.project / path)
            summary = summary.get("llm_grader", summary)
            return float(summary["completion_tokens"] / summary[count])
        return None


def price_stages(llm: Llm, stages: list[StageEstimate], prices: Prices, spent: float, batched: int) -> dict[str, Any]:
    """Return all that `amalgam estimate` says; `spent` are US dollars, `batched` requests wait to be collected."""
    embedded = llm.endpoint == "embedded"
    price = FREE if embedded else prices.find(llm.model)
    priced: list[dict[str, Any]] = []
    for stage in stages:
        prompts, answers = stage.prompt_tokens, stage.completion_tokens
        costs: dict[str, float | None] = dict.fromkeys(_COSTS)
        if price is not None and prompts is not None and answers is not None:
            costs = {name: price.cost(prompts, answers, batch) for name, batch in _COSTS.items()}
        priced.append(asdict(stage) | costs)
    columns = {name: [stage[name] for stage in priced] for name in _COSTS}
    return {
        "model": llm.model,
        "endpoint": llm.endpoint,
        "prices_of": None if embedded else prices.date.isoformat(),
        "stages": priced,
        **{name: None if None in column else sum(column, 0.0) for name, column in columns.items()},
        "spent_usd": spent,
        "left_usd": None if llm.budget_usd is None else max(llm.budget_usd - spent, 0.0),
        "in_batches": batched,
        "notices": _list_notices(llm, [stage for stage in stages if stage.to_send], price, spent),
    }


def _list_notices(llm: Llm, sent: list[StageEstimate], price: Price | None, spent: float) -> list[str]:
    """Say what would stop the run, and what the figures leave out."""
    if not sent:
        return []
    notices = []
    for stage in sent:
        if stage.prompt_tokens is None:
            notices.append(f"nothing is known yet of the length of the requests of `{stage.stage}`")
        if llm.max_requests is not None and stage.to_send > llm.max_requests:
            stops = "may stop" if stage.at_most else "stops"
            when = "before a batch that passes it" if llm.batch else "once so many are sent"
            notices.append(f"`llm.max_requests: {llm.max_requests}` {stops} `{stage.stage}`, {when}")
    if price is None:
        until = "" if llm.budget_usd is None else "; until then, `llm.budget_usd` lets nothing be sent"
        notices.append(f"no price is known of {llm.model}: add it to data/prices.yaml{until}")
    if llm.offline:
        notices.append("`llm.offline` is true: the run fails rather than send a request")
    if llm.batch and llm.endpoint == "embedded":
        notices.append("`llm.batch` is true, but the embedded LLM has no Batch API: the run fails")
    if llm.budget_usd is not None and price is not None:
        left = llm.budget_usd - spent
        prompts = sum(stage.prompt_tokens or 0 for stage in sent)
        about = price.cost(prompts, sum(stage.completion_tokens or 0 for stage in sent), llm.batch)
        # What a batch may cost is bounded before it is sent, by a token a byte.
        most = sum(stage.most_completion_tokens or 0 for stage in sent)
        bound = price.cost(prompts * BYTES_A_TOKEN if llm.batch else prompts, most, llm.batch)
        if bound > left:
            notices.append(
                f"`llm.budget_usd: {llm.budget_usd:g}` {'stops' if about > left else 'may stop'} the run before it is "
                f"done: it needs about {about:.4f} USD, at most {bound:.4f}, and {max(left, 0.0):.4f} are left"
            )
    return notices


def print_estimate(estimate: dict[str, Any], *, batch: bool) -> None:
    """Show an estimate on the terminal; `batch` is `llm.batch`."""
    stages, priced = estimate["stages"], estimate["prices_of"] is not None
    print(f"{estimate['model']} at {estimate['endpoint']}")
    if any(stage["to_send"] for stage in stages):
        rows = []
        for stage in stages:
            sent = f"{'max ' if stage['at_most'] and stage['to_send'] else ''}{stage['to_send']}"
            asked, came = stage["prompt_tokens"], stage["completion_tokens"]
            tokens = ("?", "?") if asked is None else (f"~{asked}", f"{'~' if stage['measured'] else 'max '}{came}")
            rows.append([stage["stage"], stage["answered"], sent, *tokens, *_list_costs(stage)])
        if len(stages) > 1:
            rows.append(["all", "", "", "", "", *_list_costs(estimate)])
        shown = 7 if priced else 5
        header = ["stage", "answered", "to send", "tokens in", "tokens out", "USD", "batch USD"]
        print_table([row[:shown] for row in [header, *rows] if priced or row[0] != "all"])
    else:
        print("the next `dvc repro` sends nothing")
    if priced and estimate["live_usd"] is not None:
        print(f"prices of {estimate['prices_of']}, from data/prices.yaml")
    left = "" if estimate["left_usd"] is None else f", `llm.budget_usd` leaves {estimate['left_usd']:.4f}"
    if estimate["spent_usd"] or left:
        print(f"{estimate['spent_usd']:.4f} USD spent from this clone so far{left}")
    if any(stage["stage"] == "synthesize" and stage["to_send"] for stage in stages):
        print(f"answers of no use are asked for again, up to {ATTEMPTS} times; that comes on top")
    if estimate["in_batches"]:
        how = "" if batch else "; `llm.batch: true` is needed for that"
        print(f"{estimate['in_batches']} requests are in batches, which the next run collects{how}")
    for notice in estimate["notices"]:
        print(f"note: {notice}")


def _list_costs(priced: dict[str, Any]) -> list[str]:
    return ["?" if priced[name] is None else f"{priced[name]:.4f}" for name in _COSTS]
