"""Asking for responses: a request a slot, and again where an answer is of no use, until there are enough."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from amalgam.errors import DataError
from amalgam.llm.answering import Answering, answer_requests
from amalgam.llm.request import NO_FIELDS, TOKEN_LIMITS, Answer, Request, override_bodies
from amalgam.machine import notify
from amalgam.params import Synthesis
from amalgam.synthesis.reading.faults import phrase_main_fault
from amalgam.synthesis.responses import build_response_format, parse_answer

# The sample number of an attempt is that of its slot plus a multiple of this: new at each attempt, and the same
# whatever `synthesis.rows` is.
_STRIDE = 10_000_000
_HELP = "raise `synthesis.max_tokens` or `synthesis.attempts`, or change the prompt"

Prompt = dict[str, Any]
MakePrompts = Callable[[], Iterable[Prompt]]


class Tally:
    """What the answers so far hold: usable responses and faults by label, and the slots that hold too few.

    A slot is a line of `data/prompts.jsonl`: it wants a number of responses from one answer, and is asked again
    where they are not all usable.
    """

    def __init__(self) -> None:
        """Start with no answer."""
        self.usable: Counter[str] = Counter()
        self.faults: dict[str, Counter[str]] = {}
        self.attempts: Counter[str] = Counter()  # by slot: how often it was asked again
        self._answers: Counter[str] = Counter()
        self._examples: dict[tuple[str, str], str] = {}  # by label and fault: an answer
        self._missing: dict[str, dict[str, int]] = {}  # by label, then slot: usable responses that it lacks
        self._most: dict[str, int] = {}  # by label: responses that one answer can bring

    def add(self, prompt: Prompt, answer: Answer) -> None:
        """Count what an answer to a slot holds."""
        label, slot = prompt["label"], prompt["id"]
        wanted: int = prompt["responses"]
        texts, fault = parse_answer(answer.text, answer.finish_reason, prompt["format"], wanted)
        self._most[label] = wanted
        self.usable[label] += len(texts)
        self._answers[label] += 1
        faults = self.faults.setdefault(label, Counter())
        if fault:
            faults[fault] += 1
            self._examples.setdefault((label, fault), answer.text)
        missing = self._missing.setdefault(label, {})
        missing[slot] = missing.get(slot, wanted) - len(texts)
        if missing[slot] <= 0:
            del missing[slot]

    def choose_slots(self, rows: int) -> set[str]:
        """Choose the slots to ask again, so that each label may reach `rows` usable responses; count the attempt."""
        chosen: set[str] = set()
        for label, missing in self._missing.items():
            needed = -(-(rows - self.usable[label]) // self._most[label])
            chosen.update(list(missing)[: max(needed, 0)])
        self.attempts.update(chosen)
        return chosen

    def describe_main_fault(self) -> tuple[str, str]:
        """Return the fault that most answers have, and half a sentence about it; both are "" where there is none."""
        return phrase_main_fault(self.faults, self._answers, self._examples)

    def describe_shortfall(self, rows: int) -> str:
        """Say by label what there is and what came instead, or "" where no label lacks anything."""
        return "; ".join(
            f"label {label!r} has {self.usable[label]} of {rows} usable responses ({_phrase_counts(faults)})"
            for label, faults in self.faults.items()
            if self.usable[label] < rows
        )


def build_requests(
    pairs: Iterable[tuple[Prompt, int]], model: str, params: Synthesis, fields: Mapping[str, Any] = NO_FIELDS
) -> Iterator[Request]:
    """Turn prompts, each with the number of its attempt, into requests; the sample number is also the seed.

    Each attempt has half of `max_tokens` more, by whichever name `fields` has it: some prompts bring a long answer
    time after time. `fields` are those of `llm.body`.
    """
    for prompt, attempt in pairs:
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
        rows = tuple(prompt.get("shots", ()))
        request = Request(_name_answer(prompt, attempt), model, body, sample, prompt["group"], rows)
        for asked in override_bodies([request], fields):
            for name in asked.body.keys() & set(TOKEN_LIMITS):
                asked.body[name] += attempt * asked.body[name] // 2
            yield asked


def collect_completions(prompts: MakePrompts, model: str, params: Synthesis, answering: Answering) -> Tally:
    """Ask until there are `params.rows` usable responses a label; the journal then holds every answer.

    An answer that holds no usable response is asked for again with a new sample number, in rounds
    over all slots, so that nothing is paid for beyond what is still missing.

    Args:
        prompts: yields the lines of `data/prompts.jsonl` anew at each call.
        model: identity of the model.
        params: rows, attempts, and how to sample.
        answering: who answers, and where answers are kept.

    Raises:
        DataError: the attempts are used up and a label still has too few usable responses.
    """
    tally = Tally()
    chosen: set[str] | None = None
    told: set[str] = set()
    for attempt in range(params.attempts + 1):
        asked = [prompt for prompt in prompts() if chosen is None or prompt["id"] in chosen]
        pairs = ((prompt, tally.attempts[prompt["id"]]) for prompt in asked)
        requests = list(build_requests(pairs, model, params, answering.llm.body))
        answers = answer_requests(
            requests, answering, f"synthesize, attempt {attempt + 1}" if attempt else "synthesize"
        )
        for prompt, answer in zip(asked, answers, strict=True):
            tally.add(prompt, answer)
        fault, sentence = tally.describe_main_fault()
        if fault and fault not in told:
            told.add(fault)
            notify(f"synthesize: {sentence}")
        if attempt < params.attempts:
            chosen = tally.choose_slots(params.rows)
            if not chosen:
                break
    if shortfall := tally.describe_shortfall(params.rows):
        cause = f"; {sentence}" if sentence else f": {_HELP}"
        raise DataError(f"after {params.attempts + 1} attempts {shortfall}{cause}; the answers are kept")
    return tally


def iterate_asked(
    prompts: MakePrompts, tally: Tally, model: str, params: Synthesis, answering: Answering
) -> Iterator[tuple[Prompt, int, Request, Answer]]:
    """Yield all that was asked, by slot, label and attempt: prompt, number of the attempt, request and answer."""
    asked = [(prompt, attempt) for prompt in prompts() for attempt in range(tally.attempts[prompt["id"]] + 1)]
    requests = list(build_requests(asked, model, params, answering.llm.body))
    answers = answer_requests(requests, answering, "synthesize")
    for (prompt, attempt), request, answer in zip(asked, requests, answers, strict=True):
        yield prompt, attempt, request, answer


def _name_answer(prompt: Prompt, attempt: int) -> str:
    return f"{prompt['id']}r{attempt}" if attempt else str(prompt["id"])


def _phrase_counts(faults: Counter[str]) -> str:
    return ", ".join(f"{count} {fault}" for fault, count in sorted(faults.items())) or "no fault"
