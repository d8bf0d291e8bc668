import pytest
import yaml

from amalgam.catalogue import find_entry, list_names, load_catalogue, parse_catalogue
from amalgam.errors import ModelError

HASH = "a" * 64
ENTRY = {
    "kind": "encoder",
    "licence": "MIT",
    "hub": {"repo": "owner/name", "revision": "b" * 40},
    "files": {"config.json": HASH, "model.safetensors": HASH},
    "mirror": {"version": "1.0", "layout": "files", "wheels": [{"package": "a-wheel", "sha256": HASH}]},
}


def test_the_catalogue_holds_the_known_models() -> None:
    assert list_names("llm") == ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct"]
    assert list_names("encoder") == ["all-minilm-l6-v2", "all-mpnet-base-v2"]


def test_no_hash_and_no_wheel_stands_for_two_things() -> None:
    wheels = [wheel for entry in load_catalogue().values() if entry.mirror for wheel in entry.mirror.wheels]
    assert len({wheel.sha256 for wheel in wheels}) == len({wheel.package for wheel in wheels}) == len(wheels)
    hashes = [sha256 for entry in load_catalogue().values() for sha256 in entry.files.values()]
    assert len(set(hashes)) == len(hashes)


def test_numbered_parts_stand_in_their_order() -> None:
    for name in ("qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct", "all-mpnet-base-v2"):
        mirror = load_catalogue()[name].mirror
        assert mirror
        numbers = [int("".join(filter(str.isdigit, wheel.part[-6:]))) for wheel in mirror.wheels]
        assert numbers == list(range(1, len(numbers) + 1))


def test_every_encoder_has_what_transformers_needs() -> None:
    for name in list_names("encoder"):
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(load_catalogue()[name].files)


def test_an_entry_is_found_by_name_and_kind() -> None:
    assert find_entry("all-minilm-l6-v2", "encoder") is load_catalogue()["all-minilm-l6-v2"]
    assert find_entry("all-minilm-l6-v2", "llm") is None
    assert find_entry("another", "encoder") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": {"model.safetensors": ""}}, r"`tiny\.files\.model\.safetensors` is ''"),
        ({"files": {"model.safetensors": None}}, r"`tiny\.files\.model\.safetensors` is None"),
        ({"files": {"pytorch_model.bin": HASH}}, r"pytorch_model\.bin"),
        ({"files": {"../model.safetensors": HASH}}, r"\.\./model\.safetensors"),
        ({"hub": {"repo": "owner/name"}}, r"`tiny\.hub\.revision` is missing"),
        ({"hub": {"repo": "owner/name", "revision": "main"}}, r"`tiny\.hub\.revision` is 'main'"),
        ({"kind": "llm"}, "has one file"),
        ({"mirror": {**ENTRY["mirror"], "layout": "parts"}}, "a `part` in every wheel"),
        ({"mirror": {**ENTRY["mirror"], "wheels": ENTRY["mirror"]["wheels"] * 2}}, "one wheel"),
        ({"sha": HASH}, r"`tiny\.sha` is not a known key"),
    ],
)
def test_a_wrong_entry_gives_one_sentence(change: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        parse_catalogue(yaml.safe_dump({"tiny": {**ENTRY, **change}}))
    assert str(caught.value).startswith("catalogue.yaml: ")
    assert "\n" not in str(caught.value)


def test_an_entry_needs_no_mirror() -> None:
    entry = {key: value for key, value in ENTRY.items() if key != "mirror"}
    assert parse_catalogue(yaml.safe_dump({"tiny": entry}))["tiny"].mirror is None


def test_broken_yaml_gives_one_sentence() -> None:
    with pytest.raises(ModelError, match="not valid YAML"):
        parse_catalogue("tiny: [")
