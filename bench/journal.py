"""Measure seconds and peak memory of opening a journal of a million answers and looking up all keys of a run.

Run `python -m bench.journal`, with `--answers 20000` for a quick try. It fills journals of two sizes and opens each in
its own process, which looks up all keys as a stage does, some thousand at a time.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request

_PART = 5000  # answers a transaction, and keys a look-up
_MEBIBYTE = 1024**2 if sys.platform == "darwin" else 1024  # the unit of `ru_maxrss`


def iterate_parts(count: int) -> Iterator[list[Request]]:
    """Yield different requests, `_PART` at a time."""
    for first in range(0, count, _PART):
        yield [make_request(number) for number in range(first, min(first + _PART, count))]


def make_request(number: int) -> Request:
    """Make the request with this number."""
    body = {"messages": [{"role": "user", "content": f"Write response {number}."}], "max_tokens": 64}
    return Request(f"r{number}", "served", body, number)


def fill_journal(path: Path, count: int) -> float:
    """Record answers of 20 words; return the seconds that it took."""
    start = time.perf_counter()
    with open_journal(path) as journal:
        for part in iterate_parts(count):
            answers = [Answer(" ".join([request.id] * 20), "stop", 260, 30, 0.0) for request in part]
            journal.record(list(zip(part, answers, strict=True)))
    return time.perf_counter() - start


def look_up(path: Path, count: int) -> tuple[float, float, int, float]:
    """Return seconds to open the journal, seconds to find all keys, how many were found, and peak memory in MiB."""
    start = time.perf_counter()
    with open_journal(path) as journal:
        opened = time.perf_counter()
        found = sum(len(journal.find([request.key for request in part])) for part in iterate_parts(count))
    seconds = time.perf_counter() - opened
    return opened - start, seconds, found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEBIBYTE


def main(answers: int) -> None:
    """Measure a tenth and the whole, then print the table."""
    print("| answers | MiB on disk | recorded in, s | opened in, s | all keys found in, s | peak memory, MiB |")
    print("|---|---|---|---|---|---|")
    for count in (answers // 10, answers):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "journal.sqlite"
            recorded = fill_journal(path, count)
            with get_context("spawn").Pool(1) as pool:
                opened, seconds, found, memory = pool.apply(look_up, (path, count))
            if found != count:
                sys.exit(f"{found} of {count} answers were found")
            size = path.stat().st_size / 1024**2
        print(f"| {count} | {size:.0f} | {recorded:.1f} | {opened:.2f} | {seconds:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=1_000_000, help="answers in the larger journal")
    main(parser.parse_args().answers)
