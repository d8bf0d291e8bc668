"""Quick starts under DVC, on Linux: a stage runs as a fork of a process that has imported its libraries.

Imports take seconds in each of a dozen stages, and many a stage then works for one. So the first stage starts a server
in the background. The server imports what stages import, but nothing of this project. Later stages connect to it, and
its fork goes on in their place, with their folder, environment and streams; the waiting stage passes signals on and
ends as the fork does. The server ends when the stage that started it is over and it has had nothing to do for half a
minute. Whenever anything is missing or differs (another environment, limit or installed package), a stage starts as
usual.
"""

import atexit
import fcntl
import gc
import hashlib
import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

_IMPORTED = (
    "pandas",
    "pyarrow.parquet",
    "pydantic",
    "torch",
    "safetensors.torch",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "sklearn.feature_extraction.text",
    "scipy.stats",
    "accelerate",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.mpnet.modeling_mpnet",
    "dvclive",
    "openai",
    "onnxscript.function_libs.torch_lib.ops",
    "torch.export._trace",
    "onnxruntime.quantization",
    "torch.onnx._internal.exporter._compat",
    "torch.onnx._internal.exporter._registration",
    "altair",
    "vl_convert",
    "networkx",
    "jinja2",
    "dvc.repo",
    "dvc.cli.parser",  # of `dvc` itself, in the tests
)
# Libraries read these variables when they are imported. A waiting thread spins for some microseconds, then sleeps.
# Without a bound it keeps spinning, and next to any other busy program all work is ten times slower.
SETTINGS = {
    "GOMP_SPINCOUNT": "20000",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
_IDLE = 30.0  # seconds after which a server without work ends
_PATIENCE = 10.0  # seconds to wait for a server, which may be importing
# Variables that differ between stages or runs, and that no library reads when it is imported.
_CHANGING = ("COLUMNS", "HOME", "LINES", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHLVL", "USER", "_")
_CHANGING_PREFIXES = ("AWS_", "AZURE_", "DVC", "GIT_", "OPENAI_")
_PROCESS = Path("/proc/self")
_STATUS = ("Uid", "Groups", "SigIgn", "CapEff", "Cpus_allowed", "Mems_allowed", "NoNewPrivs", "Seccomp", "Umask")

_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}  # that a waiting stage passes on to its fork

_forked = False


def start_quickly() -> None:
    """Go on in a fork of the server, and exit as it does; return if there is no server yet, or in the fork.

    SIGINT must be blocked; it is still blocked afterwards.
    """
    # Worker processes, too, import the script that starts them, but their command line names another.
    if _forked or sys.argv[0] not in sys.orig_argv or sys.platform != "linux":
        return
    if None in (sys.stdin, sys.stdout, sys.stderr):  # closed: a fork would have the connection in its place
        return
    try:
        folder = _make_folder()
    except OSError:
        return
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        answer = connection.makefile("r")
        try:
            connection.connect(str(folder / "socket"))
            fork = int(answer.readline() or 0)
            if fork:
                signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
                _hand_over(connection)
        except OSError as error:  # a fork that has not got all ends
            fork = 0
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS - {signal.SIGINT})
            if isinstance(error, ConnectionRefusedError | FileNotFoundError):
                _start_server(folder)
        if fork:
            connection.settimeout(None)
            sys.exit(_follow(fork, answer))


def _start_server(folder: Path) -> None:
    import subprocess  # here and below, what takes time and only a server needs

    command, quiet = [sys.executable, "-P", __file__, str(folder), f"{os.getpid()}"], subprocess.DEVNULL
    # The server needs no keys. A fork cannot use a GPU that its parent has asked about: libraries are to ask NVML.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_CHANGING_PREFIXES)}
    environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), quiet)
    subprocess.Popen(command, cwd="/", env=environment, start_new_session=True, **streams)


