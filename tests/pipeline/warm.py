"""A `dvc` that starts quickly: as a fork of the process of which stages are forks."""

import stat
import sys
from pathlib import Path

_STARTER = """\
#!{python}
import os, signal, sys
sys.path.insert(0, {stages!r})
import starting
for name, value in starting.SETTINGS.items():
    os.environ.setdefault(name, value)
starting.start_quickly()
del sys.path[0]
signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGINT}})
from dvc.cli import main
sys.exit(main())
"""


def write_starter(folder: Path) -> Path:
    """Write `dvc` into a folder for the front of PATH; the tests run hundreds of its commands."""
    starter = folder / "dvc"
    stages = Path(__file__).parents[2] / "stages"
    starter.write_text(_STARTER.format(python=sys.executable, stages=str(stages)), encoding="utf-8")
    starter.chmod(starter.stat().st_mode | stat.S_IXUSR)
    return folder
