"""Runs jobs: in this process, or as tasks of Ray on all cores and GPUs of this machine or of a cluster.

Each result is written when it comes, so a kill loses only the jobs in flight. Of jobs that wait nothing is kept but
their key; no more are built than the workers need. Ray starts the jobs of a lost worker elsewhere.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from amalgam.errors import ParamsError
from amalgam.files import open_sibling, read_json, write_json
from amalgam.machine import count_cores, notify

Result = dict[str, Any]
Compute = Callable[..., Result]  # takes the encoder's folder, then a job's arguments
Ended = tuple[str, Result | str]  # a key, and what came of it: a result, or why there is none
_AHEAD = 2  # jobs by worker that are built before they can run
_A_GPU = 4  # trainings of one GPU at once: one alone leaves most of it idle
_PROCESS, _COPIES = 1_500_000_000, 6  # bytes of a worker: its libraries, and copies of the weights


class Store:
    """Results by key, a file each, in `folder`; and in `shared`, where other experiments of this clone see them."""

    def __init__(self, folder: Path, shared: Path) -> None:
        """Take both folders, which need not be there."""
        self._folder, self._shared = folder, shared

    def has(self, key: str) -> bool:
        """Say whether there is a result, and take it over where only `shared` has it."""
        here, there = self._find(self._folder, key), self._find(self._shared, key)
        if not here.is_file() and there.is_file():
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(there, here.with_suffix(".tmp"))
            here.with_suffix(".tmp").replace(here)
        return here.is_file()

    def read(self, key: str) -> Result:
        """Read a result that is there."""
        result: Result = read_json(self._find(self._folder, key))
        return result

    def write(self, key: str, result: Result) -> None:
        """Write a result, whole or not at all."""
        for folder in (self._folder, self._shared):
            with open_sibling(self._find(folder, key)) as stream:
                json.dump(result, stream, separators=(",", ":"))

    @staticmethod
    def _find(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"


@dataclass
class Board:
    """What `amalgam study status` shows, in a file that is written every second."""

    path: Path
    cells: Sequence[frozenset[str]]  # the keys of each cell that is not complete
    known: int  # cells that were complete before
    names: Mapping[str, str]  # of jobs, by key
    running: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._start, self._written, self._done = time.time(), 0.0, 0
        self._left = [len(keys) for keys in self.cells]
        self._cells_of: dict[str, list[int]] = {}
        for number, keys in enumerate(self.cells):
            for key in keys:
                self._cells_of.setdefault(key, []).append(number)
        self.write(force=True)

    def end(self, key: str, fault: str = "") -> None:
        """Note that a job has ended."""
        self.running.pop(key, None)
        self._done += 1
        if fault:
            self.failed[self.names[key]] = fault
        for cell in () if fault else self._cells_of.get(key, ()):
            self._left[cell] -= 1
        self.write()

    def write(self, *, force: bool = False) -> None:
        """Write the file, unless it is younger than a second."""
        now = time.time()
        if not force and now - self._written < 1:
            return
        self._written, left = now, len(self.names) - self._done
        done = sum(not open_parts for open_parts in self._left)
        status = {
            "cells": self.known + len(self.cells),
            "done": self.known + done,
            "trainings_left": left,
            "seconds_left": round((now - self._start) / self._done * left) if self._done else None,
            "running": {self.names[key]: round(now - since) for key, since in self.running.items()},
            "failed": self.failed,
            "written": round(now),
        }
        write_json(self.path, status)


def run_jobs(
    keys: Sequence[str],
    build: Callable[[str], tuple[Any, ...]],
    compute: Compute,
    encoder: Path,
    ray: str | None,
    begin: Callable[[str], None] = lambda _key: None,
) -> Iterator[Ended]:
    """Run jobs and yield what came of each, as it comes.

    Args:
        keys: of the jobs.
        build: makes the arguments of a job; called shortly before it runs.
        compute: a function of a module, called with the folder of the encoder and the arguments.
        encoder: folder of the base model.
        ray: `local`, the address of a cluster, or None for this process.
        begin: told of each job that is handed out.
    """
    if ray is None or not keys:
        return _run_here(keys, build, partial(compute, encoder), begin)
    return _run_on_ray(keys, build, compute, encoder, ray, begin)


def choose_engine(ray: str | None) -> str | None:
    """Return what `ray` says; None, with a notice, where Ray is not installed and only this machine is meant."""
    try:
        import ray as _installed  # noqa: F401
    except ModuleNotFoundError as error:
        if ray not in (None, "local"):
            raise ParamsError(
                f"study/params.yaml: `ray` is '{ray}', but Ray is not installed: run `pip install 'amalgam[cluster]'`"
            ) from error
        if ray:
            notify("study: cells run one by one without Ray; `pip install 'amalgam[cluster]'` uses all cores")
        return None
    return ray


def _run_here(
    keys: Sequence[str], build: Callable[[str], tuple[Any, ...]], compute: Compute, begin: Callable[[str], None]
) -> Iterator[Ended]:
    for key in keys:
        begin(key)
        try:
            found: Result | str = compute(*build(key))
        except Exception as error:
            found = describe_fault(error)
        yield key, found


def describe_fault(error: BaseException) -> str:
    """Say in one line why a job failed."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__


