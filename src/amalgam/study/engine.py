"""Run jobs in this process, or as Ray tasks on all cores and GPUs of this machine or of a cluster.

A kill loses only the jobs in flight. No more jobs are built than the workers need, so thousands of them take no memory.
Ray restarts the jobs of a lost worker elsewhere.
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
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from amalgam.errors import ParamsError
from amalgam.files import open_sibling, read_json, write_json
from amalgam.machine import count_cores, notify

Result = dict[str, Any]
Compute = Callable[..., Result]  # takes the encoder's folder, then a job's arguments
Build = Callable[[str], tuple[Any, ...]]  # makes the arguments of a job
Begin = Callable[[str], None]
Ended = tuple[str, Result | str]  # a key with its result, or why there is none
_AHEAD = 2  # jobs per worker that are built before they can run
_A_GPU = 4  # trainings on one GPU at once: a single one leaves most of it idle
_PROCESS, _COPIES = 1_500_000_000, 6  # bytes of a worker: its libraries, and copies of the weights


class Store:
    """Results by key, one file each, in `folder` and in `shared`, where other experiments of this clone find them."""

    def __init__(self, folder: Path, shared: Path) -> None:
        """Take both folders, which need not exist."""
        self._folders = folder, shared

    def has(self, key: str) -> bool:
        """Return whether there is a result; if only `shared` has it, copy it."""
        here, there = self._find(key)
        if not here.is_file() and there.is_file():
            self.write(key, read_json(there))
        return here.is_file()

    def read(self, key: str) -> Result:
        """Read an existing result."""
        return dict(read_json(self._find(key)[0]))

    def write(self, key: str, result: Result) -> None:
        """Write a result, whole or not at all."""
        for path in self._find(key):
            with open_sibling(path) as stream:
                json.dump(result, stream, separators=(",", ":"))

    def _find(self, key: str) -> list[Path]:
        return [folder / key[:2] / f"{key}.json" for folder in self._folders]


@dataclass
class Board:
    """What `amalgam study status` shows, in a file written as jobs begin and end; times are seconds since 1970."""

    path: Path
    cells: Sequence[frozenset[str]]  # the keys that each cell needs
    names: Mapping[str, str]  # of the jobs, by key
    failed: dict[str, str] = field(default_factory=dict)  # why, by name
    _running: dict[str, float] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)
    _start: float = field(default_factory=time.time)

    def begin(self, key: str) -> None:
        """Note that a job was handed out."""
        self._running[key] = time.time()
        self.write()

    def end(self, key: str, fault: str = "") -> None:
        """Note that a job has ended."""
        self._running.pop(key, None)
        self._ended.add(key)
        if fault:
            self.failed[self.names[key]] = fault
        self.write()

    def write(self) -> None:
        """Write the file."""
        now = time.time()
        done, left = len(self._ended), self.names.keys() - self._ended
        status = {
            "cells": len(self.cells),
            "done": sum(not keys & left for keys in self.cells),
            "trainings_left": len(left),
            "seconds_left": round((now - self._start) / done * len(left)) if done else None,
            "running": {self.names[key]: round(since) for key, since in self._running.items()},
            "failed": self.failed,
            "written": round(now),
        }
        write_json(self.path, status)


def choose_engine(ray: str | None) -> str | None:
    """Return `ray`, or None with a notice if Ray is not installed and only this machine is meant."""
    if ray is None or find_spec("ray"):
        return ray
    install = "run `pip install -c constraints.txt -e '.[cluster]'`"
    if ray != "local":
        raise ParamsError(f"study/params.yaml: `ray` is '{ray}', but Ray is not installed: {install}")
    notify(f"study: without Ray, cells run one by one: {install} to use all cores")
    return None


def run_jobs(
    keys: Sequence[str],
    build: Build,
    compute: Compute,
    encoder: Path,
    ray: str | None,
    begin: Begin = lambda _key: None,
) -> Iterator[Ended]:
    """Run the jobs of these keys and yield each result, or why there is none, as soon as it is ready.

    A job is a call of `compute`, a module-level function, with the folder of the base model and the arguments that
    `build` makes shortly before, when `begin` is called. `ray` is `local`, the address of a cluster, or None for this
    process.
    """
    if ray is not None and keys:
        yield from _run_on_ray(keys, build, compute, encoder, ray, begin)
        return
    for key in keys:
        begin(key)
        try:
            found: Result | str = compute(encoder, *build(key))
        except Exception as error:  # whatever one cell raises, the others continue; the table has the cause
            found = _describe_fault(error)
        yield key, found


def _run_on_ray(
    keys: Sequence[str], build: Build, compute: Compute, encoder: Path, address: str, begin: Begin
) -> Iterator[Ended]:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not ray.is_initialized() and address == "local":
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init("local", num_cpus=count_cores(), include_dashboard=False, object_store_memory=500_000_000, **quiet)
    elif not ray.is_initialized():  # this package is sent to the workers
        ray.init(address, runtime_env={"py_modules": [str(Path(__file__).parents[1])]}, **quiet)
    found = ray.cluster_resources()
    files = {path.name: path.read_bytes() for path in sorted(encoder.iterdir()) if path.is_file()}
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    memory = _PROCESS + _COPIES * sum(map(len, files.values()))
    bounds = {"num_cpus": 1, "num_gpus": 1 / _A_GPU if found.get("GPU") else 0, "max_retries": 5}
    if found.get("memory", 0) >= memory:
        bounds["memory"] = memory
    remote, weights = ray.remote(_compute_remotely).options(**bounds), ray.put(files)
    waiting, flying = iter(keys), dict[Any, str]()
    try:
        while True:
            found = ray.cluster_resources()  # a cluster grows and shrinks
            workers = max(int(found.get("GPU", 0) * _A_GPU or found.get("CPU", 1)), 1)
            for key in islice(waiting, max(_AHEAD * workers - len(flying), 0)):
                begin(key)
                flying[remote.remote(compute, digest, weights, *build(key))] = key
            if not flying:
                return
            for done in ray.wait(list(flying), num_returns=1)[0]:
                try:
                    ended: Result | str = ray.get(done)
                except ray.exceptions.RayError as error:
                    ended = _describe_fault(getattr(error, "cause", None) or error)
                yield flying.pop(done), ended
    finally:
        for done in flying:
            ray.cancel(done, force=True)
        if address == "local":
            ray.shutdown()


def _compute_remotely(compute: Compute, digest: str, files: Mapping[str, bytes], *args: Any) -> Result:
    """Compute with one thread, and an encoder that is written to the machine's disk once."""
    import torch

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
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


def _describe_fault(error: BaseException) -> str:
    """Describe in one line why a job failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[-1:]])
