"""`amalgam doctor`: what is at hand, and what the next `dvc repro` would run and send."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from amalgam.errors import AmalgamError
from amalgam.params import Params, load_params

_COUNTS = ("stage", "needed", "unanswered", "exact")  # of what a stage sends; `amalgam estimate` says more
_PACKAGES = ("dvc", "dvclive", "openai", "transformers", "torch", "datasets", "scikit-learn", "pandas", "xllamacpp")


def run_doctor(project: Path, *, as_json: bool) -> None:
    """Look at the project and print what was found; exit code 2 where something must be mended first."""
    findings = examine_project(project)
    if as_json:
        import json

        print(json.dumps(findings, indent=2))
    else:
        _print_findings(findings)
    if findings["problems"]:
        sys.exit(2)


def examine_project(project: Path) -> dict[str, Any]:
    """Collect the findings as JSON-ready values."""
    findings: dict[str, Any] = {"packages": _find_packages(), "problems": []}
    try:
        params = load_params(project / "params.yaml")
        findings |= {"endpoint": _describe_endpoint(params), "models": _find_models(project, params)}
        findings |= _plan(project, params)
    except AmalgamError as error:
        findings["problems"].append(str(error))
    return findings


def _find_packages() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _describe_endpoint(params: Params) -> dict[str, str]:
    key = "set" if any(os.environ.get(name) for name in _list_key_names(params)) else "not set"
    return {"url": params.llm.endpoint, "model": params.llm.model, _list_key_names(params)[0]: key}


def _list_key_names(params: Params) -> list[str]:
    return ["AZURE_OPENAI_API_KEY", "OPENAI_API_KEY"] if params.llm.api_version else ["OPENAI_API_KEY"]


def _find_models(project: Path, params: Params) -> dict[str, str]:
    roles = {"encoder": (params.teacher.model, "model.safetensors"), "llm": (params.llm.model, "model.gguf")}
    if params.llm.endpoint != "embedded":
        roles["llm"] = (params.llm.model, "identity.json")
    return {
        f"{role} {name}": "here" if (project / "models/base" / role / file).is_file() else "to be fetched"
        for role, (name, file) in roles.items()
    }


def _plan(project: Path, params: Params) -> dict[str, Any]:
    from amalgam.cli.estimate import plan_project
    from amalgam.dvc import list_stages_to_run
    from amalgam.llm.journal import open_journal
    from amalgam.tasks.schema import load_task

    task = load_task(project / "data/tasks" / params.task)
    stages = list_stages_to_run(project)
    with open_journal(project / ".cache/journal.sqlite") as journal:
        sendings = plan_project(project, params, task, stages, journal)
    counts = [{name: getattr(sending, name) for name in _COUNTS} for sending in sendings]
    return {"task": task.title, "stages": stages, "requests": counts}


def _print_findings(findings: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("installed", Text(", ".join(f"{name} {found}" for name, found in findings["packages"].items())))
    if "endpoint" in findings:
        endpoint = findings["endpoint"]
        name, state = list(endpoint.items())[-1]
        key = "" if endpoint["url"] == "embedded" else f", {name} {state}"
        table.add_row("LLM", Text(f"{endpoint['model']} at {endpoint['url']}{key}"))
        table.add_row("models", Text(", ".join(f"{name}: {state}" for name, state in findings["models"].items())))
    if "stages" in findings:
        table.add_row("task", Text(findings["task"]))
        table.add_row("next `dvc repro`", Text(_phrase_stages(findings["stages"])))
        table.add_row("requests", Text(_phrase_requests(findings["requests"])))
    for problem in findings["problems"]:
        table.add_row("problem", Text(problem, style="red"))
    console.print(table)


def _phrase_stages(stages: list[str]) -> str:
    return "runs " + " → ".join(stages) if stages else "runs nothing: everything is up to date"


def _phrase_requests(requests: list[dict[str, Any]]) -> str:
    if not requests:
        return "none"
    lines = [
        f"{one['stage']}: {one['unanswered']} to send, {one['needed'] - one['unanswered']} answered already"
        if one["exact"]
        else f"{one['stage']}: at most {one['unanswered']}; what it reads is made first"
        for one in requests
    ]
    if any(one["unanswered"] for one in requests):
        lines.append("`amalgam estimate` says what that costs")
    return "\n".join(lines)
