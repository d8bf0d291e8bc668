"""What the stages will ask the LLM, made of the project's files as the stages themselves make it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from amalgam.errors import DataError
from amalgam.files import read_json, read_jsonl
from amalgam.llm.journal import Journal
from amalgam.llm.request import BYTES_A_TOKEN, Request, override_bodies
from amalgam.params import Params
from amalgam.rows import iterate_rows, read_rows
from amalgam.synthesis.asking import Prompt, Tally, build_requests
from amalgam.synthesis.completions import iterate_responses, read_completions
from amalgam.synthesis.grading import build_grading_requests, select_gradable
from amalgam.synthesis.prompts import build_prompts
from amalgam.synthesis.templates import load_template
from amalgam.tasks.columns import load_task_rows
from amalgam.tasks.schema import FileSource, Task

_CHUNK = 500  # answers read at once
_SUMMARIES = {  # where an earlier run of a stage wrote how many tokens its answers had, and under which names
    "synthesize": ("data/completions/summary.json", (), "answers"),
    "judge": ("data/judgements/summary.json", (), "rows"),
    "baselines": ("data/baselines/summary.json", ("llm_grader",), "requests"),
}


@dataclass(frozen=True, slots=True)
class StageRequests:
    """The requests of one stage.

    Attributes:
        stage: its name.
        is_known: whether what they are made of is there, as it will be when the stage runs.
        most: how many they can be; where they are known, `make` says how many they are.
        make: yields them, streaming, with the help of the journal: an answer that is there and of no use is asked for
            again. Where they are not known, it yields such as are like them, or raises a DataError.
    """

    stage: str
    is_known: bool
    most: int
    make: Callable[[Journal], Iterable[Request]]


def list_requests(project: Path, params: Params, task: Task, stages: list[str]) -> list[StageRequests]:
    """List what the stages that will run ask, in their order; stages that ask nothing are left out.

    Args:
        project: the top folder.
        params: params.yaml as it is now.
        task: the task that they name.
        stages: the stages that will run.
    """
    files = _Files(project, params, task, stages)
    responses = params.synthesis.rows + params.prompts.responses - 1  # the last answer may hold more than is needed
    graded = responses if params.curation.consistency == "judge" else min(params.judge.rows, responses)
    labels = len(task.labels)
    listed = {
        "synthesize": (
            {"prepare"},
            -(-params.synthesis.rows // params.prompts.responses) * labels,
            files.make_synthesis,
        ),
        "judge": ({"prepare", "prompts", "synthesize"}, graded * labels, files.make_judging),
        "baselines": ({"prepare"}, files.count_test_rows() if params.baselines.llm_grader else 0, files.make_baselines),
    }
    # At an endpoint, the name of a model is its identity; of a file, the hash is, which must be known.
    models = {"models"} if params.llm.endpoint == "embedded" else set()
    return [
        StageRequests(stage, not (sources | models) & set(stages), most, make)
        for stage, (sources, most, make) in listed.items()
        if stage in stages and most
    ]


def read_mean_tokens(project: Path, stage: str) -> float | None:
    """Return the tokens of an answer in the stage's last outputs, on average; None where there are none."""
    path, place, count = _SUMMARIES[stage]
    try:
        summary = read_json(project / path)
        for name in place:
            summary = summary[name]
        return float(summary["completion_tokens"] / summary[count])
    except (DataError, KeyError, TypeError, ZeroDivisionError):
        return None


class _Files:
    """Makes requests of a project's files."""

    def __init__(self, project: Path, params: Params, task: Task, stages: list[str]) -> None:
        self._project, self._params, self._task, self._stages = project, params, task, stages
        self._data = project / "data"

    def make_synthesis(self, journal: Journal) -> Iterator[Request]:
        """Yield what is asked first, and where all of it is answered also what is asked again, and so on."""
        params, model = self._params.synthesis, self._read_model()
        tally = Tally()
        chosen: set[str] | None = None
        for attempt in range(params.attempts + 1):
            is_complete = True
            stream = (prompt for prompt in self._iterate_prompts() if chosen is None or prompt["id"] in chosen)
            while prompts := list(islice(stream, _CHUNK)):
                pairs = ((prompt, tally.attempts[prompt["id"]]) for prompt in prompts)
                requests = list(build_requests(pairs, model, params, self._params.llm.body))
                yield from requests
                found = journal.find([request.key for request in requests])
                for prompt, request in zip(prompts, requests, strict=True):
                    if request.key in found:
                        tally.add(prompt, found[request.key])
                    else:
                        is_complete = False
            chosen = tally.choose_slots(params.rows) if is_complete and attempt < params.attempts else set()
            if not chosen:
                return

    def make_judging(self, _journal: Journal) -> Iterator[Request]:
        """Yield the requests for a grade on synthetic responses; on dummies of their size where there are none yet."""
        rows = None if self._params.curation.consistency == "judge" else self._params.judge.rows
        if (self._data / "completions/summary.json").is_file():
            responses = iterate_responses(read_completions(self._data / "completions"))
            return self._grade(select_gradable(responses, self._task.label_names, rows))
        size = self._params.synthesis.max_tokens * BYTES_A_TOKEN // self._params.prompts.responses
        return self._grade([{"id": "dummy", "text": "x" * size, "question": ""}])

    def make_baselines(self, _journal: Journal) -> Iterator[Request]:
        """Yield the requests for a grade on the human-coded test rows."""
        for path in sorted((self._data / "prepared").glob("*test.csv")):
            yield from self._grade(iterate_rows(path))

    def count_test_rows(self) -> int:
        """Count the rows that can become test rows, those of a transfer test included."""
        transfer = 0
        if "prepare" not in self._stages:
            path = self._data / "prepared/transfer_test.csv"
            transfer = sum(1 for _ in iterate_rows(path)) if path.is_file() else 0
        elif isinstance(self._task.source, FileSource):
            try:
                rows = load_task_rows(self._task, self._data / "tasks" / self._params.task, self._data)
                transfer = len(rows.transfer)
            except DataError:  # `prepare` will say so
                pass
        return self._params.split.test + transfer

    def _grade(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Request]:
        examples = read_rows(self._data / "prepared/train.csv")
        requests = build_grading_requests(self._task, rows, examples, self._read_model(), self._params.judge)
        return override_bodies(requests, self._params.llm.body)

    def _iterate_prompts(self) -> Iterator[Prompt]:
        if "prompts" not in self._stages:
            return read_jsonl(self._data / "prompts.jsonl")
        params = self._params
        folders = [self._data / "tasks" / params.task / "templates", self._data / "templates"]
        template = load_template(params.prompts.template, folders)
        train = read_rows(self._data / "prepared/train.csv")
        return build_prompts(self._task, train, template, params.prompts, params.synthesis.rows)

    def _read_model(self) -> str:
        if self._params.llm.endpoint != "embedded":
            return self._params.llm.model
        if "models" in self._stages:
            return ""  # not known yet: the requests are only like those that will be sent
        return str(read_json(self._project / "models/base/llm/identity.json")["model"])
