"""A training that is killed leaves nothing behind that the next run would take for a model."""

import shutil
import subprocess
import time
from pathlib import Path

import psutil

from tests.pipeline.project import Project

MODELS = "models/human_only"


def kill_training(project: Project) -> int:
    """Run `dvc repro human_only`, and kill the stage without warning while it trains; return DVC's exit code."""
    shutil.rmtree(project.folder / MODELS)
    process = subprocess.Popen(
        ["dvc", "repro", "human_only"],
        cwd=project.folder,
        env=project.make_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not any((project.folder / MODELS).rglob("*.tsv")) and process.poll() is None:  # dvclive's curves
        time.sleep(0.02)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    return process.wait()


def test_what_is_killed_while_it_trains_is_trained_again(project: Project, tmp_path: Path) -> None:
    project.set_params(seeds=[1], teacher__steps=300)
    whole = project.copy(tmp_path / "whole")
    assert whole.repro("human_only").ran == ["human_only"]
    assert kill_training(project) != 0
    assert not list((project.folder / MODELS).rglob("model.safetensors"))
    assert project.repro("human_only").ran == ["human_only"]
    assert project.read_bytes(MODELS) == whole.read_bytes(MODELS)
    assert project.read_bytes("dvc.lock") == whole.read_bytes("dvc.lock")
