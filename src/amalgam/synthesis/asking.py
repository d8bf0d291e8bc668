"""Ask for responses, until there are enough: one request per slot (a line of `data/prompts.jsonl`) and attempt."""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, chain
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from amalgam.errors import DataError
from amalgam.files import write_json
from amalgam.llm.answering import Answering, answer_requests
from amalgam.llm.request import NO_FIELDS, TOKEN_LIMITS, Answer, Request, override_bodies, sum_answers, write_answers
from amalgam.machine import notify
from amalgam.params import Synthesis
from amalgam.synthesis.answers import NO_REASONING, SUMMARY, describe_json, list_keys, parse_answer, shorten_example

Prompt = dict[str, Any]

ATTEMPTS = 10  # times that a slot is asked again
# The sample number of an attempt is that of its slot plus a multiple of this: new for each attempt, and independent of
# `synthesis.rows`.
_STRIDE = 10_000_000
_KEPT = ("label", "sample", "question", "shots", "attributes", "responses", "format")  # of a prompt, with its answer
_ENOUGH = 0.9  # of the responses wanted per label: a few prompts that bring none must not end a run that is paid for
_HANDFUL = 5  # answers; fewer say nothing about the rest
_WORDING = "use another model, or change the wording in `data/templates` or the task's `task.yaml`"
_HELP = {  # what most answers have in common, and what helps; more rows never help
    "error": ("end with an endpoint error", "check the endpoint's log, or use another endpoint or model"),
    "refusal": ("are refused or filtered", _WORDING),
    "cut_off": ("are cut off", f"raise `synthesis.max_tokens`, or {NO_REASONING}"),
    "thinking": ("contain only thinking", f"{NO_REASONING}, or raise `synthesis.max_tokens`"),
    "announcement": ("only announce a response", _WORDING),
    "empty": ("are empty", "check the endpoint's log and chat template, or use another model"),
    "malformed": ("are not in the requested format", "set `prompts.responses: 1` and `prompts.format: text`"),
}


@dataclass(frozen=True)
class _Lazy(Sequence[Any]):
    """A sequence that makes its items from numbers on access, so that a million items need no memory."""

    make: Callable[[int], Any]
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: Any) -> Any:
        return self.make(self.numbers[place])


