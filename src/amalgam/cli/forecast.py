"""What a run would send to the LLM: its requests, built in memory, and which of them have an answer already."""

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from amalgam.base_models import load_catalogue
from amalgam.dvc import iterate_shared_answers
from amalgam.errors import DataError
from amalgam.files import hash_file, read_json, read_rows, write_jsonl
from amalgam.llm.answering import Survey, measure_requests, seed_journal
from amalgam.llm.journal import Journal
from amalgam.llm.request import BYTES_A_TOKEN, Answer, Request
from amalgam.machine import notify
from amalgam.params import Llm, Params
from amalgam.synthesis.answers import read_responses, tabulate_responses
from amalgam.synthesis.asking import Prompt, Rounds, read_prompts
from amalgam.synthesis.grading import build_grading_requests, select_gradable
from amalgam.synthesis.labelling import SAMPLES, build_label_requests, read_logits, select_coded, select_texts
from amalgam.synthesis.prompts import build_prompts, load_template
from amalgam.tasks.coding import read_codes
from amalgam.tasks.columns import load_task_rows
from amalgam.tasks.schema import Task, load_task
from amalgam.tasks.split import split_task
from amalgam.tasks.texts import WORD
from amalgam.training.transfer import FEW, assign_roles

# The stages that send requests, and the folders of their answers.
_FOLDERS = {"synthesize": "completions", "judge": "judgements", "label": "labelled", "baselines": "baselines"}
ASKING = tuple(_FOLDERS)
# Minutes on two cores with bfloat16: a fixed part, and another for three seeds with 200 human rows of 26 tokens.
_FIXED, _TOKENS = 3, 26
_TRAINING = {"best": 6, "whole": 11, "small": 5, "fast": 2}


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage would send."""

    stage: str
    requests: int
    answered: int
    to_send: int
    at_most: bool  # whether the counts are upper bounds, because the stage's inputs are made first
    prompt_tokens: int  # of the requests to send, like the next two
    completion_tokens: int
    most_completion_tokens: int
    measured: bool  # whether earlier answers show how long an answer is
    again: int = 0  # unusable answers that will be requested again, included in the tokens
    held_tokens: int = 0  # of the requests answered already


@dataclass(frozen=True)
class Sources:
    """What requests are made from."""

    params: Params
    task: Task
    sets: dict[str, pd.DataFrame]  # rows by set
    prompts: Sequence[Prompt]
    model: str  # its identity, "" if unknown

    def start_rounds(self, prompts: Sequence[Prompt]) -> Rounds:
        """Start the rounds of `synthesize` with all prompts, or some of them."""
        return Rounds(prompts, self.model, self.params.synthesis, self.params.llm.body)

    def build_grading(self, rows: pd.DataFrame) -> list[Request]:
        """Build the requests of `judge` or `baselines` for rows."""
        judge, fields = self.params.judge, self.params.llm.body
        return build_grading_requests(self.task, rows, self.sets["train"], self.model, judge, fields)

    def build_labelling(self, samples: int = 0) -> list[Request]:
        """Build the requests of `label`, or those for samples; none if the LLM only writes."""
        params, train, validation = self.params, self.sets["train"], self.sets["validation"]
        teach, _ = assign_roles(train, validation, least=params.teacher.min_validation_rows)
        texts = select_texts(self.task, self.sets["unlabelled"], params.synthesis.source, params.ratio, len(teach))
        if texts.empty:
            return []
        asked = pd.concat([select_coded(self.task, train, validation), texts], ignore_index=True)
        return build_label_requests(self.task, asked, train, self.model, params.llm.body, samples)

    def list_tests(self) -> dict[str, pd.DataFrame]:
        """Return the rows that `baselines` grades, by set."""
        graded = self.params.baselines.llm_grader
        return {name: rows for name, rows in sorted(self.sets.items()) if graded and name.endswith("test")}

    def limit_grades(self) -> int | None:
        """Return how many responses per label `judge` grades; None means all."""
        return None if self.params.curation.consistency == "judge" else self.params.judge.rows


def load_sources(project: Path, params: Params, *, is_prepared: bool = False) -> Sources:
    """Make in memory what `prepare` and `prompts` write, or read prepared rows; the errors are those of the stages."""
    folder = project / "data/tasks" / params.task
    task = load_task(folder)
    if is_prepared:
        sets = {path.stem: read_rows(path) for path in sorted((project / "data/prepared").glob("*.csv"))}
    else:
        loaded = load_task_rows(task, folder, project / ".cache/downloads")
        codes = read_codes(folder, task.label_names)
        sets = split_task(loaded, codes, params.human_rows, params.split)
    template = load_template(params.prompts.template, [folder / "templates", project / "data/templates"])
    rows = 0 if params.synthesis.source == "label" else params.synthesis.rows
    with tempfile.TemporaryDirectory() as temporary:  # read lazily, as the stage does: a million need no memory
        path = Path(temporary, "prompts.jsonl")
        write_jsonl(path, build_prompts(task, sets["train"], template, params.prompts, rows))
        return Sources(params, task, sets, read_prompts(path), find_identity(project, params.llm))


def estimate_training(params: Params, rows: pd.DataFrame, uncoded: int) -> int:
    """Estimate the minutes of training with human rows like these; they grow with the number and length of the rows.

    With few `uncoded` texts the best student keeps all layers, unless the guard lets synthetic rows in.
    """
    few = params.quality == "best" and params.human_rows + uncoded < FEW
    words = (rows["text"] + " " + rows["question"]).str.count(WORD)
    tokens = float((2 + words * 4 / 3).clip(upper=params.teacher.max_length).mean())
    # As in `grow_steps`: for the member that learns by contrast, then for everything else.
    steps = 0.2 * math.sqrt(max(params.human_rows / 51, 1)) + 0.8 * math.sqrt(max(params.human_rows / 200, 1))
    size = steps * tokens / _TOKENS * len(params.seeds) / 3
    return round(_FIXED + _TRAINING["whole" if few else params.quality] * size)


def find_identity(project: Path, llm: Llm) -> str:
    """Return the identity of the model in request keys; "" for a hub file that is not here yet."""
    entry = load_catalogue().get(llm.model)
    if llm.endpoint != "embedded":
        return llm.model
    if entry:
        return f"sha256:{next(iter(entry.files.values()))}"
    if Path(llm.model).is_file():
        return f"sha256:{hash_file(Path(llm.model))}"
    with suppress(DataError):
        about = read_json(project / "models/base/llm/identity.json")
        return str(about["model"]) if about["name"] == llm.model else ""
    return ""


def estimate_run(project: Path, params: Params, stages: list[str], journal: Journal) -> list[StageEstimate]:
    """Count requests and tokens by stage, after looking for missing answers in DVC's cache, as a run does."""
    if set(ASKING).isdisjoint(stages):
        return []
    sources = load_sources(project, params, is_prepared="prepare" not in stages)
    estimates = estimate_stages(project, sources, stages, journal)
    read_seeds = partial(iterate_shared_answers, project, notify, fetch=False)
    if any(stage.to_send for stage in estimates) and seed_journal(journal, read_seeds):
        estimates = estimate_stages(project, sources, stages, journal)
    return estimates