def _run_on_ray(
    keys: Sequence[str],
    build: Callable[[str], tuple[Any, ...]],
    compute: Compute,
    encoder: Path,
    address: str,
    begin: Callable[[str], None],
) -> Iterator[Ended]:
    import ray

    _connect(address)
    files = {path.name: path.read_bytes() for path in sorted(encoder.iterdir()) if path.is_file()}
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    weights = ray.put(files)
    remote = ray.remote(_compute_remotely).options(**_bound_resources(sum(map(len, files.values()))))
    waiting, flying = iter(keys), dict[Any, str]()
    try:
        while True:
            for key in islice(waiting, max(_AHEAD * _count_workers() - len(flying), 0)):
                begin(key)
                flying[remote.remote(compute, digest, weights, *build(key))] = key
            if not flying:
                return
            for done in ray.wait(list(flying), num_returns=1)[0]:
                key = flying.pop(done)
                try:
                    found: Result | str = ray.get(done)
                except ray.exceptions.RayError as error:
                    found = describe_fault(getattr(error, "cause", None) or error)
                yield key, found
    finally:
        if address == "local":
            ray.shutdown()
        else:
            for done in flying:
                ray.cancel(done, force=True)


def _connect(address: str) -> None:
    """Start Ray on this machine, or join a cluster, to whose workers this package is sent."""
    import ray

    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init("local", num_cpus=count_cores(), include_dashboard=False, object_store_memory=500_000_000, **quiet)
    else:
        ray.init(address, runtime_env={"py_modules": [str(Path(__file__).parents[1])]}, **quiet)


def _bound_resources(size: int) -> dict[str, Any]:
    """Return what one job takes of a worker: a core or a part of a GPU, and memory for copies of the weights."""
    import ray

    found = ray.cluster_resources()
    memory = _PROCESS + _COPIES * size
    bounded = {"memory": memory} if found.get("memory", 0) >= memory else {}
    return {"num_cpus": 1, "num_gpus": 1 / _A_GPU if found.get("GPU") else 0, "max_retries": 5, **bounded}


def _count_workers() -> int:
    import ray

    found = ray.cluster_resources()
    return max(int(found.get("GPU", 0) * _A_GPU or found.get("CPU", 1)), 1)


def _compute_remotely(compute: Compute, digest: str, files: Mapping[str, bytes], *args: Any) -> Result:
    """Compute with one thread, and an encoder that is written to the machine's disk once."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with suppress(ModuleNotFoundError):
        import torch

        torch.set_num_threads(1)
    folder = Path(tempfile.gettempdir()) / f"amalgam-{os.getuid()}-{digest[:16]}"
    if not folder.is_dir():
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
        for name, content in files.items():
            (made / name).write_bytes(content)
        with suppress(OSError):  # another worker was faster
            made.rename(folder)
        shutil.rmtree(made, ignore_errors=True)
    return compute(folder, *args)
