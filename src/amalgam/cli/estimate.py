"""`amalgam estimate` and `amalgam doctor`: what the next `dvc repro` would run and send, and what that would cost."""

import json
import os
import platform
import sys
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from amalgam.cli import print_table
from amalgam.cli.forecast import StageEstimate, estimate_run
from amalgam.dvc import list_stages_to_run
from amalgam.errors import AmalgamError, DataError
from amalgam.files import read_json
from amalgam.llm.journal import Journal, open_journal
from amalgam.llm.request import BYTES_A_TOKEN, FREE, Price, Prices, load_prices
from amalgam.params import Llm, Params, load_params
from amalgam.synthesis.asking import ATTEMPTS
from amalgam.tasks.schema import load_task

_JOURNAL = ".cache/journal.sqlite"
_COSTS = {"live_usd": False, "batch_usd": True}  # True: through the Batch API
_COUNTS = ("stage", "requests", "answered", "to_send", "at_most")  # of a stage, as `amalgam doctor` shows it
_PACKAGES = ("dvc", "dvclive", "openai", "transformers", "torch", "datasets", "scikit-learn", "pandas", "xllamacpp")


def run_estimate(project: Path, *, as_json: bool) -> None:
    """Print what the next run of a project would send, without sending anything."""
    params = load_params(project / "params.yaml")
    stages = list_stages_to_run(project)
    with open_journal(project / _JOURNAL) as journal:
        estimates = estimate_run(project, params, stages, journal)
        estimate = price_stages(params.llm, estimates, load_prices(project / "data/prices.yaml"), journal)
    print(json.dumps(estimate, indent=2)) if as_json else print_estimate(estimate, batch=params.llm.batch)


def price_stages(llm: Llm, stages: list[StageEstimate], prices: Prices, journal: Journal) -> dict[str, Any]:
    """Return all that `amalgam estimate` shows."""
    embedded, spent = llm.endpoint == "embedded", journal.read_spending()
    price = FREE if embedded else prices.find(llm.model)

    def price_tokens(*of: StageEstimate) -> dict[str, float | None]:
        tokens = sum(stage.prompt_tokens for stage in of), sum(stage.completion_tokens for stage in of)
        known = price if of else FREE
        return {name: known.cost(*tokens, batch) if known else None for name, batch in _COSTS.items()}

    return {
        "model": llm.model,
        "endpoint": llm.endpoint,
        "prices_of": None if embedded else prices.date.isoformat(),
        "stages": [asdict(stage) | price_tokens(stage) for stage in stages],
        **price_tokens(*stages),
        "spent_usd": spent,
        "left_usd": None if llm.budget_usd is None else max(llm.budget_usd - spent, 0.0),
        "in_batches": sum(batch.keys for batch in journal.list_batches()),
        "notices": _list_notices(llm, [stage for stage in stages if stage.to_send], price, spent),
    }


def _list_notices(llm: Llm, sent: list[StageEstimate], price: Price | None, spent: float) -> list[str]:
    """List what would stop the run, and what the figures leave out."""
    if not sent:
        return []
    notices = []
    for stage in sent:
        if llm.max_requests is not None and stage.to_send + stage.again > llm.max_requests:
            stops = "may stop" if stage.at_most or stage.to_send <= llm.max_requests else "stops"
            when = "before a batch that exceeds it" if llm.batch else "once that many are sent"
            notices.append(f"`llm.max_requests: {llm.max_requests}` {stops} `{stage.stage}` {when}")
    if price is None:
        until = "" if llm.budget_usd is None else "; until then, `llm.budget_usd` blocks every request"
        notices.append(f"no price is known for {llm.model}: add it to data/prices.yaml{until}")
    if llm.offline:
        notices.append("`llm.offline` is true: the run fails rather than send a request")
    if llm.batch and llm.endpoint == "embedded":
        notices.append("`llm.batch` is true, but the embedded LLM has no Batch API: the run fails")
    if llm.budget_usd is not None and price is not None:
        left = llm.budget_usd - spent
        prompts = sum(stage.prompt_tokens for stage in sent)
        about = price.cost(prompts, sum(stage.completion_tokens for stage in sent), llm.batch)
        # The cost of a batch is bounded before it is sent, assuming one token per byte.
        most = sum(stage.most_completion_tokens for stage in sent)
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
            tokens = f"~{stage['prompt_tokens']}", f"{'~' if stage['measured'] else 'max '}{stage['completion_tokens']}"
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
    for stage in stages:
        if stage["stage"] == "synthesize" and stage["to_send"]:
            top = f"{stage['again']} are expected, and included" if stage["again"] else "these come on top"
            print(f"unusable answers are requested again, up to {ATTEMPTS} times; {top}")
    if estimate["in_batches"]:
        how = "" if batch else "; that needs `llm.batch: true`"
        print(f"{estimate['in_batches']} requests are in batches, which the next run collects{how}")
    for notice in estimate["notices"]:
        print(f"note: {notice}")