def estimate_stages(project: Path, sources: Sources, stages: list[str], journal: Journal) -> list[StageEstimate]:
    """Build the requests of each stage that sends some, and look up which of them have an answer."""
    params, is_known, estimates = sources.params, bool(sources.model), list[StageEstimate]()
    if "synthesize" in stages:
        tally, rounds = _Tally(journal), sources.start_rounds(sources.prompts)
        while requests := rounds.build_requests():
            answers = tally.add(requests)
            if not all(answers) and not rounds.number:  # the others' answers are not known yet
                rounds = sources.start_rounds([sources.prompts[slot] for slot, one in enumerate(answers) if one])
            if all(answers) or not rounds.number:
                rounds.add_answers([answer for answer in answers if answer])
            if not all(answers):
                break
        estimates.append(tally.estimate(project, "synthesize", is_known=is_known, rounds=rounds))
        responses, complete = tabulate_responses(rounds.build_lines()), not tally.missing.requests
    elif "judge" in stages:
        responses, complete = read_responses(project / "data/completions"), True
    if "judge" in stages:
        limit, most = sources.limit_grades(), params.synthesis.rows + params.prompts.responses - 1
        rows = select_gradable(responses, limit)
        bound = len(rows) if complete else len(sources.task.labels) * (most if limit is None else min(limit, most))
        if bound and rows.empty:  # a dummy response, about as long as allowed
            size = params.synthesis.max_tokens * BYTES_A_TOKEN // params.prompts.responses
            rows = pd.DataFrame({"id": ["dummy"], "text": ["x" * size], "question": [""]})
        tally = _Tally(journal, sources.build_grading(rows))
        estimates.append(tally.estimate(project, "judge", is_known=complete, bound=bound))
    if "label" in stages:
        tally = _Tally(journal)
        said = [read_logits(one, len(sources.task.labels)) for one in tally.add(sources.build_labelling()) if one]
        if 2 * sum(one is None for one in said) > len(said):  # the endpoint gives no log-probabilities
            tally.add(sources.build_labelling(SAMPLES))
        estimates.append(tally.estimate(project, "label", is_known=is_known))
    if "baselines" in stages:
        requests = [one for rows in sources.list_tests().values() for one in sources.build_grading(rows)]
        estimates.append(_Tally(journal, requests).estimate(project, "baselines", is_known=is_known))
    return [stage for stage in estimates if stage.requests]


