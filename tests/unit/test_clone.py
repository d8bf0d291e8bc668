"""What a clone meets on another machine: Git that changes line endings, a wrong Python, an owner, a plain terminal."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        command, cwd=cwd, env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code, ended.stderr
    return ended


def test_line_ends_are_those_that_were_committed(tmp_path: Path) -> None:
    files = {"stages/a.py": b"a\nb\n", "data/tasks/own/task.yaml": b"a\nb\n"}
    files |= {"data/tasks/own/excel.csv": b"a\r\nb\r\n", "data/tasks/own/mixed.csv": b"a\nb\r\n"}
    for name, content in {".gitattributes": (REPOSITORY / ".gitattributes").read_bytes(), **files}.items():
        path = tmp_path / "first" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "x"]):
        run("git", *command, cwd=tmp_path / "first")
    for number, setting in enumerate(("true", "input", "false")):
        run("git", "clone", "-q", "-c", f"core.autocrlf={setting}", "first", f"clone{number}", cwd=tmp_path)
        assert {name: (tmp_path / f"clone{number}" / name).read_bytes() for name in files} == files


def test_a_python_without_the_package_is_named_in_one_sentence() -> None:
    # Without `site` it finds no package. The lint keeps `runtime` the first import of every stage.
    ended = run(sys.executable, "-S", "stages/prepare.py", cwd=REPOSITORY, code=2)
    assert ended.stderr.startswith(f"prepare: {sys.executable} has no `amalgam`, because the environment is not active")
    assert ended.stderr.count("\n") == 1
    assert "`. .venv/bin/activate`" in ended.stderr


def test_a_plain_terminal_raises_nothing() -> None:
    code = "import amalgam.cli as c; c.app = lambda: print('\\u22120.003 \\u2192 n\\xe9gatif'); c.main()"
    ended = run(sys.executable, "-c", code, cwd=REPOSITORY, PYTHONIOENCODING="ascii", PYTHONPATH="src")
    assert ended.stdout == "\\u22120.003 \\u2192 n\\xe9gatif\n"


def test_a_folder_of_another_owner_is_named_in_one_sentence() -> None:
    fail = "def fail(): raise OSError('repository path is not owned by current user')"
    code = f"import amalgam.cli as c\n{fail}\nc.app = fail; c.main()"
    ended = run(sys.executable, "-c", code, cwd=REPOSITORY, code=2, PYTHONPATH="src")
    assert ended.stderr.startswith("amalgam: Git does not read a folder that another user owns")
    assert f"git config --global --add safe.directory {REPOSITORY}`" in ended.stderr
    assert ended.stderr.count("\n") == 1
