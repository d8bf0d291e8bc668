"""What a run leaves behind says nothing of the key, the machine or its user."""

import subprocess
from pathlib import Path

import pytest

from tests.pipeline.project import KEY, Project, Run
from tests.pipeline.server import Log

SCRATCH = ("__pycache__", ".dvc/tmp")  # what Python and DVC keep for this machine alone


def test_no_file_holds_the_key(first_run: tuple[Project, Run, Log]) -> None:
    project, run, _ = first_run
    assert find_text(project, KEY) == []
    assert KEY not in run.output


@pytest.mark.parametrize("name", ["the project's folder", "the user's home"])
def test_no_file_tells_a_path_of_this_machine(first_run: tuple[Project, Run, Log], name: str) -> None:
    project = first_run[0]
    path = str(project.folder.parent) if name == "the project's folder" else f"{Path.home()}/"
    assert [found for found in find_text(project, path) if not any(part in found for part in SCRATCH)] == []


def find_text(project: Project, text: str) -> list[str]:
    """List the files that hold a text, Git's objects uncompressed."""
    wanted = text.encode()
    files = [file for file in project.folder.rglob("*") if file.is_file() and wanted in file.read_bytes()]
    objects = run_git(project, b"", "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    found = [name.decode() for name in objects if wanted in run_git(project, name, "cat-file", "--batch")]
    assert len(objects) > 50
    return sorted([str(file.relative_to(project.folder)) for file in files] + found)


def run_git(project: Project, sent: bytes, *command: str) -> bytes:
    """Return what Git prints."""
    result = subprocess.run(["git", *command], cwd=project.folder, input=sent, stdout=subprocess.PIPE, check=True)
    return result.stdout
