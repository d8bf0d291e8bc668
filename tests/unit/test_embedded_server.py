"""What the embedded server takes of the machine; the server itself is tested with a real model elsewhere."""

import os
from pathlib import Path

import pytest

from amalgam.errors import ModelError
from amalgam.llm.answering import choose_slots, serve_model


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not say which cores are ours")
@pytest.mark.parametrize(("cores", "slots"), [(1, 2), (2, 4), (7, 14), (8, 16), (64, 16)])
def test_there_are_two_slots_a_core_up_to_sixteen(cores: int, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(cores)))
    assert choose_slots() == slots


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"model.gguf cannot be served"), serve_model(path, context=256, slots=1):
        pass
