"""Quick starts: `python stages/….py` and `dvc …` as forks of a process that has imported third-party modules.

The tests start hundreds of stages, most of which import torch for seconds and then work for tenths of one. Each is
still a separate process, with its own folder, environment and streams; no module of this project is imported before.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn

_IMPORTED = (
    "accelerate",
    "altair",
    "dvc.cli.parser",
    "dvc.repo",
    "dvclive",
    "jinja2",
    "networkx",
    "onnxruntime.quantization",
    "onnxscript",
    "openai",
    "safetensors.torch",
    "scipy.stats",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "torch.onnx._internal.exporter._compat",
    "torch.onnx._internal.exporter._registration",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "vl_convert",
)
# Both `python` and `dvc`: passes on its arguments, and ends as its fork does. All but stages start as usual, and so
# does `models`: what it may fetch is settled when its libraries are imported.
_STARTER = """\
#!{python} -IS
import json, os, socket, sys
name, *arguments = os.path.basename(sys.argv[0]), *sys.argv[1:]
if name == "python" and (not arguments or not arguments[0].startswith("stages/") or "models" in arguments[0]):
    os.execv({python!r}, [{python!r}, *arguments])
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    socket.send_fds(connection, [b"."], [0, 1, 2])
    connection.sendall(json.dumps([name, arguments, dict(os.environ), os.getcwd()]).encode() + b"\\n")
    sys.exit(int(connection.makefile("rb").read() or b"137"))  # nothing is said by one that was killed
"""


@contextmanager
def serve_starts(folder: Path) -> Iterator[Path | None]:
    """Yield a folder for the front of PATH that has such a `python` and `dvc`; None where forking is impossible."""
    if sys.platform != "linux":
        yield None
        return
    address = str(folder / "socket")
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "dvc"):
        starter = folder / "bin" / name
        starter.write_text(_STARTER.format(python=sys.executable, address=address), encoding="utf-8")
        starter.chmod(0o755)
    with subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read(1), "the process that starts stages did not start"
        yield folder / "bin"
        process.kill()


def _serve(address: str) -> None:
    """Import, then fork for each connection; never return."""
    # What stages/runtime.py sets, and libraries read when they are imported; only `models` is not offline.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    for name in _IMPORTED:
        import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        os.write(1, b".")
        while True:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                _run(connection)
            connection.close()


def _run(connection: socket.socket) -> NoReturn:
    """Run what a starter was called for; send the exit code at the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    name, arguments, environment, folder = json.loads(connection.makefile("rb").readline())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0:1] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    code = 1
    try:
        if name == "dvc":
            from dvc.cli import main

            sys.argv = [name, *arguments]
            code = main(arguments)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent.absolute()))
            runpy.run_path(arguments[0], run_name="__main__")
            code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    # What Python does at its end; destructors of libraries would wait for threads that a fork does not have.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(code).encode())
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
