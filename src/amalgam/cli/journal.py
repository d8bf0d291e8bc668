"""`amalgam journal`: what the journal of LLM answers holds, and how answers get in and out of it without DVC."""

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from amalgam.errors import DataError
from amalgam.llm.journal import Batch, Journal, ModelSummary, open_journal
from amalgam.llm.request import StoredAnswer, explain_fault
from amalgam.machine import notify

_PLACE = Path(".cache/journal.sqlite")
_GZIP = b"\x1f\x8b"  # how such a file begins, whatever its name
_SHOWN = 20  # bad lines of a file that are named one by one
_HASH = 12  # hexadecimal digits of a model file's hash that are shown


@dataclass(frozen=True, slots=True)
class Contents:
    """What `amalgam journal show` says; sizes in bytes, money in US dollars."""

    journal: str
    bytes: int
    answers: int
    spending_usd: float
    models: list[ModelSummary]
    batches: list[Batch]


def run_show(project: Path, *, as_json: bool) -> None:
    """Print what the journal holds; a journal that is not there yet holds nothing."""
    contents = examine_journal(project)
    if as_json:
        print(json.dumps(asdict(contents), indent=2))
    else:
        _print_contents(contents)


def run_export(project: Path, target: Path) -> None:
    """Write all answers into a file and say how many."""
    with open_journal(_find_journal(project)) as journal:
        print(f"{_count(export_answers(journal, target))} exported to {target}")


def run_import(project: Path, source: Path) -> None:
    """Read answers in from a file or a folder and say how many were new.

    Raises:
        DataError: a file holds a line that is no answer; nothing of such a file is imported, all of the others is.
    """
    paths = list_files(source)
    bad: list[Path] = []
    lines, new = 0, 0
    with open_journal(project / _PLACE) as journal:
        for path in paths:
            count, faults = check_file(path)
            for fault in faults:
                notify(fault)
            if faults:
                bad.append(path)
            else:
                new += journal.seed(line.model_dump() for _, line in read_lines(path) if isinstance(line, StoredAnswer))
                lines += count
    print(f"{_count(lines)} read from {source}: {new} new, {lines - new} known already")
    if bad:
        raise DataError(f"{len(bad)} of {len(paths)} files were left out, see above: mend them and import again")


def run_seed(project: Path) -> None:
    """Read in all answers that DVC has of this project, and say how many were new."""
    from amalgam.dvc import iterate_shared_answers

    folders, new = 0, 0
    with open_journal(project / _PLACE) as journal:
        for source, lines in iterate_shared_answers(project, notify, journal.is_seeded):
            new += journal.seed(lines)
            journal.mark_seeded(source)
            folders += 1
    print(f"{_count(new)} new, from {folders} files of answers that were not read in before")


def run_forget(project: Path, batch: str) -> None:
    """Give up a batch, so that its requests are sent again."""
    with open_journal(_find_journal(project)) as journal:
        found = {one.name: one for one in journal.list_batches()}.get(batch)
        if not found:
            raise DataError(f"no batch {batch} is open: `amalgam journal show` lists those that are")
        journal.close_batch(batch)
    print(f"the batch {batch} is given up: its {found.keys} requests will be sent again where they have no answer")


def examine_journal(project: Path) -> Contents:
    """Sum up what the journal holds."""
    path = project / _PLACE
    if not path.exists():
        return Contents(str(_PLACE), 0, 0, 0.0, [], [])
    with open_journal(path) as journal:
        models = journal.summarise()
        files = [file for file in (path, path.with_name(path.name + "-wal")) if file.exists()]
        return Contents(
            journal=str(_PLACE),
            bytes=sum(file.stat().st_size for file in files),
            answers=sum(model.answers for model in models),
            spending_usd=journal.read_spending(),
            models=models,
            batches=journal.list_batches(),
        )


def export_answers(journal: Journal, target: Path) -> int:
    """Write all answers as JSON lines in the order of their keys, compressed where the name ends with .gz.

    A line holds the key, the answer, the model, the sample and the sampling settings; no prompt, no key of an
    endpoint and no path. Equal journals give equal files.
    """
    count = 0
    with _open_target(target) as stream:
        for line in journal.iterate():
            stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


