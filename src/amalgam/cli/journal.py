"""`amalgam journal`: what the journal of LLM answers holds, and how answers get in and out of it without DVC."""

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from amalgam.errors import DataError
from amalgam.llm.journal import ModelSummary, open_journal
from amalgam.llm.request import StoredAnswer, explain_fault
from amalgam.machine import notify

_PLACE = Path(".cache/journal.sqlite")
_GZIP = b"\x1f\x8b"  # how such a file begins, whatever its name
_SHOWN = 20  # bad lines of a file that are named one by one
_HASH = 12  # hexadecimal digits of a model file's hash that are shown


def run_show(project: Path, *, as_json: bool) -> None:
    """Print what the journal holds, as JSON in bytes and US dollars; one that is not there yet holds nothing."""
    path = project / _PLACE
    contents: dict[str, Any] = {"journal": str(_PLACE), "bytes": 0, "answers": 0, "spending_usd": 0.0}
    models, batches = [], []
    if path.exists():
        with open_journal(path) as journal:
            models, batches = journal.summarise(), journal.list_batches()
            files = [file for file in (path, Path(f"{path}-wal")) if file.exists()]
            contents["bytes"] = sum(file.stat().st_size for file in files)
            contents["answers"] = sum(model.answers for model in models)
            contents["spending_usd"] = journal.read_spending()
    if as_json:
        print(json.dumps(contents | {"models": [*map(asdict, models)], "batches": [*map(asdict, batches)]}, indent=2))
        return
    if not models:
        print(f"{_PLACE} holds no answers yet")
    else:
        _print_models(models)
        size = f"{_PLACE}: {_count(contents['answers'])}, {contents['bytes'] / 1e6:.1f} MB"
        print(f"{size}; {contents['spending_usd']:.4f} USD spent from this clone")
    for batch in batches:
        remote = f"as {batch.remote}" if batch.remote else "if it arrived"
        print(f"batch {batch.name} with {batch.keys} requests waits at the endpoint, {remote}: run again to collect it")


def run_export(project: Path, target: Path) -> None:
    """Write all answers as JSON lines in the order of their keys, compressed where the name ends with .gz.

    A line holds the key, the answer, the model, the sample and the sampling settings; no prompt, no key of an
    endpoint and no path. Equal journals give equal files.
    """
    temporary, count = target.with_name(f".{target.name}.{os.getpid()}.tmp"), 0
    with open_journal(_find_journal(project)) as journal:
        try:
            with temporary.open("wb") as plain:
                is_packed = target.suffix == ".gz"  # neither name nor time goes into such a file
                with gzip.GzipFile("", "wb", fileobj=plain, mtime=0) if is_packed else nullcontext(plain) as stream:
                    for line in journal.iterate():
                        stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                        count += 1
            temporary.replace(target)
        except OSError as error:
            reason = f"{target} cannot be written ({error.strerror})"
            raise DataError(f"{reason}: name another file or free its disk") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    print(f"{_count(count)} exported to {target}")


def run_import(project: Path, source: Path) -> None:
    """Read answers in from a file, or from the files in a folder at any depth, and say how many were new.

    Raises:
        DataError: a file holds a line that is no answer; nothing of such a file is imported, all of the others is.
    """
    paths = [source] if source.is_file() else sorted({*source.rglob("*.jsonl"), *source.rglob("*.jsonl.gz")})
    if not paths:
        raise DataError(f"{source} is no file and no folder with .jsonl or .jsonl.gz files: name an export of answers")
    bad = lines = new = 0
    with open_journal(project / _PLACE) as journal:
        for path in paths:
            answers, faults = 0, []
            for number, line in _read_lines(path):
                if isinstance(line, str):
                    faults.append(f"{path}, line {number} is no stored answer ({line}): mend or delete it")
                answers += not isinstance(line, str)
            more = [f"{path} has {len(faults) - _SHOWN} more such lines"] if len(faults) > _SHOWN else []
            for sentence in faults[:_SHOWN] + more:
                notify(sentence)
            if faults:
                bad += 1
            else:
                new += journal.seed(one.model_dump() for _, one in _read_lines(path) if isinstance(one, StoredAnswer))
                lines += answers
    print(f"{_count(lines)} read from {source}: {new} new, {lines - new} known already")
    if bad:
        raise DataError(f"{bad} of {len(paths)} files were left out, see above: mend them and import again")


def run_seed(project: Path) -> None:
    """Read in all answers that DVC has of this project, and say how many were new."""
    from amalgam.dvc import iterate_shared_answers

    files = new = 0
    with open_journal(project / _PLACE) as journal:
        for source, lines in iterate_shared_answers(project, notify, journal.is_seeded):
            new += journal.seed(lines)
            journal.mark_seeded(source)
            files += 1
    print(f"{_count(new)} new, from {files} files of answers that were not read in before")


def run_forget(project: Path, batch: str) -> None:
    """Give up a batch, so that its requests are sent again."""
    with open_journal(_find_journal(project)) as journal:
        found = {one.name: one for one in journal.list_batches()}.get(batch)
        if not found:
            raise DataError(f"no batch {batch} is open: `amalgam journal show` lists those that are")
        journal.close_batch(batch)
    print(f"the batch {batch} is given up: its {found.keys} requests will be sent again where they have no answer")


def _read_lines(path: Path) -> Iterator[tuple[int, StoredAnswer | str]]:
    """Yield the number of each line that is not blank, and the answer in it or what is wrong with it."""
    number = 0
    try:
        with path.open("rb") as plain, gzip.GzipFile(fileobj=plain) as packed:
            for number, text in enumerate(packed if plain.peek(2).startswith(_GZIP) else plain, start=1):
                if text.strip():
                    try:
                        yield number, StoredAnswer.model_validate_json(text)
                    except ValidationError as error:
                        yield number, explain_fault(error)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield number + 1, f"the compressed file is damaged: {error}"
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): allow reading it, or name another file") from error


def _find_journal(project: Path) -> Path:
    if not (project / _PLACE).exists():
        raise DataError(f"there is no journal at {_PLACE} yet: run this at the top of a project that has sent requests")
    return project / _PLACE


def _print_models(models: list[ModelSummary]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("model", box=None, pad_edge=False)
    for title in ("answers", "read in", "prompt tokens", "completion tokens", "USD"):
        table.add_column(title, justify="right")
    for model in models:
        name, colon, digits = model.model.partition("sha256:")
        shown = f"sha256:{digits[:_HASH]}" if colon and not name else model.model or "not named"
        cost = f"{model.cost_usd:.4f}" + (f" and {model.unpriced} without price" if model.unpriced else "")
        numbers = (model.answers, model.seeded, model.prompt_tokens, model.completion_tokens)
        table.add_row(Text(shown), *map(str, numbers), "no price" if model.unpriced == model.answers else cost)
    Console().print(table)


def _count(answers: int) -> str:
    return "1 answer" if answers == 1 else f"{answers} answers"
