"""Run the commands of docs/paying.md and record what they print.

They run in a clone in a temporary folder, with the default task and its LLM on this machine, for some minutes:

    python -m bench.transcript            # writes it into docs/paying.md, between the marks
    python -m bench.transcript --print    # only shows it
"""

import argparse
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from amalgam.params import load_params

REPOSITORY = Path(__file__).parents[1]
BEGIN, END = "<!-- transcript: begin -->", "<!-- transcript: end -->"
_KILL_AFTER = 60  # answers
# The printed lines that a reader needs to see.
_SHOWN = re.compile(
    r"Running stage|failed to reproduce|is cached - skipping|didn't change, skipping|requests to send|known already|"
    r"were taken over|answers|^\d+ files? (pushed|fetched)"
)


class Shell:
    """A clone of the project in which commands run, and their output."""

    def __init__(self, folder: Path) -> None:
        """Take the folder of a clone."""
        self.folder = folder
        self.lines: list[str] = []

    def run(self, command: str, *, note: str = "", only: str = "", whole: bool = False) -> None:
        """Run a command and keep the lines of interest, or with `whole` all lines, that contain `only`."""
        self._show(command, note)
        result = subprocess.run(
            shlex.split(command), cwd=self.folder, env=_make_environment(), capture_output=True, text=True, check=True
        )
        self._keep(result.stdout + result.stderr, only, whole=whole)

    def run_and_kill(self, command: str, *, note: str) -> None:
        """Run a command, and kill its stage without warning once the journal holds some answers."""
        self._show(command, note)
        process = subprocess.Popen(
            shlex.split(command),
            cwd=self.folder,
            env=_make_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while _count_answers(self.folder) < _KILL_AFTER and process.poll() is None:
            time.sleep(0.05)
        for stage in psutil.Process(process.pid).children(recursive=True):
            if "stages/synthesize.py" in stage.cmdline():
                stage.kill()
        self._keep(process.communicate()[0], "synthesize")

    def _show(self, command: str, note: str) -> None:
        self.lines.append(f"$ {command:<52}# {note}" if note else f"$ {command}")

    def _keep(self, output: str, only: str, *, whole: bool = False) -> None:
        lines = [line.rstrip() for line in output.splitlines() if line.strip() and (whole or _SHOWN.search(line))]
        self.lines += [line for line in lines if only in line]


def main() -> None:
    """Run the transcript, and print it or put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print it and leave the page unchanged")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        text = "```\n" + "\n".join(record(Path(folder))) + "\n```"
    if options.print:
        print(text)
        return
    page = REPOSITORY / "docs/paying.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def record(folder: Path) -> list[str]:
    """Run what the section describes, and return its lines."""
    mine = folder / "mine"
    _clone(REPOSITORY, mine)
    shell, rows = Shell(mine), load_params(mine / "params.yaml").synthesis.rows
    shell.run_and_kill("dvc repro synthesize", note="the first run, and kill -9")
    shell.run("amalgam journal", whole=True)
    shell.run("dvc repro synthesize", note="the rest", only="synthesize")
    shell.run("dvc exp run -S synthesis.temperature=0.3 synthesize", note="another temperature", only="synthesize")
    shell.run("dvc exp run -S synthesis.temperature=0.7 synthesize", note="and back", only="synthesize")
    more = "dvc exp run -S synthesis.rows={} synthesize"
    shell.run(more.format(rows + 4), note="4 more rows a label", only="synthesize")
    shell.run(f"dvc remote add --default team {folder / 'remote'}")
    shell.lines.pop()
    shell.run("git commit --quiet --all --message 'More rows'")
    shell.run("dvc push --with-deps synthesize")
    theirs = folder / "theirs"
    _clone(mine, theirs)
    shell.lines += ["", f"$ git clone … theirs && cd theirs{'':<20}# a colleague's clone"]
    colleague = Shell(theirs)
    colleague.run("dvc pull --with-deps synthesize")
    colleague.run("dvc repro synthesize", only="synthesize")
    colleague.run(more.format(rows + 8), note="4 more again", only="synthesize")
    return shell.lines + colleague.lines


def _clone(source: Path, target: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", source, target], check=True)
    wheels = REPOSITORY / ".cache/downloads"
    if wheels.is_dir():
        shutil.copytree(wheels, target / ".cache/downloads")


def _make_environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "COLUMNS": "100"}


def _count_answers(folder: Path) -> int:
    journal = folder / ".cache/journal.sqlite"
    if not journal.is_file():
        return 0
    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:  # it is being created
        return 0


if __name__ == "__main__":
    main()
