"""`amalgam estimate`: what the next `dvc repro` would send to the LLM, and what that would cost."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from amalgam.cli.plan import Plan, Sending
from amalgam.dvc import iterate_shared_answers, list_stages_to_run
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.prices import FREE, Price, Prices, load_prices
from amalgam.llm.request import BYTES_A_TOKEN
from amalgam.machine import notify
from amalgam.params import Llm, Params, load_params
from amalgam.synthesis.asking import ATTEMPTS
from amalgam.tasks.schema import Task, load_task


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage would send; money in US dollars, live and through the Batch API, None where it is not known.

    `at_most` says that the counts are upper bounds, because what the stage reads is made first; `measured`, that
    earlier answers say how long an answer is.
    """

    stage: str
    requests: int
    answered: int
    to_send: int
    at_most: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    measured: bool
    live_usd: float | None
    batch_usd: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """All that `amalgam estimate` says; money in US dollars, None where it is not known.

    Attributes:
        prices_of: the day that prices are of; None for the embedded LLM, which costs nothing.
        spent_usd: what the answers in the journal have cost this clone, and requests that failed may have.
        left_usd: what `llm.budget_usd` leaves of it; None where there is no budget.
        in_batches: requests that are at the endpoint in batches, and not collected yet.
        notices: sentences on what would stop the run, and on what is not known.
    """

    model: str
    endpoint: str
    prices_of: str | None
    stages: list[StageEstimate]
    live_usd: float | None
    batch_usd: float | None
    spent_usd: float
    left_usd: float | None
    in_batches: int
    notices: list[str]


def run_estimate(project: Path, *, as_json: bool) -> None:
    """Print what the next run of a project would send; nothing is sent."""
    params = load_params(project / "params.yaml")
    task = load_task(project / "data/tasks" / params.task)
    stages = list_stages_to_run(project)
    with open_journal(project / ".cache/journal.sqlite", notify) as journal:
        sendings = plan_project(project, params, task, stages, journal)
        spent = journal.read_spending()
        in_batches = sum(batch.keys for batch in journal.list_batches())
    prices = load_prices(project / "data/prices.yaml")
    estimate = build_estimate(params.llm, sendings, prices, spent=spent, in_batches=in_batches)
    if as_json:
        print(json.dumps(asdict(estimate), indent=2))
    else:
        print_estimate(estimate, params)


def plan_project(project: Path, params: Params, task: Task, stages: list[str], journal: Journal) -> list[Sending]:
    """Plan what the stages would send, with the journal seeded by what DVC's cache holds."""
    from amalgam.llm.answering import seed_journal

    read_seeds = partial(iterate_shared_answers, project, notify, fetch=False)
    return Plan(project, params, task, stages, journal).count_requests(partial(seed_journal, journal, read_seeds))


def build_estimate(llm: Llm, sendings: list[Sending], prices: Prices, *, spent: float, in_batches: int) -> Estimate:
    """Put a price on what would be sent.

    Args:
        llm: the endpoint and the limits.
        sendings: what each stage would send.
        prices: the price list.
        spent: US dollars that this clone has spent.
        in_batches: requests that are in open batches.
    """
    embedded = llm.endpoint == "embedded"
    price = FREE if embedded else prices.find(llm.model)
    stages = [_price_stage(sending, price) for sending in sendings]
    live, batch = ([getattr(stage, name) for stage in stages] for name in ("live_usd", "batch_usd"))
    return Estimate(
        model=llm.model,
        endpoint=llm.endpoint,
        prices_of=None if embedded else prices.date.isoformat(),
        stages=stages,
        live_usd=None if None in live else sum(live, 0.0),
        batch_usd=None if None in batch else sum(batch, 0.0),
        spent_usd=spent,
        left_usd=None if llm.budget_usd is None else max(llm.budget_usd - spent, 0.0),
        in_batches=in_batches,
        notices=_list_notices(llm, [sending for sending in sendings if sending.unanswered], price, spent),
    )


