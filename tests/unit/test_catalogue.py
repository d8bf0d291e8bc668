from typing import Any

import pytest
from pydantic import ValidationError

from amalgam.catalogue import Entry, load_catalogue

HASH = "a" * 64
ENTRY: dict[str, Any] = {
    "kind": "encoder",
    "licence": "MIT",
    "hub": {"repo": "owner/name", "revision": "b" * 40},
    "files": {"config.json": HASH, "model.safetensors": HASH},
}


def test_the_catalogue_holds_the_known_models_and_what_each_needs() -> None:
    kinds = {name: entry.kind for name, entry in load_catalogue().items()}
    assert kinds == {
        **dict.fromkeys(("smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct"), "llm"),
        **dict.fromkeys(("all-minilm-l6-v2", "all-mpnet-base-v2"), "encoder"),
    }
    for entry in load_catalogue().values():
        if entry.kind == "encoder":
            assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(entry.files)
        else:
            assert len(entry.files) == 1


def test_no_hash_and_no_wheel_stands_for_two_things_and_parts_are_in_order() -> None:
    mirrors = [entry.mirror for entry in load_catalogue().values() if entry.mirror]
    wheels = [wheel for mirror in mirrors for wheel in mirror.wheels]
    assert len({wheel.sha256 for wheel in wheels}) == len({wheel.package for wheel in wheels}) == len(wheels)
    hashes = [sha256 for entry in load_catalogue().values() for sha256 in entry.files.values()]
    assert len(set(hashes)) == len(hashes)
    for mirror in mirrors:
        numbers = [int("".join(filter(str.isdigit, wheel.part[-6:]))) for wheel in mirror.wheels if wheel.part]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) == (0 if mirror.layout == "files" else len(mirror.wheels))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": {"model.safetensors": ""}}, "model.safetensors"),
        ({"files": {"pytorch_model.bin": HASH}}, "pytorch_model.bin"),
        ({"files": {"../model.safetensors": HASH}}, "../model.safetensors"),
        ({"hub": {"repo": "owner/name", "revision": "main"}}, "hub.revision"),
    ],
)
def test_what_is_not_pinned_or_may_hold_code_is_no_entry(change: dict[str, Any], words: str) -> None:
    assert Entry.model_validate(ENTRY)
    with pytest.raises(ValidationError, match=words):
        Entry.model_validate({**ENTRY, **change})
