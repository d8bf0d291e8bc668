"""`data/completions/`: every answer of the LLM as it came, in shards, and the responses that are in them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from amalgam.errors import DataError
from amalgam.files import read_json, write_json
from amalgam.llm.request import Answer, Request, Totals, read_answers, write_answers
from amalgam.synthesis.responses import parse_answer

_SUMMARY = "summary.json"
_KEPT = ("label", "sample", "question", "shots", "attributes", "responses", "format")  # of a prompt, beside its answer


def build_lines(asked: Iterable[tuple[dict[str, Any], int, Request, Answer]]) -> Iterator[dict[str, Any]]:
    """Make a line of each answer, from what was asked: prompt, attempt, request and answer."""
    for prompt, attempt, request, answer in asked:
        kept = {name: prompt[name] for name in _KEPT}
        yield {"key": request.key, "id": request.id, "attempt": attempt, **kept, **asdict(answer)}


def write_completions(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write the lines into shards, and beside them what they hold, so that a missing part is noticed."""
    contents = _Contents()
    write_answers(folder, contents.watch(lines))
    write_json(folder / _SUMMARY, contents.to_dict())


def read_completions(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of all shards in order.

    Raises:
        DataError: there are not as many lines as were written, so a part of the folder is missing.
    """
    expected = read_json(folder / _SUMMARY)["answers"]
    found = 0
    for line in read_answers(folder):
        found += 1
        yield line
    if found != expected:
        raise DataError(f"{folder} holds {found} of {expected} answers: run `dvc checkout` or `dvc repro synthesize`")


def iterate_responses(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield one dict a response (id, label, sample, question, shots, text, fault), in the order of the answers.

    `shots` are the ids of the human-coded examples that the LLM saw, with blanks between. An answer without a usable
    response yields one dict with its raw text and its fault.
    """
    for line in lines:
        texts, fault = parse_answer(line["text"], line["finish_reason"], line["format"], line["responses"])
        several = line["responses"] > 1 and not fault
        for number, text in enumerate(texts if not fault else [line["text"]], start=1):
            yield {
                "id": f"{line['id']}-{number}" if several else line["id"],
                **{name: line[name] for name in ("label", "sample", "question")},
                "shots": " ".join(line.get("shots", ())),  # older answers do not say
                "text": text,
                "fault": fault,
            }


class _Contents:
    """Counts over lines that pass by."""

    def __init__(self) -> None:
        self._totals = Totals()
        self._answers = self._asked_again = 0
        self._usable: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()

    def watch(self, lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass the lines on, and count them."""
        for line in lines:
            texts, fault = parse_answer(line["text"], line["finish_reason"], line["format"], line["responses"])
            self._usable[line["label"]] += len(texts)
            if fault:
                self._faults[fault] += 1
            self._answers += 1
            self._asked_again += line["attempt"] > 0
            self._totals.add(line)
            yield line

    def to_dict(self) -> dict[str, Any]:
        """Return what `summary.json` holds."""
        return {
            "answers": self._answers,
            "asked_again": self._asked_again,
            "usable": dict(sorted(self._usable.items())),
            "faults": dict(sorted(self._faults.items())),
            **self._totals.to_dict(),
        }