def print_estimate(estimate: Estimate, params: Params) -> None:
    """Show an estimate on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"{estimate.model} at {estimate.endpoint}", markup=False)
    if any(stage.to_send for stage in estimate.stages):
        priced = estimate.prices_of is not None
        table = Table("stage", box=None, pad_edge=False)
        for title in ("answered", "to send", "tokens in", "tokens out", *(("USD", "batch USD") if priced else ())):
            table.add_column(title, justify="right")
        for stage in estimate.stages:
            sent = f"{'max ' if stage.at_most and stage.to_send else ''}{stage.to_send}"
            asked = "?" if stage.prompt_tokens is None else f"~{stage.prompt_tokens}"
            came = f"{'~' if stage.measured else 'max '}{stage.completion_tokens}"
            came = "?" if stage.completion_tokens is None else came
            costs = _list_costs(stage) if priced else []
            table.add_row(stage.stage, str(stage.answered), sent, asked, came, *costs)
        if priced and len(estimate.stages) > 1:
            table.add_row("all", "", "", "", "", *_list_costs(estimate))
        console.print(table)
    else:
        console.print("the next `dvc repro` sends nothing", markup=False)
    for sentence in _list_sentences(estimate, params):
        console.print(sentence, markup=False, soft_wrap=True)


def _price_stage(sending: Sending, price: Price | None) -> StageEstimate:
    prompts, answers = sending.prompt_tokens, sending.completion_tokens
    live = batch = None
    if price is not None and prompts is not None and answers is not None:
        live, batch = price.cost(prompts, answers), price.cost(prompts, answers, batch=True)
    return StageEstimate(
        stage=sending.stage,
        requests=sending.needed,
        answered=sending.needed - sending.unanswered,
        to_send=sending.unanswered,
        at_most=not sending.exact,
        prompt_tokens=prompts,
        completion_tokens=answers,
        measured=sending.measured,
        live_usd=live,
        batch_usd=batch,
    )


def _list_notices(llm: Llm, sent: list[Sending], price: Price | None, spent: float) -> list[str]:
    """Say what would stop the run, and what the figures leave out."""
    if not sent:
        return []
    notices = [
        f"nothing is known yet of the length of the requests of `{sending.stage}`"
        for sending in sent
        if sending.prompt_tokens is None
    ]
    if price is None:
        stops = "; until then, `llm.budget_usd` lets nothing be sent" if llm.budget_usd is not None else ""
        notices.append(f"no price is known of {llm.model}: add it to data/prices.yaml{stops}")
    if llm.offline:
        notices.append("`llm.offline` is true: the run fails rather than send a request")
    if llm.batch and llm.endpoint == "embedded":
        notices.append("`llm.batch` is true, but the embedded LLM has no Batch API: the run fails")
    how = "before a batch that passes it" if llm.batch else "once so many are sent"
    notices += [
        f"`llm.max_requests: {llm.max_requests}` {'stops' if sending.exact else 'may stop'} `{sending.stage}`, {how}"
        for sending in sent
        if llm.max_requests is not None and sending.unanswered > llm.max_requests
    ]
    if llm.budget_usd is not None and price is not None:
        left = llm.budget_usd - spent
        prompts = sum(sending.prompt_tokens or 0 for sending in sent)
        answers, most = (
            sum(getattr(sending, name) or 0 for sending in sent)
            for name in ("completion_tokens", "most_completion_tokens")
        )
        about = price.cost(prompts, answers, llm.batch)
        # What a batch may cost is bounded before it is sent, by a token a byte.
        bound = price.cost(prompts * BYTES_A_TOKEN if llm.batch else prompts, most, llm.batch)
        if bound > left:
            notices.append(
                f"`llm.budget_usd: {llm.budget_usd:g}` {'stops' if about > left else 'may stop'} the run before it is "
                f"done: it needs about {about:.4f} USD, at most {bound:.4f}, and {max(left, 0.0):.4f} are left"
            )
    return notices


def _list_costs(priced: StageEstimate | Estimate) -> list[str]:
    return ["?" if cost is None else f"{cost:.4f}" for cost in (priced.live_usd, priced.batch_usd)]


def _list_sentences(estimate: Estimate, params: Params) -> list[str]:
    sentences = []
    if estimate.prices_of and estimate.live_usd is not None:
        sentences.append(f"prices of {estimate.prices_of}, from data/prices.yaml")
    left = "" if estimate.left_usd is None else f", `llm.budget_usd` leaves {estimate.left_usd:.4f}"
    if estimate.spent_usd or left:
        sentences.append(f"{estimate.spent_usd:.4f} USD spent from this clone so far{left}")
    if any(stage.stage == "synthesize" and stage.to_send for stage in estimate.stages):
        sentences.append(f"answers of no use are asked for again, up to {ATTEMPTS} times; that comes on top")
    if estimate.in_batches:
        how = "" if params.llm.batch else "; `llm.batch: true` is needed for that"
        sentences.append(f"{estimate.in_batches} requests are in batches, which the next run collects{how}")
    return sentences + [f"note: {notice}" for notice in estimate.notices]
