"""The manifest of a shipped student: what is in the folder and what it was made of, each by hash.

Code is named by Git's own id of each file or folder, the one that `git rev-parse REVISION:PATH` prints. A commit's id
would change with every commit, and the shipped folder with it, though nothing in it is different.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from amalgam.files import hash_file, write_json
from amalgam.predicting.shipped import MANIFEST

_FORMAT = 1


def write_manifest(folder: Path, model: str, calibration: dict[str, Any], **sources: Any) -> None:
    """Write the manifest of a folder: the ONNX file to use, how to use it, all files' hashes, and its sources."""
    files = hash_files(path for path in folder.iterdir() if path.name != MANIFEST)
    write_json(
        folder / MANIFEST,
        {
            "format": _FORMAT,
            "model": model,
            "calibration": calibration,
            "files": {Path(name).name: digest for name, digest in files.items()},
            **sources,
        },
    )


def hash_files(paths: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, in the order of their names."""
    return {path.as_posix(): hash_file(path) for path in sorted(paths)}


def hash_code(paths: Iterable[Path]) -> dict[str, str]:
    """Return Git's id of each file or folder of code; of a folder, what Python leaves behind does not count."""
    return {path.as_posix(): _identify(path) for path in sorted(paths)}


def _identify(path: Path) -> str:
    if path.is_file():
        return _hash_object("blob", path.read_bytes())
    entries = [child for child in path.iterdir() if child.name != "__pycache__" and child.suffix != ".pyc"]
    # Git sorts folders as if their names ended with a slash.
    entries.sort(key=lambda child: child.name.encode() + (b"/" if child.is_dir() else b""))
    lines = (
        (b"40000 " if child.is_dir() else b"100644 ") + child.name.encode() + b"\0" + bytes.fromhex(_identify(child))
        for child in entries
    )
    return _hash_object("tree", b"".join(lines))


def _hash_object(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
