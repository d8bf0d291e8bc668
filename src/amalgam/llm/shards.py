"""Folders of raw answers: JSON Lines, cut into files by slot, so that a pool that grows leaves its full files alone.

A slot is the number of a place that an answer fills; several lines may fill one. The file `00003.jsonl` holds the
lines of the slots 3000 to 3999, whatever there is beyond. A line holds `key` and the fields of `Answer`, by which
the journal can take it in again, `sample`, the number of its slot, and whatever else a stage wants to keep.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from amalgam.files import read_jsonl, write_jsonl

_SLOTS = 1000  # a file; some hundred kilobytes, which are quick to hash and to send
_NAMES = "[0-9][0-9][0-9][0-9][0-9].jsonl"


def write_answers(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write lines into the files of their slots, streaming, and remove files that no line belongs to.

    Args:
        folder: made where it is missing; may hold other files as well.
        lines: in ascending order of `sample`.

    Raises:
        ValueError: a line belongs to a file that is complete already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for shard, part in groupby(lines, key=_find_shard):
        path = folder / f"{shard:05d}.jsonl"
        if written and path <= written[-1]:
            raise ValueError(f"the slots of {path} come after those of {written[-1].name}")
        write_jsonl(path, part)
        written.append(path)
    for path in set(folder.glob(_NAMES)) - set(written):
        path.unlink()


def read_answers(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that `write_answers` wrote, in order, streaming; nothing where the folder is missing.

    DVC keeps no empty folders, so a missing one may be one without answers. Who reads has to know how many to expect.

    Raises:
        DataError: a line is not JSON; it names file and line.
    """
    for path in sorted(folder.glob(_NAMES)):
        yield from read_jsonl(path)


class Totals:
    """What the answers of lines took, summed."""

    def __init__(self) -> None:
        """Start with no line."""
        self._prompt_tokens = self._completion_tokens = 0
        self._cost: float | None = 0.0

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a line; one whose price is unknown makes the cost unknown."""
        self._prompt_tokens += line["prompt_tokens"]
        self._completion_tokens += line["completion_tokens"]
        if self._cost is not None:
            self._cost = None if line["cost_usd"] is None else self._cost + line["cost_usd"]

    def to_dict(self) -> dict[str, Any]:
        """Return the sums; the cost in US dollars, None where it is unknown."""
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "cost_usd": None if self._cost is None else round(self._cost, 6),
        }


def _find_shard(line: dict[str, Any]) -> int:
    return int(line["sample"]) // _SLOTS
