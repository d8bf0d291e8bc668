import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from amalgam import machine
from amalgam.errors import ModelError
from amalgam.machine import count_cores, find_memory
from amalgam.training import parallel
from amalgam.training.parallel import Advance, count_workers, run_trainings

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
    """Kill the process that was started last, and wait in the others."""
    time.sleep(0.5)
    if os.getpid() == max(child.pid for child in psutil.Process(os.getppid()).children()):
        os.kill(os.getpid(), 9)
    time.sleep(600)


def wait(_advance: Advance) -> None:
    time.sleep(600)


@pytest.fixture(params=["fork", "spawn"])
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A folder as large as a small encoder, on a machine with two cores and much memory."""
    monkeypatch.setattr(parallel, "choose_start", lambda: request.param)
    (tmp_path / "model.safetensors").touch()
    os.truncate(tmp_path / "model.safetensors", 90 * MEGABYTE)
    monkeypatch.setattr(parallel, "count_cores", lambda: 2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=64 * 10**9))
    return tmp_path


def test_results_are_in_order_and_every_step_is_counted(encoder: Path) -> None:
    steps: list[object] = []
    found = run_trainings([partial(work, number) for number in range(5)], encoder, steps.append)
    numbers, processes = zip(*found, strict=True)
    assert (numbers, len(steps)) == ((0, 1, 2, 3, 4), 10)
    assert len({*processes} - {os.getpid()}) == len({*processes}) <= 2


@pytest.mark.parametrize(
    ("job", "words"), [(fail, "^it cannot be trained$"), (die, "one of 3 parallel trainings was killed")]
)
def test_a_failure_ends_the_others_too(job: parallel.Job[None], words: str, encoder: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ModelError, match=words):
        run_trainings([job, *([wait] * 2 if job is fail else [die] * 2)], encoder, lambda _item: None)
    assert time.monotonic() - start < 300


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, workers never start by a fork")
def test_workers_are_forks_until_a_library_has_threads() -> None:
    code = "import threading, time, torch; from amalgam.training.parallel import choose_start; print(choose_start());"
    code += "threading.Thread(target=time.sleep, args=[1]).start(); print(choose_start());"
    code += "torch.set_num_threads(2); torch.rand(2000, 2000) @ torch.rand(2000, 2000); print(choose_start())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    command = [sys.executable, "-c", code]
    said = subprocess.check_output(command, text=True, env=environment | {"OPENBLAS_NUM_THREADS": "1"})
    assert said.split() == ["fork", "fork", "spawn"]


def test_as_many_at_once_as_cores_and_memory_allow(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [count_workers(jobs, encoder) for jobs in (1, 2, 3, 4)] == [1, 2, 3, 2]  # no core waits for the third
    assert count_workers(10**6, encoder) == 2
    monkeypatch.setattr(parallel, "find_memory", lambda: 10**8)
    assert count_workers(8, encoder) == 1  # larger than the memory, but tried nevertheless
    monkeypatch.setenv("WORLD_SIZE", "2")  # `accelerate launch` divides the cores itself
    assert count_workers(8, encoder) == 1


def test_the_limits_of_a_container_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, all_cores = find_memory(), count_cores()
    new, old, cpu = (tmp_path / name for name in ("memory.max", "limit_in_bytes", "cpu.max"))
    monkeypatch.setattr(machine, "_MEMORY", (new, old))
    monkeypatch.setattr(machine, "_CPU", cpu)
    assert (find_memory(), count_cores()) == (memory, all_cores)  # no such files
    new.write_text("max\n")
    old.write_text("9223372036854771712\n")
    cpu.write_text("max 100000\n")
    assert (find_memory(), count_cores()) == (memory, all_cores)
    new.write_text("2000000000\n")
    cpu.write_text("150000 100000\n")
    assert (find_memory(), count_cores()) == (2 * 10**9, 1)
