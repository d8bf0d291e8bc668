"""A llama.cpp server inside this process, for models that run on the user's own machine."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amalgam.errors import ModelError
from amalgam.llm.client import Endpoint
from amalgam.machine import count_cores

_CONTEXT_STEP = 256  # llama.cpp pads a slot's context to this anyway
_MOST_SLOTS = 16  # more only share the same cores, and each needs memory for its context


def choose_slots() -> int:
    """Return how many requests this machine best answers at once: two a core, 1 to 16.

    A batch of two tokens takes a core little longer than one: the weights are read once for both. On two cores 4 slots
    were faster than 1, 2, 8 and 32.
    """
    return min(2 * count_cores(), _MOST_SLOTS)


@contextmanager
def serve_model(path: Path, *, context: int, slots: int) -> Iterator[Endpoint]:
    """Serve a GGUF file over loopback, on a free port and behind a random key, until the block or the process ends.

    `context` is the tokens that the longest request and its answer may need together, `slots` the requests that are
    answered at once.

    Raises:
        ModelError: the file cannot be served.
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
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = count_cores()
    settings.verbosity = -1
    try:
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise ModelError(
            f"the LLM file {path} cannot be served ({error}): delete it and run `dvc repro models`"
        ) from error
    try:
        yield Endpoint(f"{server.listening_address}/v1", path.stem, api_key, slots=slots)
    finally:
        # The server has no stop method: it ends with its last reference.
        del server
