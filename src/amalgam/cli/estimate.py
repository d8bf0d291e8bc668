"""`amalgam estimate`: what the next `dvc repro` would send to the LLM, and what that would cost."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from amalgam.dvc import iterate_shared_answers, list_stages_to_run
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.prices import FREE, Price, Prices, load_prices
from amalgam.llm.request import BYTES_A_TOKEN
from amalgam.machine import notify
from amalgam.params import Llm, Params, load_params
from amalgam.plan import Sending, plan_requests
from amalgam.tasks.schema import Task, load_task


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage would send; money in US dollars, None where it is not known.

    Attributes:
        stage: its name.
        requests: requests that it needs.
        answered: how many of them are answered already.
        to_send: how many are not.
        at_most: whether these counts are upper bounds, because what the stage reads is made first.
        prompt_tokens: of what is sent, about.
        completion_tokens: of its answers: about if `measured`, else at most.
        measured: whether earlier answers say how long an answer is.
        live_usd: what that costs, sent request by request.
        batch_usd: what it costs through the Batch API.
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
        model: as params.yaml names it.
        endpoint: likewise.
        prices_of: the day that prices are of; None for the embedded LLM, which costs nothing.
        stages: those that would run and ask something.
        live_usd: what all of them cost, sent request by request.
        batch_usd: what they cost through the Batch API.
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
    """Print the estimate of a project; nothing is sent."""
    params = load_params(project / "params.yaml")
    estimate = estimate_project(project, params)
    if as_json:
        print(json.dumps(asdict(estimate), indent=2))
    else:
        print_estimate(estimate, params)


def estimate_project(project: Path, params: Params) -> Estimate:
    """Estimate what the next run would send.

    Raises:
        AmalgamError: a file of the project is missing or broken.
    """
    task = load_task(project / "data/tasks" / params.task)
    stages = list_stages_to_run(project)
    with open_journal(project / ".cache/journal.sqlite", notify) as journal:
        sendings = plan_project(project, params, task, stages, journal)
        spent = journal.read_spending()
        in_batches = sum(batch.keys for batch in journal.list_batches())
    prices = load_prices(project / "data/prices.yaml")
    return build_estimate(params.llm, sendings, prices, spent=spent, in_batches=in_batches)


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
    return Estimate(
        model=llm.model,
        endpoint=llm.endpoint,
        prices_of=None if embedded else prices.date.isoformat(),
        stages=stages,
        live_usd=_add(stage.live_usd for stage in stages),
        batch_usd=_add(stage.batch_usd for stage in stages),
        spent_usd=spent,
        left_usd=None if llm.budget_usd is None else max(llm.budget_usd - spent, 0.0),
        in_batches=in_batches,
        notices=_list_notices(llm, sendings, price, spent),
    )


def plan_project(project: Path, params: Params, task: Task, stages: list[str], journal: Journal) -> list[Sending]:
    """Plan what the stages would send, with the journal seeded by what DVC's cache holds."""
    from amalgam.llm.answering import seed_journal

    read_seeds = partial(iterate_shared_answers, project, notify, fetch=False)
    return plan_requests(project, params, task, stages, journal, partial(seed_journal, journal, read_seeds))


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
            table.add_row(stage.stage, *_list_cells(stage), *(_list_costs(stage) if priced else ()))
        if priced and len(estimate.stages) > 1:
            table.add_row("all", "", "", "", "", *_list_costs(estimate))
        console.print(table)
    else:
        console.print("the next `dvc repro` sends nothing", markup=False)
    for sentence in _list_sentences(estimate, params):
        console.print(sentence, markup=False, soft_wrap=True)


def _price_stage(sending: Sending, price: Price | None) -> StageEstimate:
    tokens = (sending.prompt_tokens, sending.completion_tokens)
    live = batch = None
    if price is not None and tokens[0] is not None and tokens[1] is not None:
        live, batch = price.cost(tokens[0], tokens[1]), price.cost(tokens[0], tokens[1], batch=True)
    return StageEstimate(
        stage=sending.stage,
        requests=sending.needed,
        answered=sending.needed - sending.unanswered,
        to_send=sending.unanswered,
        at_most=not sending.exact,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        measured=sending.measured,
        live_usd=live,
        batch_usd=batch,
    )


