import os
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from amalgam.cores import count_cores
from amalgam.errors import ModelError
from amalgam.training import parallel
from amalgam.training.parallel import Advance, Timed, count_workers, run_trainings
from amalgam.training.seconds import copy_seconds, note_seconds, read_seconds

MEGABYTE = 10**6


def work(number: int, advance: Advance) -> tuple[int, int]:
    """Take `number` steps; the later ones are done first."""
    time.sleep(0.2 / (number + 1))
    for step in range(number):
        advance(step)
    return number, os.getpid()


def fail(_advance: Advance) -> None:
    raise ModelError("it cannot be trained")


def die(_advance: Advance) -> None:
    os.kill(os.getpid(), 9)


def wait(_advance: Advance) -> None:
    time.sleep(600)


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that weighs as much as a small encoder, on a machine with two cores and much memory."""
    (tmp_path / "model.safetensors").touch()
    os.truncate(tmp_path / "model.safetensors", 90 * MEGABYTE)
    monkeypatch.setattr(parallel, "count_cores", lambda: 2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=64 * 10**9))
    return tmp_path


def test_results_are_in_order_and_every_step_is_counted(encoder: Path) -> None:
    steps: list[object] = []
    found = run_trainings([partial(work, number) for number in range(5)], encoder, steps.append)
    assert [timed.result[0] for timed in found] == [0, 1, 2, 3, 4]
    assert all(timed.seconds >= 0.2 / (number + 1) for number, timed in enumerate(found))
    assert len(steps) == 10
    processes = {timed.result[1] for timed in found}
    assert os.getpid() not in processes
    assert len(processes) <= 2


def test_a_small_model_is_trained_here(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"small")
    found = run_trainings([partial(work, number) for number in range(2)], tmp_path, lambda _item: None)
    assert {timed.result[1] for timed in found} == {os.getpid()}


def test_seconds_are_noted_by_model(tmp_path: Path) -> None:
    assert read_seconds(tmp_path) == {}
    note_seconds(tmp_path, "teacher", [Timed(None, 1.0), Timed(None, 2.0)], seeds=2)
    note_seconds(tmp_path, "student", [Timed(None, 1.0), Timed(None, 4.0)], seeds=1)
    note_seconds(tmp_path, "teacher", [Timed(None, 3.0), Timed(None, 5.0)], seeds=2)
    assert read_seconds(tmp_path) == {"student": 5.0, "teacher": 4.0}
    copy_seconds(tmp_path, "student", "teacher")
    assert read_seconds(tmp_path) == {"student": 5.0, "teacher": 5.0}
    copy_seconds(tmp_path, "human_only", "teacher")  # restored by DVC in this clone: nothing is known of either
    assert read_seconds(tmp_path) == {"student": 5.0}


@pytest.mark.parametrize(
    ("job", "words"), [(fail, "^it cannot be trained$"), (die, "one of 2 trainings .* was killed")]
)
def test_a_failure_ends_the_others_too(job: parallel.Job[None], words: str, encoder: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ModelError, match=words):
        run_trainings([job, wait, wait], encoder, lambda _item: None)
    assert time.monotonic() - start < 300


def test_as_many_at_once_as_cores_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_workers(1, 90 * MEGABYTE) == 1
    assert count_workers(10**6, 90 * MEGABYTE) <= count_cores()
    assert count_workers(8, 10**15) == 1  # larger than any memory, and tried all the same
    monkeypatch.setenv("WORLD_SIZE", "2")  # `accelerate launch` shares the cores out itself
    assert count_workers(8, 90 * MEGABYTE) == 1
