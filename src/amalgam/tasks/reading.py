"""Read any table that people have as a frame of text cells, with what was found out about its file."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from amalgam.downloads import NoAnswerError, explain_hub_errors
from amalgam.errors import DataError
from amalgam.tasks.exports import spread_argilla
from amalgam.tasks.formats import Format, Source, note_encoding, open_source
from amalgam.tasks.tables import iterate_dataset, read_header, read_parts, spread_record
from amalgam.tasks.texts import write_text

_RATER = re.compile(r".+ \(rater \d+\)")
_ONE_ITEM = r'\[(?:"(?:[^"\\]|\\.)*"|[^\[\]{},"]*)\]'  # a JSON list of at most one text or number
_EXPORTS = {"Anon Student Id": "DataShop", "Anon_Student_Id": "DataShop", "Timestamp": "Google Forms"}  # by a column


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file as text cells, "" where nothing stands; the index is the number of a row in the file.

    Attributes:
        frame: columns in the order of the file.
        source: how the file is written: format, encoding, separator, sheet.
        export: the program that wrote it, where that shows: Qualtrics, Google Forms, DataShop, Label Studio, …
        questions: of Qualtrics, the question that each column asked.
        lists: columns whose cells are JSON lists of at most one item; `item: 0` in task.yaml takes it out.
        notes: one sentence each on what is not as one would expect.
        origin: what `source` in task.yaml says of a file, which lies beside it, or of a split of the hub.
    """

    frame: pd.DataFrame
    source: Source
    export: str | None = None
    questions: dict[str, str] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origin: dict[str, Any] = field(default_factory=dict)


def read_file(
    path: Path,
    *,
    format: Format | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    header_rows: int | None = None,
    cache: Path = Path(".cache/downloads"),
) -> Table:
    """Read a file, a folder that `datasets` saved, or a split of the hub (`hub:owner/name:split`).

    What is not given is found out from the content. Of the hub, the newest commit is downloaded to `cache`, and pinned.

    Raises:
        DataError: one sentence with the file, the row and what to do.
    """
    if str(path).startswith("hub:"):
        return _read_hub(str(path), cache)
    said: dict[str, Any] = {"encoding": encoding, "sheet": sheet, "header_rows": header_rows}
    table = read_table(open_source(path, format=format, numbered=True, **said))
    # A file named .txt has no quotes, unless its format says so.
    unclear = {"format": table.source.format if format or path.suffix.lower() == ".txt" else None}
    said |= unclear | {"sheet": table.source.sheet}
    file = {"path": path.name, **{key: value for key, value in said.items() if value}}
    return replace(table, origin={"kind": "file", "files": [file]})


def load_split(
    name: str, split: str, cache: Path, *, config: str | None = None, revision: str | None = None
) -> list[dict[str, Any]]:
    """Load a split of a data set of the hub, or of a folder.

    Raises:
        DataError: it cannot be had.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        rows = datasets.load_dataset(name, config, split=split, revision=revision, cache_dir=str(cache / "hub"))
    except (DatasetsError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"the data set {name}, split '{split}' cannot be had ({reason}): check the network, "
            "and `repository`, `config`, `revision` and `splits` in task.yaml"
        ) from error
    return list(iterate_dataset(rows))


def _read_hub(name: str, cache: Path) -> Table:
    from huggingface_hub import HfApi

    repository, *configs, split = f"{name.removeprefix('hub:')}:".split(":")[:3]
    if not split and configs:
        configs, split = [], configs[0]
    if not (repository and split):
        raise DataError(f"{name} names no split of a data set: write hub:owner/name:split, or :config:split")
    try:
        with explain_hub_errors():
            revision = HfApi().dataset_info(repository).sha
    except NoAnswerError as error:
        raise DataError(f"the data set {repository} cannot be had ({error}): check its name and the network") from error
    config = configs[0] if configs else None
    rows = load_split(repository, split, cache, config=config, revision=revision)
    frame = make_frame(rows, range(1, len(rows) + 1), name).assign(split=split)
    table = _describe_frame(frame, Source(name, io.BytesIO, "folder"), {})
    origin = {"kind": "hub", "repository": repository, "revision": revision, "config": config, "splits": [split]}
    return replace(table, origin={key: value for key, value in origin.items() if value})


def read_table(source: Source) -> Table:
    """Read all rows of a source; columns of one name are numbered if it says so.

    Raises:
        DataError: it has no rows, or one of them cannot be read.
    """
    frames = [make_frame(part.rows, part.numbers, source.name) for part in read_parts(source)]
    if not frames:
        raise DataError(f"{source.name} holds no rows: put the coded rows in, below the header")
    frame = frames[0] if len(frames) == 1 else pd.concat(frames).fillna("")
    is_json = source.format in ("json", "jsonl", "folder", "parquet")
    if is_json:
        return _describe_frame(frame, source, {})
    header = read_header(source)
    table = _describe_frame(frame, source, header.questions)
    above = f"what stands above the header was left out: '{header.titles[0][:60]}'" if header.titles else ""
    return replace(table, notes=[*table.notes, above]) if above else table


def _describe_frame(frame: pd.DataFrame, source: Source, questions: dict[str, str]) -> Table:
    """Add what the columns say about the program that wrote them."""
    frame = spread_argilla(frame)
    names, notes = [str(name) for name in frame], note_encoding(source)
    cells = frame.where(frame != "").dropna(axis="columns", how="all")
    lists = [name for name in map(str, cells) if cells[name].str.fullmatch(_ONE_ITEM, na=True).all()]
    export = "Qualtrics" if questions else next((_EXPORTS[name] for name in names if name in _EXPORTS), None)
    if any(map(_RATER.fullmatch, names)):
        export = "Label Studio" if source.format == "json" else "Argilla"
    elif source.format in ("json", "jsonl") and lists:
        export = "doccano"
    if questions:
        notes.append("the further header rows were left out")
    if doubled := [name for name in names if name.endswith(" (1)") and f"{name[:-4]} (2)" in frame]:
        notes.append(f"several columns are named {doubled[0][:-4]!r}, and got numbers")
    return Table(frame, source, export, questions, lists, notes)


def make_frame(records: list[dict[str, Any]], numbers: Sequence[Any], name: str) -> pd.DataFrame:
    """Make a frame of records: objects get a column for each key ("data.text"), other values than text are JSON."""
    records = [spread_record(record) for record in records]
    names = list(dict.fromkeys(key for record in records for key in record))
    cells = []
    for number, record in zip(numbers, records, strict=True):
        cells.append([write_text(record.get(key)) or "" for key in names])
        if wrong := [key for key, value in record.items() if isinstance(value, bytes)]:
            raise DataError(
                f"{name}, row {number} has no text under '{wrong[0]}', but bytes: write them as text, or leave them out"
            )
    return pd.DataFrame(cells, columns=names, index=list(numbers), dtype=str)
