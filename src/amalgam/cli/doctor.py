"""`amalgam doctor`: what is at hand, and what the next `dvc repro` would run and send."""

import json
import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from amalgam.errors import AmalgamError
from amalgam.params import Params, load_params

_PACKAGES = ("dvc", "dvclive", "openai", "transformers", "torch", "datasets", "scikit-learn", "pandas", "xllamacpp")


def run_doctor(project: Path, *, as_json: bool) -> None:
    """Look at the project and print what was found; exit code 2 where something must be mended first."""
    findings = examine_project(project)
    if as_json:
        print(json.dumps(findings, indent=2))
    else:
        _print_findings(findings)
    if findings["problems"]:
        sys.exit(2)


def examine_project(project: Path) -> dict[str, Any]:
    """Collect the findings as JSON-ready values."""
    packages = dict.fromkeys(("python", *_PACKAGES), "missing") | {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
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
    from amalgam.cli.forecast import estimate_run
    from amalgam.dvc import list_stages_to_run
    from amalgam.llm.journal import open_journal
    from amalgam.tasks.schema import load_task

    task = load_task(project / "data/tasks" / params.task)
    stages = list_stages_to_run(project)
    with open_journal(project / ".cache/journal.sqlite") as journal:
        estimates = estimate_run(project, params, stages, journal)
    shown = ("stage", "requests", "answered", "to_send", "at_most")  # `amalgam estimate` says more
    requests = [{name: getattr(stage, name) for name in shown} for stage in estimates]
    return {"task": task.title, "stages": stages, "requests": requests}


def _print_findings(findings: dict[str, Any]) -> None:
    rows = [("installed", ", ".join(f"{name} {found}" for name, found in findings["packages"].items()))]
    if "endpoint" in findings:
        endpoint = findings["endpoint"]
        name, state = list(endpoint.items())[-1]
        key = "" if endpoint["url"] == "embedded" else f", {name} {state}"
        rows.append(("LLM", f"{endpoint['model']} at {endpoint['url']}{key}"))
        rows.append(("models", ", ".join(f"{name}: {state}" for name, state in findings["models"].items())))
    if "stages" in findings:
        runs = " → ".join(findings["stages"])
        rows.append(("task", findings["task"]))
        rows.append(("next `dvc repro`", f"runs {runs or 'nothing: everything is up to date'}"))
        rows.append(("requests", _phrase_requests(findings["requests"])))
    width = max(len(title) for title, _ in rows) + 2
    for title, text in rows + [("problem", problem) for problem in findings["problems"]]:
        print(title.ljust(width) + text.replace("\n", "\n" + " " * width))


def _phrase_requests(requests: list[dict[str, Any]]) -> str:
    lines = [
        f"{one['stage']}: at most {one['to_send']}; what it reads is made first"
        if one["at_most"]
        else f"{one['stage']}: {one['to_send']} to send, {one['answered']} answered already"
        for one in requests
    ]
    if any(one["to_send"] for one in requests):
        lines.append("`amalgam estimate` says what that costs")
    return "\n".join(lines) or "none"