def list_files(source: Path) -> list[Path]:
    """List the files of answers in a folder, at any depth, or the one file.

    Raises:
        DataError: there is none.
    """
    if source.is_file():
        return [source]
    paths = sorted({*source.rglob("*.jsonl"), *source.rglob("*.jsonl.gz")})
    if not paths:
        raise DataError(f"{source} is no file and no folder with .jsonl or .jsonl.gz files: name an export of answers")
    return paths


def check_file(path: Path) -> tuple[int, list[str]]:
    """Count the answers in a file, and describe each line that is none in one sentence, the first ones of many."""
    faults: list[str] = []
    answers = more = 0
    for number, line in read_lines(path):
        if isinstance(line, StoredAnswer):
            answers += 1
        elif len(faults) < _SHOWN:
            faults.append(f"{path}, line {number} is no stored answer ({line}): mend or delete it")
        else:
            more += 1
    return answers, [*faults, f"{path} has {more} more such lines"] if more else faults


def read_lines(path: Path) -> Iterator[tuple[int, StoredAnswer | str]]:
    """Yield the number of each line that is not blank, and the answer in it or what is wrong with it.

    Raises:
        DataError: the file cannot be read.
    """
    number = 0
    try:
        with path.open("rb") as plain, gzip.GzipFile(fileobj=plain) as packed:
            for number, text in enumerate(packed if plain.peek(2).startswith(_GZIP) else plain, start=1):
                if text.strip():
                    yield number, _parse_line(text)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield number + 1, f"the compressed file is damaged: {error}"
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): allow reading it, or name another file") from error


def _parse_line(text: bytes) -> StoredAnswer | str:
    try:
        return StoredAnswer.model_validate_json(text)
    except ValidationError as error:
        return explain_fault(error)


@contextmanager
def _open_target(target: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Write to a temporary sibling, which takes the place of the target when all is on the disk."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as plain:
            if target.suffix == ".gz":
                # Neither name nor time goes into the file, so that equal journals give equal files.
                with gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as packed:
                    yield packed
            else:
                yield plain
            plain.flush()
            os.fsync(plain.fileno())
        temporary.replace(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror}): name another file or free its disk") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _find_journal(project: Path) -> Path:
    path = project / _PLACE
    if not path.exists():
        raise DataError(f"there is no journal at {_PLACE} yet: run this at the top of a project that has sent requests")
    return path


def _print_contents(contents: Contents) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not contents.answers:
        print(f"{contents.journal} holds no answers yet")
    else:
        table = Table("model", box=None, pad_edge=False)
        for title in ("answers", "read in", "prompt tokens", "completion tokens", "USD"):
            table.add_column(title, justify="right")
        for model in contents.models:
            numbers = (model.answers, model.seeded, model.prompt_tokens, model.completion_tokens)
            table.add_row(Text(_phrase_model(model.model)), *map(str, numbers), _phrase_cost(model))
        Console().print(table)
        size = f"{contents.journal}: {_count(contents.answers)}, {contents.bytes / 1e6:.1f} MB"
        print(f"{size}; {contents.spending_usd:.4f} USD spent from this clone")
    for batch in contents.batches:
        remote = f"as {batch.remote}" if batch.remote else "if it arrived"
        print(f"batch {batch.name} with {batch.keys} requests waits at the endpoint, {remote}: run again to collect it")


def _phrase_model(model: str) -> str:
    name, colon, digits = model.partition("sha256:")
    return f"sha256:{digits[:_HASH]}" if colon and not name else model or "not named"


def _phrase_cost(model: ModelSummary) -> str:
    if model.unpriced == model.answers:
        return "no price"
    return f"{model.cost_usd:.4f}" + (f" and {model.unpriced} without price" if model.unpriced else "")


def _count(answers: int) -> str:
    return "1 answer" if answers == 1 else f"{answers} answers"