def _add(costs: Iterable[float | None]) -> float | None:
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


def _list_notices(llm: Llm, sendings: list[Sending], price: Price | None, spent: float) -> list[str]:
    """Say what would stop the run, and what the figures leave out."""
    sent = [sending for sending in sendings if sending.unanswered]
    if not sent:
        return []
    notices = [
        f"nothing is known yet of the length of the requests of `{sending.stage}`"
        for sending in sent
        if sending.prompt_tokens is None
    ]
    if price is None:
        notices.append(
            f"no price is known of {llm.model}: add it to data/prices.yaml"
            + ("; until then, `llm.budget_usd` lets nothing be sent" if llm.budget_usd is not None else "")
        )
    if llm.offline:
        notices.append("`llm.offline` is true: the run fails rather than send a request")
    if llm.batch and llm.endpoint == "embedded":
        notices.append("`llm.batch` is true, but the embedded LLM has no Batch API: the run fails")
    if llm.max_requests is not None:
        notices += [_phrase_requests(sending, llm) for sending in sent if sending.unanswered > llm.max_requests]
    if llm.budget_usd is not None and price is not None:
        notices += _phrase_budget(llm, sent, price, llm.budget_usd - spent)
    return notices


def _phrase_requests(sending: Sending, llm: Llm) -> str:
    will = "stops" if sending.exact else "may stop"
    how = "before a batch that passes it" if llm.batch else "once so many are sent"
    return f"`llm.max_requests: {llm.max_requests}` {will} `{sending.stage}`, {how}"


def _phrase_budget(llm: Llm, sent: list[Sending], price: Price, left: float) -> list[str]:
    prompts = sum(sending.prompt_tokens or 0 for sending in sent)
    answers = sum(sending.completion_tokens or 0 for sending in sent)
    longest = sum(sending.most_completion_tokens or 0 for sending in sent)
    # What a batch may cost is bounded before it is sent, by a token a byte.
    bound = price.cost(prompts * BYTES_A_TOKEN if llm.batch else prompts, longest, llm.batch)
    about = price.cost(prompts, answers, llm.batch)
    will = "stops" if about > left else "may stop"
    if bound <= left:
        return []
    return [
        f"`llm.budget_usd: {llm.budget_usd:g}` {will} the run before it is done: it needs about {about:.4f} USD, at "
        f"most {bound:.4f}, and {max(left, 0.0):.4f} are left"
    ]


def _list_cells(stage: StageEstimate) -> list[str]:
    return [
        str(stage.answered),
        f"{'max ' if stage.at_most and stage.to_send else ''}{stage.to_send}",
        "?" if stage.prompt_tokens is None else f"~{stage.prompt_tokens}",
        "?" if stage.completion_tokens is None else f"{'~' if stage.measured else 'max '}{stage.completion_tokens}",
    ]


def _list_costs(priced: StageEstimate | Estimate) -> list[str]:
    return [_phrase_cost(priced.live_usd), _phrase_cost(priced.batch_usd)]


def _phrase_cost(cost: float | None) -> str:
    return "?" if cost is None else f"{cost:.4f}"


def _list_sentences(estimate: Estimate, params: Params) -> list[str]:
    sentences = []
    if estimate.prices_of and estimate.live_usd is not None:
        sentences.append(f"prices of {estimate.prices_of}, from data/prices.yaml")
    left = "" if estimate.left_usd is None else f", `llm.budget_usd` leaves {estimate.left_usd:.4f}"
    if estimate.spent_usd or left:
        sentences.append(f"{estimate.spent_usd:.4f} USD spent from this clone so far{left}")
    if any(stage.stage == "synthesize" and stage.to_send for stage in estimate.stages) and params.synthesis.attempts:
        sentences.append(
            f"answers of no use are asked for again, up to {params.synthesis.attempts} times; that comes on top"
        )
    if estimate.in_batches:
        how = "" if params.llm.batch else "; `llm.batch: true` is needed for that"
        sentences.append(f"{estimate.in_batches} requests are in batches, which the next run collects{how}")
    return sentences + [f"note: {notice}" for notice in estimate.notices]