class Rounds:
    """The rounds of requests: first all slots, then those that a label still needs, with a new sample number."""

    def __init__(
        self, prompts: Sequence[Prompt], model: str, params: Synthesis, fields: Mapping[str, Any] = NO_FIELDS
    ) -> None:
        """Start with a round over all prompts; `model` is the LLM's identity, `fields` are those of `llm.body`."""
        self._prompts, self._model, self._params, self._fields = prompts, model, params, fields
        self._slots: Sequence[int] = range(len(prompts))  # of this round
        self._missing: dict[str, dict[int, int]] = {}  # by label, then slot: number of missing responses
        self._examples: dict[tuple[str, str], str] = {}  # by label and fault: an answer
        self.answers: list[list[Answer]] = [[] for _ in prompts]  # by slot
        self.number = 0  # of this round
        self.usable: Counter[str] = Counter()  # responses, by label
        self.faults: dict[str, Counter[str]] = {}  # answers by label and fault, "" where there is none

    def build_requests(self) -> Sequence[Request]:
        """Build the requests of this round, each on access; none if there is nothing more to ask."""
        return _Lazy(lambda slot: self.build_request(slot, len(self.answers[slot])), self._slots)

    def build_request(self, slot: int, attempt: int) -> Request:
        """Build the request of a slot; each attempt adds half of `max_tokens`: some prompts always bring long ones."""
        prompt, params = self._prompts[slot], self._params
        sample = prompt["sample"] + attempt * _STRIDE
        body = {
            "messages": prompt["messages"],
            "temperature": params.temperature,
            "top_p": params.top_p,
            "max_tokens": params.max_tokens,
            "seed": sample,
        }
        if prompt["format"] == "json":
            body["response_format"] = build_response_format(prompt["responses"])
        name = f"{prompt['id']}r{attempt}" if attempt else prompt["id"]
        request = Request(name, self._model, body, sample, prompt["group"], tuple(prompt.get("shots", ())))
        (request,) = override_bodies([request], self._fields)
        for limit in request.body.keys() & set(TOKEN_LIMITS):
            request.body[limit] += attempt * request.body[limit] // 2
        return request

    def add_answers(self, answers: Sequence[Answer]) -> None:
        """Read the answers of this round, and choose the first slots that lack responses for the next one."""
        for slot, answer in zip(self._slots, answers, strict=True):
            prompt = self._prompts[slot]
            label, wanted = str(prompt["label"]), int(prompt["responses"])
            texts, fault = parse_answer(answer.text, answer.finish_reason, prompt["format"], wanted, label)
            self.answers[slot].append(answer)
            self.usable[label] += len(texts)
            self.faults.setdefault(label, Counter())[fault] += 1
            self._examples.setdefault((label, fault), answer.text)
            missing = self._missing.setdefault(label, {})
            missing[slot] = missing.get(slot, wanted) - len(texts)
            if missing[slot] <= 0:
                del missing[slot]
        self.number += 1
        chosen: list[int] = []
        for label, missing in self._missing.items():
            needed = -(-(self._params.rows - self.usable[label]) // self._prompts[0]["responses"])
            chosen += list(missing)[: max(needed, 0)]
        self._slots = sorted(chosen) if self.number <= ATTEMPTS else []

    def describe_main_fault(self) -> tuple[str, str]:
        """Return the fault of most answers, of all or of one label, and a clause about it; or "" and ""."""
        for labels in ([*self.faults], *([label] for label in self.faults)):
            counts: Counter[str] = sum((self.faults[label] for label in labels), Counter())
            ((fault, count),) = counts.most_common(1) or [("", 0)]
            if fault and count >= _HANDFUL and 2 * count > counts.total():
                what, helps = _HELP[fault]
                text = next(filter(None, (self._examples.get((label, fault)) for label in labels)), "")
                of = f" for label {labels[0]!r}" if len(labels) < len(self.faults) else ""
                such = f", such as {shorten_example(text)}" if text else ""
                return fault, f"{count} of {counts.total()} answers{of} {what}{such}: {helps}"
        return "", ""

    def describe_shortfall(self, share: float = 1.0) -> str:
        """List usable responses and faults of the labels with less than this share of the wanted ones, or ""."""
        return "; ".join(
            f"label {label!r} has {self.usable[label]} of {self._params.rows} usable responses "
            f"({', '.join(f'{count} {fault}' for fault, count in sorted(faults.items()) if fault) or 'no fault'})"
            for label, faults in self.faults.items()
            if self.usable[label] < share * self._params.rows
        )

    def build_lines(self) -> Iterator[dict[str, Any]]:
        """Yield a line of `data/completions/` for each answer, by slot, label and attempt."""
        for slot, answers in enumerate(self.answers):
            kept = {name: self._prompts[slot][name] for name in _KEPT}
            for attempt, answer in enumerate(answers):
                request = self.build_request(slot, attempt)
                yield {"key": request.key, "id": request.id, "attempt": attempt, **kept, **asdict(answer)}


def collect_answers(rounds: Rounds, answering: Answering) -> None:
    """Ask until each label has enough usable responses, or the last attempt brought most of them."""
    told: set[str] = set()
    sentence = ""
    while requests := rounds.build_requests():
        title = f"synthesize, attempt {rounds.number + 1}" if rounds.number else "synthesize"
        rounds.add_answers(answer_requests(requests, answering, title))
        fault, sentence = rounds.describe_main_fault()
        if fault and fault not in told:
            told.add(fault)
            notify(f"synthesize: {sentence}")
    if shortfall := rounds.describe_shortfall():
        found = f"after {rounds.number} attempts {shortfall}"
        if rounds.describe_shortfall(_ENOUGH):
            cause = sentence or "raise `synthesis.max_tokens`, or change the prompt"
            raise DataError(f"{found}; {cause}; the answers are kept")
        notify(f"synthesize: {found}; the run continues with these")


def write_completions(folder: Path, rounds: Rounds) -> None:
    """Write all answers as received, and a summary next to them, so that a missing part is noticed."""
    write_answers(folder, rounds.build_lines())
    totals = sum_answers(asdict(answer) for answer in chain.from_iterable(rounds.answers))
    faults = sum(rounds.faults.values(), Counter[str]())
    counts = {"answers": faults.total(), "asked_again": faults.total() - len(rounds.answers)}
    faults.pop("", None)
    found = {"usable": dict(sorted(rounds.usable.items())), "faults": dict(sorted(faults.items()))}
    write_json(folder / SUMMARY, counts | found | totals)


def read_prompts(path: Path) -> Sequence[Prompt]:
    """Open `data/prompts.jsonl`; each line is read on access."""
    with path.open("rb") as stream:
        starts = array("Q", accumulate(map(len, stream), initial=0))
        data = mmap(stream.fileno(), 0, access=ACCESS_READ) if starts[-1] else b""
    return _Lazy(lambda line: json.loads(data[starts[line] : starts[line + 1]]), range(len(starts) - 1))


def build_response_format(responses: int) -> dict[str, Any]:
    """Build the `response_format` of a request whose answer is JSON.

    Several responses are several keys of one object, not an array: Azure and OpenAI's fine-tuned models reject a
    strict schema that bounds the length of an array, and without bounds a small model writes one item or hundreds.
    """
    return describe_json("responses", {key: {"type": "string"} for key in list_keys(responses)})