class _Tally:
    """Counts the distinct requests of a stage, and measures those with and without an answer."""

    def __init__(self, journal: Journal, requests: Sequence[Request] = ()) -> None:
        self._journal = journal
        self._answers: dict[str, Answer] = {}
        self._known = self.missing = Survey(0, 0, 0, 0)
        self.add(requests)

    def add(self, requests: Sequence[Request]) -> list[Answer | None]:
        """Look up the answers to requests, in the same order."""
        keys = [request.key for request in requests]
        places = {key: place for place, key in enumerate(keys)}
        found = self._journal.find(list(places))
        self._answers |= found
        known = measure_requests(requests[place] for key, place in places.items() if key in found)
        missing = measure_requests(requests[place] for key, place in places.items() if key not in found)
        self._known = Survey(*map(sum, zip(self._known, known, strict=True)))
        self.missing = Survey(*map(sum, zip(self.missing, missing, strict=True)))
        return [found.get(key) for key in keys]

    def estimate(
        self, project: Path, stage: str, *, is_known: bool, bound: int = 0, rounds: Rounds | None = None
    ) -> StageEstimate:
        """Estimate the tokens of the stage; `bound` is the most requests that it can have, if more may follow."""
        known, missing, answers = self._known, self.missing, self._answers.values()
        total = known.requests + missing.requests
        to_send, again, cut = max(bound, total) - known.requests, 0, 0.0
        if rounds and answers:  # one unusable answer in five, until more is known (docs/findings.md)
            faults = sum(rounds.faults.values(), Counter[str]())
            useless = faults.total() - faults[""]
            cut = faults["cut_off"] / max(useless, 1)
            rate = (useless + 2) / (len(answers) + 10)
            again = round(to_send * rate / (1 - rate))  # the new answers may be unusable as well
        like = missing if missing.requests else known
        share = (to_send + again) / max(like.requests, 1)
        # Tokens are guessed from the bytes of a text; existing answers show how good the guess is.
        counted = [answer for answer in answers if answer.prompt_tokens]  # some endpoints count none
        held = sum(answer.prompt_tokens for answer in counted), sum(answer.completion_tokens for answer in counted)
        scale = held[0] / known.prompt_tokens * len(answers) / len(counted) if counted else 1.0
        mean = held[1] / len(counted) if counted else _read_mean_tokens(project, stage)
        most = round(like.completion_tokens * share)
        # A request whose answer was cut off gets a long answer again.
        longer = max(like.completion_tokens / max(like.requests, 1) - (mean or 0), 0) * cut * again
        likely = most if mean is None else min(round(mean * (to_send + again) + longer), most)
        return StageEstimate(
            stage,
            requests=max(bound, total),
            answered=known.requests,
            to_send=to_send,
            at_most=not is_known,
            prompt_tokens=round(like.prompt_tokens * scale * share),
            completion_tokens=likely,
            most_completion_tokens=most,
            measured=mean is not None,
            again=again,
            held_tokens=sum(held),
        )


def _read_mean_tokens(project: Path, stage: str) -> float | None:
    """Return the average tokens of an answer in the stage's last outputs; None if there are no outputs."""
    with suppress(DataError, KeyError, TypeError, ZeroDivisionError):
        summary = read_json(project / "data" / _FOLDERS[stage] / "summary.json")
        summary = {"requests": summary.get("answers", summary.get("rows"))} | summary.get("llm_grader", summary)
        return float(summary["completion_tokens"] / summary["requests"]) or None
    return None