def _make_folder() -> Path:
    """Make the folder of the server that suits this process; only its user may open it."""
    name = f"amalgam-starts-{os.getuid()}-{hashlib.sha256(_describe().encode()).hexdigest()[:16]}"
    folder = Path(os.environ.get("TMPDIR") or "/tmp") / name
    folder.mkdir(0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(folder)
    return folder


def _describe() -> str:
    """Return all that a fork has from the server, and that must therefore be the same in this process.

    Paths inside the working folder may differ: nothing of it is imported by the server.
    """
    here, names = str(Path.cwd()), sorted(os.environ)
    fixed = [name for name in names if name not in _CHANGING and not name.startswith(_CHANGING_PREFIXES)]
    environment = {name: os.environ[name].replace(here, ".") for name in fixed}
    status = [line for line in (_PROCESS / "status").read_text().splitlines() if line.startswith(_STATUS)]
    spaces = [str(space.readlink()) for space in sorted((_PROCESS / "ns").iterdir())]
    system = [status, spaces, os.nice(0), *((_PROCESS / name).read_text() for name in ("limits", "cgroup"))]
    folders = [Path(path) for path in sys.path if path.endswith("-packages")]
    packages = [folder.stat().st_mtime_ns for folder in folders if folder.is_dir()]
    return json.dumps([sys.executable, Path(__file__).read_text(encoding="utf-8"), packages, environment, system])


def _hand_over(connection: socket.socket) -> None:
    """Send the fork this script and what it runs with."""
    socket.send_fds(connection, [b"."], [0, 1, 2])
    script = [str(Path(sys.argv[0]).absolute()), sys.argv, sys.path, dict(os.environ), str(Path.cwd())]
    connection.sendall(json.dumps(script).encode() + b"\n")


def _follow(fork: int, answer: TextIO) -> int:
    """Wait for the fork; return its exit code, or 137 if it was killed."""

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):  # the fork has just ended
            os.killpg(fork, number)

    for number in _SIGNALS:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        return int(answer.readline() or 137)
    except ConnectionResetError:
        return 137


def _serve(folder: str, starter: int) -> None:
    """Import, and fork for each connection, until there is nothing more to do and the starter has ended."""
    import warnings
    from importlib import import_module

    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # another server is at work
        return
    address = Path(folder) / "socket"
    address.unlink(missing_ok=True)  # of a server that was killed
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a stage unblocks it when it can report it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    missing = list(_IMPORTED)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen(16)
        while True:
            listener.settimeout(0 if missing else _IDLE)
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                with suppress(Exception):  # without it a stage only takes longer
                    import_module(missing.pop(0))
                gc.freeze()  # forks share these pages until they write to them
            except TimeoutError:
                if os.getppid() != starter and _is_idle():
                    break
            else:
                with warnings.catch_warnings(action="ignore"):  # about threads; none of them is at work
                    fork = os.fork()
                if not fork:
                    listener.close()
                    os.close(lock)
                    try:
                        _run(connection)
                    finally:  # the process that connected is gone
                        os._exit(1)
                connection.close()
    address.unlink()
    Path(folder).rmdir()


def _is_idle() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:  # no fork is left
        return True
    return False


def _run(connection: socket.socket) -> None:
    """Run the script of the process that connected; send the exit code at the end."""
    import multiprocessing.process
    import runpy
    import traceback

    global _forked
    _forked = True
    sys.modules["starting"] = sys.modules[__name__]  # so that the script finds out that it is a fork
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    torch = sys.modules.get("torch")
    usable = not torch or not torch.cuda._is_in_bad_fork()  # else the process that connected goes on by itself
    connection.sendall(f"{os.getpid() if usable else 0}\n".encode())
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    script, sys.argv, sys.path, environment, folder = json.loads(connection.makefile("rb").readline())
    os.chdir(folder)
    multiprocessing.process.ORIGINAL_DIR = folder  # type: ignore[attr-defined]  # where workers find the script
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_follow_caller, args=[connection], daemon=True).start()
    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        with suppress(OSError):  # here and below, of streams that nobody reads any more
            traceback.print_exc()
    # What Python does at its end; destructors of libraries would wait for threads that a fork does not have.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for written in (sys.stdout, sys.stderr):
        with suppress(OSError):
            written.flush()
    connection.sendall(f"{code}\n".encode())
    os._exit(code)


def _follow_caller(connection: socket.socket) -> None:
    """End this fork and all that it started when the process that waits for it ends, even if it was killed."""
    with suppress(OSError):
        connection.recv(1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
