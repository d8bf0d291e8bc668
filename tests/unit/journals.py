"""A journal with known answers, and ways to look at it from outside, for the tests of damage."""

import subprocess
import sys
from pathlib import Path

from amalgam.llm.journal import Journal
from amalgam.llm.request import Answer, Request

PAGE = 4096
COUNT = 300
REQUESTS = [Request("r", "m", {"temperature": 0.7, "number": number}, number) for number in range(COUNT)]
KEYS = [request.key for request in REQUESTS]
# Some are longer than a page; every second has a price.
ANSWERS = [
    Answer(f"é{number}" * (2000 if number % 50 == 0 else 20), "stop", number, 1, 0.5 if number % 2 else None)
    for number in range(COUNT)
]
OPENER = """
import sys
from pathlib import Path
from amalgam.llm.journal import open_journal
print("ready", flush=True)
sys.stdin.readline()
with open_journal(Path(sys.argv[1]), print) as journal:
    journal.count_missing(sys.argv[2:])
    list(journal.iterate())
"""


def fill(journal: Journal) -> None:
    for start in range(0, COUNT, 10):
        journal.record(list(zip(REQUESTS, ANSWERS, strict=True))[start : start + 10])
    journal.add_batch("one", KEYS[:50])
    journal.set_batch_remote("one", "batch_1")
    journal.mark_seeded("folder")


def find_page(path: Path, kind: int, content: bytes = b"") -> int:
    """Find where the first page of a kind begins that holds the bytes; 13 are leaves of tables, 10 of indexes."""
    data = path.read_bytes()
    starts = range(PAGE, len(data), PAGE)
    return next(start for start in starts if data[start] == kind and content in data[start : start + PAGE])


def overwrite(path: Path, start: int, content: bytes) -> None:
    with path.open("rb+") as stream:
        stream.seek(start)
        stream.write(content)


def list_missing(journal: Journal) -> list[int]:
    found = journal.find(KEYS)
    return [number for number, key in enumerate(KEYS) if key not in found]


def run_opener(path: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", OPENER, str(path), *KEYS]
    return subprocess.run(command, input="\n", stdout=subprocess.PIPE, text=True, check=True).stdout
