"""A stage that starts as a fork ends, is interrupted and is killed as any other process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

STAGES = Path(__file__).parents[2] / "stages"
SCRIPT = """\
import multiprocessing, os, signal, sys, time
from pathlib import Path
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
import starting
starting.start_quickly()
if __name__ == "__main__":
    print(int(starting._forked), os.getpid(), Path.cwd().name, os.environ.get("AWS_PROFILE"), flush=True)
    print("to stderr", file=sys.stderr)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        exec(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(4)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, processes start as usual")


class Starter:
    """A script in a folder, and the server that it starts, which imports nothing and soon ends."""

    def __init__(self, folder: Path) -> None:
        source = (STAGES / "starting.py").read_text(encoding="utf-8")
        head, entry, tail = source.partition('\nif __name__ == "__main__":')
        (folder / "starting.py").write_text(
            f"{head}\n_IMPORTED = ('multiprocessing', 'no_such_module')\n_IDLE = 3.0\n{entry}{tail}"
        )
        (folder / "script.py").write_text(SCRIPT)
        self.folder = folder

    def start(self, code: str, before: str = "true", **environment: str) -> subprocess.Popen[str]:
        """Start the script, which executes code; `before` is a command of the shell that starts it."""
        command = ["sh", "-c", f'{before}; exec "$0" script.py "$1"', sys.executable, code]
        pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment = inherited | {"TMPDIR": str(self.folder)} | environment
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, **pipes)

    def run(self, code: str, before: str = "true", **environment: str) -> tuple[int, list[str], str]:
        """Return the exit code, the words of the first line, and what was written to stderr."""
        process = self.start(code, before, **environment)
        said, complained = process.communicate(timeout=60)
        return process.returncode, said.split(), complained


@pytest.fixture(scope="module")
def starters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    starter = Starter(tmp_path_factory.mktemp("s"))
    yield starter
    wait_for(lambda: not list(starter.folder.glob("amalgam-starts-*")))  # servers end and leave nothing


@pytest.fixture
def starter(starters: Starter) -> Starter:
    """The same for all tests, with a server at work: on a slow machine it may have ended since the last test."""
    wait_for(lambda: starters.run("pass")[1][0] == "1")
    return starters


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds; a busy machine may need long."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("code", "expected"), [("pass", 0), ("sys.exit(2)", 2), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", 137)]
)
def test_a_fork_has_its_callers_place_and_ends_as_it_says(starter: Starter, code: str, expected: int) -> None:
    ended, said, complained = starter.run(code, AWS_PROFILE="team")
    assert (ended, said[0], said[2:4]) == (expected, "1", [starter.folder.name, "team"])
    assert complained.startswith("to stderr\n")
    assert ("ZeroDivisionError" in complained) == (code == "1 / 0")


@pytest.mark.parametrize("before", ["ulimit -S -n 99", "umask 0027", "export OMP_NUM_THREADS=7", "trap '' HUP"])
def test_what_a_fork_cannot_change_needs_a_server_of_its_own(starter: Starter, before: str) -> None:
    assert [starter.run("pass", before)[1][0], starter.run("pass")[1][0]] == ["0", "1"]


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_stays_closed(starter: Starter, closed: str) -> None:
    assert starter.run("sys.exit(3)", f"exec {closed}")[0] == 3


def test_another_version_of_the_server_is_another_server(starter: Starter) -> None:
    source, kept = starter.folder / "starting.py", starter.folder / "kept.py"
    kept.write_text(source.read_text())
    (starter.folder / "other.py").write_text(f"{source.read_text()}\n")
    (starter.folder / "other.py").replace(source)
    assert starter.run("pass")[1][0] == "0"
    kept.replace(source)  # in one step: the new server, which this run has started, may be reading it


def test_a_server_outlives_the_stage_that_started_it(starters: Starter) -> None:
    first = starters.run("time.sleep(5)", OWN="server")  # longer than a server waits for work
    assert [first[1][0], starters.run("pass", OWN="server")[1][0]] == ["0", "1"]


@pytest.mark.parametrize("script", ["__file__", "'script.py'"])
def test_worker_processes_start_as_usual(starter: Starter, script: str) -> None:
    worker = "multiprocessing.get_context('spawn').Process(target=print, args=['from', 'a', 'worker'])"
    code = f"__file__ = {script}; worker = {worker}; worker.start(); worker.join(); sys.exit(worker.exitcode + 5)"
    ended, said, _ = starter.run(code)
    assert (ended, said[0], said[4:]) == (5, "1", ["from", "a", "worker"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_fork(starter: Starter, number: signal.Signals) -> None:
    process = starter.start("time.sleep(60)")
    assert process.stdout
    forked = process.stdout.readline().split()[0]
    process.send_signal(number)
    process.communicate(timeout=60)
    assert (forked, process.returncode) == ("1", 4 if number == signal.SIGINT else 137)


def test_a_fork_ends_with_all_that_it_started_when_its_caller_is_killed(starter: Starter) -> None:
    process = starter.start("import subprocess; subprocess.run(['sleep', '60'])")
    assert process.stdout
    forked, number = process.stdout.readline().split()[:2]
    fork = psutil.Process(int(number))
    wait_for(lambda: bool(fork.children()))
    parts = [fork, *fork.children()]
    process.kill()
    process.communicate(timeout=60)
    assert forked == "1"
    wait_for(lambda: not any(part.is_running() for part in parts))
