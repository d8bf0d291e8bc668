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
    packages = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "missing"
    findings: dict[str, Any] = {"packages": packages, "problems": []}
    try:
        params = load_params(project / "params.yaml")
        findings |= _find_models(project, params)
        findings |= _plan_run(project, params)
    except AmalgamError as error:
        findings["problems"].append(str(error))
    return findings


def _find_models(project: Path, params: Params) -> dict[str, Any]:
    llm = params.llm
    names = ["AZURE_OPENAI_API_KEY", "OPENAI_API_KEY"] if llm.api_version else ["OPENAI_API_KEY"]
    key = "set" if any(os.environ.get(name) for name in names) else "not set"
    identity = "model.gguf" if llm.endpoint == "embedded" else "identity.json"
    files = {f"encoder {params.teacher.model}": "encoder/model.safetensors", f"llm {llm.model}": f"llm/{identity}"}
    base = project / "models/base"
    models = {name: "here" if (base / file).is_file() else "to be fetched" for name, file in files.items()}
    return {"endpoint": {"url": llm.endpoint, "model": llm.model, names[0]: key}, "models": models}


def _plan_run(project: Path, params: Params) -> dict[str, Any]:
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

    rows = [("installed", ", ".join(f"{name} {found}" for name, found in findings["packages"].items()))]
    if "endpoint" in findings:
        endpoint = findings["endpoint"]
        name, state = list(endpoint.items())[-1]
        key = "" if endpoint["url"] == "embedded" else f", {name} {state}"
        rows.append(("LLM", f"{endpoint['model']} at {endpoint['url']}{key}"))
        rows.append(("models", ", ".join(f"{name}: {state}" for name, state in findings["models"].items())))
    if "stages" in findings:
        stages = findings["stages"]
        runs = "runs " + " → ".join(stages) if stages else "runs nothing: everything is up to date"
        rows += [("task", findings["task"]), ("next `dvc repro`", runs)]
        rows.append(("requests", _phrase_requests(findings["requests"])))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for title, text in rows:
        table.add_row(title, Text(text))
    for problem in findings["problems"]:
        table.add_row("problem", Text(problem, style="red"))
    Console().print(table)


def _phrase_requests(requests: list[dict[str, Any]]) -> str:
    lines = [
        f"{one['stage']}: {one['unanswered']} to send, {one['needed'] - one['unanswered']} answered already"
        if one["exact"]
        else f"{one['stage']}: at most {one['unanswered']}; what it reads is made first"
        for one in requests
    ]
    if any(one["unanswered"] for one in requests):
        lines.append("`amalgam estimate` says what that costs")
    return "\n".join(lines) or "none"
