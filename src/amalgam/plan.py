"""What the next `dvc repro` would run, and what it would send to the LLM."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from amalgam.errors import AmalgamError
from amalgam.llm.answering import estimate_tokens, find_missing
from amalgam.llm.journal import Journal
from amalgam.llm.request import bound_answer, guess_prompt_tokens
from amalgam.params import Params
from amalgam.stage_requests import StageRequests, list_requests, read_mean_tokens
from amalgam.tasks.schema import Task

_SAMPLE = 500  # requests of which a mean is taken


@dataclass(frozen=True, slots=True)
class Sending:
    """What one stage sends.

    Attributes:
        stage: its name.
        needed: requests that it needs.
        unanswered: how many of them have no answer yet.
        exact: whether that is certain. If not, it is at most, since what the stage reads will change first.
        prompt_tokens: of the unanswered ones, about; None where nothing is known that is like them.
        completion_tokens: of their answers: about if `measured`, else at most; None as above.
        most_completion_tokens: of their answers, at most; None as above.
        measured: whether earlier answers say how long an answer is.
    """

    stage: str
    needed: int
    unanswered: int
    exact: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    most_completion_tokens: int | None
    measured: bool


def plan_requests(
    project: Path, params: Params, task: Task, stages: list[str], journal: Journal, seed: Callable[[], object]
) -> list[Sending]:
    """Count the requests of the stages that would run, and estimate their tokens. Nothing is sent.

    Args:
        project: the top folder.
        params: params.yaml as it is now.
        task: the task that they name.
        stages: what `list_stages_to_run` said.
        journal: where answers are looked up.
        seed: makes the journal take in what DVC shares, as a run does before it sends; called where one is missing.

    Raises:
        DataError: a file of the project is missing or broken.
    """
    listed = list_requests(project, params, task, stages)
    sendings = [_plan_stage(one, project, journal) for one in listed]
    if any(sending.exact and sending.unanswered for sending in sendings) and seed():
        sendings = [_plan_stage(one, project, journal) for one in listed]
    return sendings


def _plan_stage(asked: StageRequests, project: Path, journal: Journal) -> Sending:
    if not asked.is_known:
        return _plan_unknown(asked, project, journal)
    needed, missing = find_missing(asked.make(journal), journal)
    prompts, most = estimate_tokens(missing)
    mean = _measure_answers(asked, journal) or read_mean_tokens(project, asked.stage)
    return Sending(
        stage=asked.stage,
        needed=needed,
        unanswered=len(missing),
        exact=True,
        prompt_tokens=prompts,
        completion_tokens=most if mean is None else min(round(mean * len(missing)), most),
        most_completion_tokens=most,
        measured=mean is not None,
    )


def _plan_unknown(asked: StageRequests, project: Path, journal: Journal) -> Sending:
    try:
        alike = list(islice(asked.make(journal), _SAMPLE))
    except AmalgamError:  # what they would be made of is not there
        alike = []
    if not alike:
        return Sending(asked.stage, asked.most, asked.most, False, None, None, None, False)
    mean = read_mean_tokens(project, asked.stage)
    answers = sum(bound_answer(request) for request in alike)
    most = round(asked.most * answers / len(alike))
    prompts = sum(guess_prompt_tokens(request) for request in alike)
    return Sending(
        stage=asked.stage,
        needed=asked.most,
        unanswered=asked.most,
        exact=False,
        prompt_tokens=round(asked.most * prompts / len(alike)),
        completion_tokens=most if mean is None else min(round(mean * asked.most), most),
        most_completion_tokens=most,
        measured=mean is not None,
    )


def _measure_answers(asked: StageRequests, journal: Journal) -> float | None:
    """Return the mean tokens of the answers to the first requests, None where none is answered."""
    keys = [request.key for request in islice(asked.make(journal), _SAMPLE)]
    found = journal.find(keys).values()
    return sum(answer.completion_tokens for answer in found) / len(found) if found else None