def _list_costs(priced: dict[str, Any]) -> list[str]:
    return ["?" if priced[name] is None else f"{priced[name]:.4f}" for name in _COSTS]


def run_doctor(project: Path, *, as_json: bool) -> None:
    """Examine the project and print the findings; exit with code 2 if something must be fixed first."""
    packages = dict.fromkeys(("python", *_PACKAGES), "missing") | {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    findings: dict[str, Any] = {"packages": packages, "problems": []}
    try:
        params = load_params(project / "params.yaml")
        findings |= _find_models(project, params)
        task, stages = load_task(project / "data/tasks" / params.task), list_stages_to_run(project)
        with open_journal(project / _JOURNAL) as journal:
            estimates = estimate_run(project, params, stages, journal)
        requests = [{name: getattr(stage, name) for name in _COUNTS} for stage in estimates]
        findings |= {"task": task.title, "stages": stages, "requests": requests}
    except AmalgamError as error:
        findings["problems"].append(str(error))
    print(json.dumps(findings, indent=2)) if as_json else _print_findings(findings)
    if findings["problems"]:
        sys.exit(2)


def _find_models(project: Path, params: Params) -> dict[str, Any]:
    llm, models = params.llm, {}
    names = ["AZURE_OPENAI_API_KEY", "OPENAI_API_KEY"] if llm.api_version else ["OPENAI_API_KEY"]
    key = "set" if any(os.environ.get(name) for name in names) else "not set"
    for kind, name, file in (("encoder", params.teacher.model, "amalgam.json"), ("llm", llm.model, "identity.json")):
        models[f"{kind} {name}"] = "to be fetched"
        with suppress(DataError, KeyError):  # it may be absent, or of another model
            if read_json(project / "models/base" / kind / file)["name"] in (name, Path(name).name):
                models[f"{kind} {name}"] = "here"
    return {"endpoint": {"url": llm.endpoint, "model": llm.model, names[0]: key}, "models": models}


def _print_findings(findings: dict[str, Any]) -> None:
    rows = [("installed", ", ".join(f"{name} {found}" for name, found in findings["packages"].items()))]
    if endpoint := findings.get("endpoint"):
        name, state = list(endpoint.items())[-1]
        key = "" if endpoint["url"] == "embedded" else f", {name} {state}"
        rows.append(("LLM", f"{endpoint['model']} at {endpoint['url']}{key}"))
        rows.append(("models", ", ".join(f"{name}: {state}" for name, state in findings["models"].items())))
    if "stages" in findings:
        runs = " → ".join(findings["stages"]) or "nothing: everything is up to date"
        rows += [("task", findings["task"]), ("next `dvc repro`", f"runs {runs}")]
        for one in findings["requests"]:
            count = f"{one['to_send']} to send, {one['answered']} answered already"
            bound = f"at most {one['to_send']}, because its inputs are made first"
            rows.append(("requests", f"{one['stage']}: {bound if one['at_most'] else count}"))
        if not any(one["to_send"] for one in findings["requests"]):
            rows.append(("requests", "nothing to send"))
    for title, text in rows + [("problem", problem) for problem in findings["problems"]]:
        print(title.ljust(18) + text)
