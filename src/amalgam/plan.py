"""What the next `dvc repro` would run, and how many requests it would send to the LLM."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amalgam.errors import DataError
from amalgam.files import read_json, read_jsonl
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Request
from amalgam.params import Params
from amalgam.rows import read_rows
from amalgam.synthesis.completions import build_requests, read_completions
from amalgam.synthesis.curate import select_gradable
from amalgam.synthesis.grading import build_grading_requests
from amalgam.synthesis.prompts import build_prompts
from amalgam.tasks.schema import Task


@dataclass(frozen=True, slots=True)
class Sending:
    """Requests of one stage: how many it needs, how many of them have no answer yet, and whether that is certain.

    Not `exact` means at most: what the stage reads will change first, so its requests are not known yet.
    """

    stage: str
    needed: int
    unanswered: int
    exact: bool


def list_stages_to_run(project: Path) -> list[str]:
    """List the stages that `dvc repro` would run, in order: those that changed, and at most all that follow.

    Raises:
        DataError: the folder is not a DVC project that can be read.
    """
    import networkx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(project)) as repo:
            changed = set(repo.status())
            graph = repo.index.graph
            order = list(networkx.topological_sort(graph.reverse(copy=True)))
            run = [stage for stage in order if stage.addressing in changed]
            following = {stage for first in run for stage in networkx.ancestors(graph, first)} | set(run)
            return [stage.addressing for stage in order if stage in following]
    except DvcException as error:
        raise DataError(f"DVC cannot read the project ({error}): run `dvc status` to see why") from error


def plan_requests(project: Path, params: Params, task: Task, stages: list[str]) -> list[Sending]:
    """Count the requests of the stages that would run.

    Args:
        project: the top folder.
        params: params.yaml as it is now.
        task: the task that they name.
        stages: what `list_stages_to_run` said.
    """
    data = project / "data"
    plans: dict[str, tuple[set[str], int, Callable[[str], list[Request]]]] = {
        # stage: (stages whose outputs its requests are made of, requests at most, how to make them)
        "synthesize": (
            {"models", "prepare"},
            params.synthesis.rows * len(task.labels),
            lambda model: build_requests(_read_prompts(data, task, params, stages), model, params.synthesis),
        ),
        "judge": (
            {"models", "prepare", "prompts", "synthesize"},
            params.synthesis.rows * len(task.labels),
            lambda model: build_grading_requests(
                task, _read_gradable(data, task, params), read_rows(data / "prepared/train.csv"), model, params.judge
            ),
        ),
        "baselines": (
            {"models", "prepare"},
            params.split.test if params.baselines.llm_grader else 0,
            lambda model: [
                request
                for path in sorted((data / "prepared").glob("*test.csv"))
                for request in build_grading_requests(
                    task, read_rows(path), read_rows(data / "prepared/train.csv"), model, params.judge
                )
            ],
        ),
    }
    sendings = []
    for stage, (sources, most, build) in plans.items():
        if stage not in stages or not most:
            continue
        if sources & set(stages):
            sendings.append(Sending(stage, most, most, exact=False))
            continue
        requests = build(read_json(project / "models/base/llm/identity.json")["model"])
        keys = {request.key for request in requests}
        with open_journal(project / ".cache/journal.sqlite") as journal:
            answered = len(journal.find(sorted(keys)))
        sendings.append(Sending(stage, len(keys), len(keys) - answered, exact=True))
    return sendings


def _read_prompts(data: Path, task: Task, params: Params, stages: list[str]) -> list[dict[str, Any]]:
    if "prompts" in stages:
        return build_prompts(task, read_rows(data / "prepared/train.csv"), params.prompts, params.synthesis.rows)
    return list(read_jsonl(data / "prompts.jsonl"))


def _read_gradable(data: Path, task: Task, params: Params) -> Any:
    return select_gradable(read_completions(data / "completions", params.synthesis.rows * len(task.labels)))
