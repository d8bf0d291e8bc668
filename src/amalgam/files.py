"""Reading and writing of files, so that a kill never leaves half of one."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from amalgam.errors import DataError


@contextmanager
def open_sibling(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a temporary sibling to write UTF-8 text or bytes; when the block ends well, it is flushed, then in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        opened: IO[Any] = temporary.open("wb") if binary else temporary.open("w", encoding="utf-8", newline="\n")
        with opened as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with open_sibling(path) as stream:
        stream.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write JSON with two blanks of indentation; keys stay in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, streaming."""
    with open_sibling(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is a DataError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run `dvc repro` to make it") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}): delete it and run `dvc repro`") from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; a broken line is a DataError with its number."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(
                        f"{path}, line {number} is not valid JSON: delete it and run `dvc repro`"
                    ) from error
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run `dvc repro` to make it") from error


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
