"""What the next `dvc repro` would send to the LLM: the requests that its stages would build, counted."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd

from amalgam.errors import AmalgamError, DataError
from amalgam.files import read_json, write_jsonl
from amalgam.llm.answering import measure_requests, survey_requests
from amalgam.llm.journal import Journal
from amalgam.llm.request import BYTES_A_TOKEN, Request, guess_prompt_tokens
from amalgam.params import Params
from amalgam.rows import read_rows
from amalgam.synthesis.answers import iterate_responses
from amalgam.synthesis.asking import Rounds, read_prompts
from amalgam.synthesis.grading import build_grading_requests, select_gradable
from amalgam.synthesis.prompts import build_prompts
from amalgam.synthesis.templates import load_template
from amalgam.tasks.columns import load_task_rows
from amalgam.tasks.schema import FileSource, Task

_SAMPLE = 500  # requests of which a mean is taken
_CHUNK = 500  # answers looked up at once
_STAGES = {  # those that ask; the stages that make what they read; where their last outputs say what answers took
    "synthesize": ({"prepare"}, "data/completions/summary.json"),
    "judge": ({"prepare", "prompts", "synthesize"}, "data/judgements/summary.json"),
    "baselines": ({"prepare"}, "data/baselines/summary.json"),
}


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
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    most_completion_tokens: int | None = None
    measured: bool = False


@dataclass(frozen=True)
class Plan:
    """Plans a run; nothing is sent.

    Attributes:
        project: the top folder.
        params: params.yaml as it is now.
        task: the task that they name.
        stages: those that would run.
        journal: where answers are looked up.
    """

    project: Path
    params: Params
    task: Task
    stages: list[str]
    journal: Journal

    def count_requests(self, seed: Callable[[], object]) -> list[Sending]:
        """Count the requests of the stages that would run, and estimate their tokens.

        Args:
            seed: makes the journal take in what DVC shares, as a run does before it sends; called where an answer is
                missing.

        Raises:
            DataError: a file of the project is missing or broken.
        """
        asking = [stage for stage in _STAGES if stage in self.stages and self._bound_requests(stage)]
        sendings = [self._plan_stage(stage) for stage in asking]
        if any(sending.exact and sending.unanswered for sending in sendings) and seed():
            sendings = [self._plan_stage(stage) for stage in asking]
        return sendings

    def _plan_stage(self, stage: str) -> Sending:
        mean = self._read_mean_tokens(stage)
        if self._is_known(stage):
            needed, survey = survey_requests(self._build_requests(stage), self.journal)
            missing, prompts, most, _ = survey
            keys = [request.key for request in islice(self._build_requests(stage), _SAMPLE)]
            if found := self.journal.find(keys).values():
                mean = sum(answer.completion_tokens for answer in found) / len(found)
        else:
            needed = missing = self._bound_requests(stage)
            try:
                alike = list(islice(self._build_requests(stage), _SAMPLE))
            except AmalgamError:  # what they would be made of is not there
                alike = []
            if not alike:
                return Sending(stage, needed, missing, exact=False)
            survey = measure_requests(alike)
            prompts = round(needed * sum(map(guess_prompt_tokens, alike)) / len(alike))
            most = round(needed * survey.completion_tokens / len(alike))
        about = most if mean is None else min(round(mean * missing), most)
        return Sending(stage, needed, missing, self._is_known(stage), prompts, about, most, mean is not None)

    def _is_known(self, stage: str) -> bool:
        """Say whether what the requests are made of is there, as it will be when the stage runs."""
        # At an endpoint, the name of a model is its identity; of a file, the hash is, which must be known.
        models = {"models"} if self.params.llm.endpoint == "embedded" else set()
        return not (_STAGES[stage][0] | models) & set(self.stages)

    def _bound_requests(self, stage: str) -> int:
        """Return how many requests the stage needs at most; where they are known, they are counted."""
        params, labels = self.params, len(self.task.labels)
        if stage == "synthesize":
            return -(-params.synthesis.rows // params.prompts.responses) * labels
        if stage == "judge":
            responses = params.synthesis.rows + params.prompts.responses - 1  # the last answer may hold too many
            most = self._limit_grades()
            return labels * (responses if most is None else min(most, responses))
        return self._count_test_rows() if params.baselines.llm_grader else 0

    def _build_requests(self, stage: str) -> Iterator[Request]:
        """Yield the requests of a stage; where they are not known, some that are like them."""
        if stage == "synthesize":
            yield from self._build_rounds()
        elif stage == "judge":
            yield from self._build_grading(self._list_gradable())
        else:
            for path in sorted((self.project / "data/prepared").glob("*test.csv")):
                yield from self._build_grading(read_rows(path))

    def _build_rounds(self) -> Iterator[Request]:
        """Yield what is asked first, and where all of it is answered also what is asked again, and so on."""
        with tempfile.TemporaryDirectory() as folder:
            path = self.project / "data/prompts.jsonl"
            if "prompts" in self.stages:
                data, params = self.project / "data", self.params
                folders = [data / "tasks" / params.task / "templates", data / "templates"]
                template = load_template(params.prompts.template, folders)
                train = read_rows(data / "prepared/train.csv")
                prompts = build_prompts(self.task, train, template, params.prompts, params.synthesis.rows)
                path = Path(folder) / path.name
                write_jsonl(path, islice(prompts, None if self._is_known("synthesize") else _SAMPLE))
            llm = self.params.llm
            rounds = Rounds(read_prompts(path), self._read_model(), self.params.synthesis, llm.body)
            while requests := rounds.build_requests():
                yield from requests
                answers = []
                for start in range(0, len(requests), _CHUNK):
                    keys = [request.key for request in requests[start : start + _CHUNK]]
                    found = self.journal.find(keys)
                    answers += [found[key] for key in keys if key in found]
                if len(answers) < len(requests):
                    return
                rounds.add_answers(answers)

    def _list_gradable(self) -> pd.DataFrame:
        """List the responses that the judge grades; where there are none yet, one dummy of their size."""
        folder, params = self.project / "data/completions", self.params
        if (folder / "summary.json").is_file():
            return select_gradable(iterate_responses(folder), self.task.label_names, self._limit_grades())
        size = params.synthesis.max_tokens * BYTES_A_TOKEN // params.prompts.responses
        return pd.DataFrame({"id": ["dummy"], "text": ["x" * size], "question": [""]})

    def _limit_grades(self) -> int | None:
        return None if self.params.curation.consistency == "judge" else self.params.judge.rows

    def _build_grading(self, rows: pd.DataFrame) -> list[Request]:
        train, params = read_rows(self.project / "data/prepared/train.csv"), self.params
        return build_grading_requests(self.task, rows, train, self._read_model(), params.judge, params.llm.body)

    def _count_test_rows(self) -> int:
        """Count the rows that can become test rows, those of a transfer test included."""
        transfer = 0
        if "prepare" not in self.stages:
            path = self.project / "data/prepared/transfer_test.csv"
            transfer = len(read_rows(path)) if path.is_file() else 0
        elif isinstance(self.task.source, FileSource):
            data = self.project / "data"
            with suppress(DataError):  # `prepare` will say so
                transfer = len(load_task_rows(self.task, data / "tasks" / self.params.task, data).transfer)
        return self.params.split.test + transfer

    def _read_model(self) -> str:
        if self.params.llm.endpoint != "embedded":
            return self.params.llm.model
        if "models" in self.stages:
            return ""  # not known yet: the requests are only like those that will be sent
        return str(read_json(self.project / "models/base/llm/identity.json")["model"])

    def _read_mean_tokens(self, stage: str) -> float | None:
        """Return the tokens of an answer in the stage's last outputs, on average; None where there are none."""
        try:
            summary = read_json(self.project / _STAGES[stage][1])
            summary = summary["llm_grader"] if stage == "baselines" else summary
            count = {"synthesize": "answers", "judge": "rows", "baselines": "requests"}[stage]
            return float(summary["completion_tokens"] / summary[count])
        except (DataError, KeyError, TypeError, ZeroDivisionError):
            return None
