"""What every stage script needs around its `main`: params, the DVC root, and errors reported in one sentence.

Stages import it before any package, so that running them with the wrong Python also ends with one sentence.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from starting import SETTINGS, start_quickly

# An interruption waits until `run_stage` can report it: imports take seconds.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
# `models` looks up models on a hub, and `prepare` and `rows` data; in other stages a look-up would only cost time.
_online = Path(sys.argv[0]).stem.rpartition("_")[2] in ("models", "prepare", "rows")
for _name, _value in SETTINGS.items():
    if _name != "HF_HUB_OFFLINE" or not _online:
        os.environ.setdefault(_name, _value)
if "DVC_ROOT" in os.environ and "WORLD_SIZE" not in os.environ and not _online:
    start_quickly()
try:
    from amalgam import dvc
    from amalgam.errors import AmalgamError, DataError, Interrupted, explain_full_disk
    from amalgam.llm.answering import Answering
    from amalgam.machine import notify
    from amalgam.params import Llm, Params, load_params
except ModuleNotFoundError as missing:
    print(
        f"{Path(sys.argv[0]).stem}: {sys.executable} has no `{missing.name}`, because the environment is not active: "
        "run `. .venv/bin/activate` first, or `make repro` instead of `dvc repro`",
        file=sys.stderr,
    )
    sys.exit(2)

Main = Callable[[Params, Path], None]


def run_stage(name: str, main: Main) -> None:
    """Run a stage's `main(params, root)`; a failure that the user can fix ends with one sentence and its exit code.

    `root` is the project's DVC root, even if the stage runs in a temporary workspace of an experiment:
    `root/.cache` holds what all experiments share (downloads, the journal of LLM answers).
    """
    root = Path(os.environ.get("DVC_ROOT", "."))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        main(load_params(Path("params.yaml")), root)
    except Exception as error:  # a full disk can raise any type in a library; all others propagate
        sentence = str(error) if isinstance(error, AmalgamError) else explain_full_disk(error)
        if not sentence:
            raise
        restore_outputs(name)
        print(f"{name}: {sentence}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", AmalgamError.exit_code))
    except KeyboardInterrupt:
        restore_outputs(name)
        print(f"{name}: ended by the user; `dvc repro` starts this stage again", file=sys.stderr)
        sys.exit(Interrupted.exit_code)


def restore_outputs(stage: str) -> None:
    """Put back the outputs that DVC removed before it ran the failed stage."""
    if "DVC_STAGE" not in os.environ:  # run by hand, so nothing was removed
        return
    try:
        dvc.restore_outputs(stage)
    except (DataError, OSError) as error:
        print(f"{stage}: earlier outputs were not restored ({error}): run `dvc checkout`", file=sys.stderr)


def read_answering(llm: Llm, root: Path) -> Answering:
    """Set who answers requests, where answers are kept, and the key, which comes only from the environment."""
    names = ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY") if llm.api_version else ("OPENAI_API_KEY",)
    return Answering(
        llm=llm,
        folder=Path("models/base/llm"),
        journal=root / ".cache" / "journal.sqlite",
        prices=Path("data/prices.yaml"),
        api_key=next((os.environ[name] for name in names if os.environ.get(name)), None),
        # Read in every round; a failed fetch is reported once.
        read_seeds=partial(dvc.iterate_shared_answers, root, cache(notify), workspace=Path()),
    )
