"""A llama.cpp server inside this process, for models that run on the user's own machine."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from amalgam.errors import ModelError

_CONTEXT_STEP = 256  # llama.cpp pads a slot's context to this anyway


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests are sent: base URL, the name of the model there, and the key."""

    url: str
    model: str
    api_key: str


@contextmanager
def serve_model(path: Path, *, slots: int, context: int) -> Iterator[Endpoint]:
    """Serve a GGUF file over loopback, on a free port and behind a random key, until the block ends.

    Args:
        path: the GGUF file.
        slots: requests that are answered at once.
        context: tokens that the longest request and its answer may need together.
    """
    try:
        import xllamacpp
    except ImportError as error:  # its one need from the system is OpenMP's runtime
        raise ModelError(
            f"the embedded LLM server cannot be loaded ({error}): on Debian and Ubuntu `apt-get install libgomp1` "
            "mends that, or name an `llm.endpoint`"
        ) from error

    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.model_alias = {path.stem}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.ui = False
    api_key = secrets.token_urlsafe(32)
    settings.api_keys = [api_key]
    settings.n_parallel = slots
    settings.n_ctx = slots * (-(-context // _CONTEXT_STEP) * _CONTEXT_STEP)
    # Equal shares: one long request cannot take the cache of the others.
    settings.kv_unified = False
    # A slot keeps its last prompt, which is all the reuse there is here; copies of others' would fill the memory.
    settings.cache_ram_mib = 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = _count_cores()
    settings.verbosity = -1
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise ModelError(
            f"the LLM file {path} cannot be served ({error}): delete it and run `dvc repro models`"
        ) from error
    try:
        yield Endpoint(f"{server.listening_address}/v1", path.stem, api_key)
    finally:
        # The server has no stop method: it ends with its last reference.
        del server


def _count_cores() -> int:
    # Only Linux says which cores a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
