"""A copy of this project in a temporary folder, with the toy task, and what `dvc` did in it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
from dvc.utils.serialize import modify_yaml

from tests.pipeline.toy import write_encoder, write_task

REPOSITORY = Path(__file__).parents[2]
KEY = "sk-test-secret"
ROWS, HUMAN_ROWS, TEST = 52, 24, 40  # so that the ratio 0.8 takes 48 of the 52 a label
# The stages that depend on the ratio come last.
STAGES = ["models", "prepare", "prompts", "synthesize", "judge", "curate", "describe", "human_only", "baselines"]
AFTER_RATIO = ["label", "mix", "teacher", "transfer", "distill", "export", "evaluate", "report", "ship"]
STAGES += AFTER_RATIO
_SETTINGS: dict[str, Any] = {
    "task": "toy",
    "human_rows": HUMAN_ROWS,
    "seeds": [1, 2],
    "split.test": TEST,
    "split.unlabelled": 60,
    "llm.model": "stub",
    "llm.timeout": 20.0,
    "prompts.shots": 2,
    "synthesis.rows": ROWS,
    "judge.rows": 1000,
    "baselines.llm_grader": True,
    "teacher.model": "tiny-bert",
    "teacher.steps": 8,
    "teacher.guard": False,  # so that every ratio has a teacher of its own
    "teacher.trained_layers": 1,
    "distillation.layers": 1,
    "distillation.trained_layers": 1,
    "distillation.steps": 8,
}


@dataclass(frozen=True)
class Run:
    """What a command did: its exit code, all that it printed, and which stages ran or came from the run cache."""

    code: int
    output: str

    @property
    def ran(self) -> list[str]:
        return re.findall(r"Running stage '(\w+)'", self.output)

    @property
    def restored(self) -> list[str]:
        return re.findall(r"Stage '(\w+)' is cached - skipping run", self.output)

    @property
    def messages(self) -> list[str]:
        """The sentences in which stages reported their failure."""
        said = rf"^(?:{'|'.join(STAGES)}): (?!\d+ (?:to do|of|requests to send)).+"
        return re.findall(said, self.output, re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """A clone of the project; `machine` has the environment variables that only its machine has."""

    starts: ClassVar[Path | None] = None  # a folder with a `dvc` that starts quickly
    folder: Path
    machine: dict[str, str] = field(default_factory=dict)

    def make_environment(self) -> dict[str, str]:
        """Return the environment of a command in the clone."""
        outside = self.folder.parent / "outside"
        # The variables of pytest change from test to test.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return inherited | {
            "PATH": f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "OPENAI_API_KEY": KEY,
            # Nothing of this machine's user or its other DVC projects.
            "DVC_GLOBAL_CONFIG_DIR": str(outside),
            "DVC_SYSTEM_CONFIG_DIR": str(outside),
            "DVC_SITE_CACHE_DIR": str(outside),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "COLUMNS": "200",
            **self.machine,
        }

    def run(self, *command: str, env: dict[str, str] | None = None) -> Run:
        """Run a command in the clone, with the clone's library and a key for the endpoint."""
        environment = self.make_environment()
        if self.starts:
            environment["PATH"] = f"{self.starts}{os.pathsep}{environment['PATH']}"
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        environment |= env or {}
        ended = subprocess.run(command, cwd=self.folder, env=environment, check=False, **streams)
        return Run(ended.returncode, ended.stdout.decode(errors="replace"))

    def kill(self, command: list[str], is_ready: Callable[[], bool], seconds: float = 0.0) -> int:
        """Run a command, and kill it, or all that it started, some time after it is ready; return its exit code."""
        environment, quiet = self.make_environment(), subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=quiet, stderr=quiet)
        while not is_ready() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
        started = psutil.Process(process.pid)
        for part in started.children(recursive=True) or [started]:
            part.kill()
        return process.wait()

    def do(self, *command: str) -> Run:
        """Run a command that must succeed."""
        run = self.run(*command)
        assert run.code == 0, run.output
        return run

    def repro(self, *args: str, fails: bool = False, env: dict[str, str] | None = None) -> Run:
        """Run `dvc repro`; it must succeed, or fail if `fails` is set."""
        run = self.run("dvc", "repro", *args, env=env)
        assert (run.code != 0) == fails, run.output
        return run

    def set_params(self, file: str = "params.yaml", **values: Any) -> None:
        """Change params.yaml, or another such file; dots in keys are written as `__`."""
        with modify_yaml(self.folder / file) as params:
            for key, value in values.items():
                *sections, name = key.split("__")
                place = params
                for section in sections:
                    place = place[section]
                place[name] = value

    @contextmanager
    def keep(self, *paths: str) -> Iterator[None]:
        """Check that files are the same after the block as before it, byte for byte."""
        before = {path: self.read_bytes(path) for path in paths}
        assert all(before.values())
        yield
        for path in paths:
            assert self.read_bytes(path) == before[path], path

    def read_bytes(self, path: str) -> dict[str, bytes]:
        """Read a file, or all files below a folder."""
        top = self.folder / path
        files = [top] if top.is_file() else sorted(file for file in top.rglob("*") if file.is_file())
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in files}

    def read_json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text(encoding="utf-8"))

    def list_members(self) -> list[str]:
        """List the members of the first seed's teacher in order: the first gives its layers to students."""
        return [Path(name).name for name in self.read_json("models/teacher/seed-1/amalgam.json")["members"]]

    def list_changes(self) -> str:
        return self.do("git", "status", "--porcelain").output

    def copy(self, target: Path) -> "Project":
        """Copy all of it, DVC's cache included."""
        shutil.copytree(self.folder, target, symlinks=True)
        return replace(self, folder=target)

    def commit(self, message: str) -> None:
        """Commit everything to Git."""
        self.do("git", "add", "--all")
        self.do("git", "commit", "--quiet", "--message", message)


def make_project(folder: Path, endpoint: str) -> Project:
    """Copy the project's files, uncommitted ones too, into a Git repository of its own, set to the toy task.

    The tests are left out: they hold the key that other tests search for.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in listed.split("\0"):
        if (REPOSITORY / name).is_file() and not name.startswith("tests/"):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target)
    # The copy starts without the results of the repository's own runs.
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(folder / "metrics", ignore_errors=True)
    write_task(folder / "data/tasks/toy")
    write_encoder(folder / "tiny-bert")
    project = Project(folder)
    project.set_params(**{key.replace(".", "__"): value for key, value in _SETTINGS.items()}, llm__endpoint=endpoint)
    project.do("git", "init", "--quiet")
    sign_commits(project)
    project.commit("Start")
    return project


def clone_project(origin: Path, project: Project, branch: str) -> Project:
    """Clone a branch as Git does: no cache, no journal, nothing but what was pushed."""
    project.folder.mkdir(parents=True)
    project.do("git", "clone", "--quiet", "--branch", branch, str(origin), ".")
    sign_commits(project)
    return project


def sign_commits(project: Project) -> None:
    """Give commits an author."""
    for name in ("user.name", "user.email"):
        project.do("git", "config", name, "tester@example.org")


def read_git_objects(folder: Path) -> bytes:
    """Return all objects of a Git repository, uncompressed, that a branch, an experiment or DVC's queue holds."""
    names = subprocess.run(["git", "rev-list", "--objects", "--all"], cwd=folder, stdout=subprocess.PIPE, check=True)
    hashes = b"".join(line.split()[0] + b"\n" for line in names.stdout.splitlines())
    command = ["git", "cat-file", "--batch"]
    return subprocess.run(command, cwd=folder, input=hashes, stdout=subprocess.PIPE, check=True).stdout
