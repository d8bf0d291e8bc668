"""The README names only what exists."""

import re
import subprocess
import sys
from pathlib import Path

from amalgam.params import list_tracked_keys

README = Path(__file__).parents[2] / "README.md"


def test_its_params_exist() -> None:
    readme = README.read_text(encoding="utf-8")
    named = set(re.findall(r"-S ([\w.]+)=", readme))
    assert named
    assert named <= set(list_tracked_keys())


def test_its_commands_are_known() -> None:
    readme = README.read_text(encoding="utf-8")
    script = "from typer.main import get_command; from amalgam.cli import app; print(*get_command(app).commands)"
    known = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    named = set(re.findall(r"^\s*(?:\$ )?amalgam (\w+)", readme, re.MULTILINE))
    assert named
    assert named <= set(known)
