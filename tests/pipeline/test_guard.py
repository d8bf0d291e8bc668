"""What human rows decide: whether synthetic rows teach, and what chooses the checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest

from amalgam.rows import read_rows
from tests.pipeline.project import Project
from tests.pipeline.server import StubServer


def read_summary(project: Project) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((project.folder / "models/teacher/summary.json").read_text())
    return found


def read_calibration(project: Project) -> dict[str, Any]:
    exported = json.loads((project.folder / "models/exported/summary.json").read_text())
    return dict(exported["calibration"])


def list_members(project: Project) -> list[str]:
    """List their names in order: the first gives its layers to students."""
    note = json.loads((project.folder / "models/teacher/seed-1/amalgam.json").read_text())
    return [Path(name).name for name in note["members"]]


def test_a_teacher_without_help_from_synthetic_rows_is_the_human_only_one(project: Project, server: StubServer) -> None:
    assert list_members(project) == ["contrastive", "mixed"]
    project.set_params(teacher__guard=True)
    run = project.repro("export")
    guard = read_summary(project)["guard"]
    # Where the rows are let in, the teacher is the one that it was, and so are its students.
    assert run.ran == ["teacher", "transfer", "distill", *([] if guard["helps"] else ["export"])]
    assert (guard["folds"], guard["rows"]) == (5, 24)
    assert guard["difference"] == pytest.approx(guard["with_synthetic_auc"] - guard["human_only_auc"], abs=2e-4)
    helped = bool(guard["helps"])
    assert helped is bool(guard["recognised"] and guard["difference"] >= -guard["difference_error"])
    assert list_members(project) == ["contrastive", "mixed" if helped else "human_only"]
    learned = (project.folder / "models/teacher/learned.csv").read_text()
    assert ("synthetic" in learned) is helped
    assert not server.log.answered
    judged = read_rows(project.folder / "models/teacher/out_of_fold.csv")
    assert len(judged) == len(set(judged["id"])) == 24
    calibration = read_calibration(project)
    assert calibration["sentence"].startswith("In cross-validation ")
    assert "24 human-coded rows" in calibration["sentence"]
    assert calibration["guaranteed"] is False


def test_without_synthetic_rows_there_is_nothing_to_guard_or_to_blend(project: Project) -> None:
    project.set_params(teacher__guard=True, ratio=0.0)
    judged = "models/teacher/out_of_fold.csv"
    with project.keep("models/human_only", judged):  # by human-only teachers, whatever the ratio
        run = project.repro("teacher")
    assert run.ran == ["mix", "teacher"]
    assert "guard" not in read_summary(project)
    assert list_members(project) == ["contrastive", "human_only"]
    project.set_params(ratio=1.0)
    project.repro("export")
    assert "guard" not in read_summary(project)
    assert list_members(project) == ["contrastive", "mixed"]  # as many as its twin has
    assert read_summary(project)["learned"]["human"] == 0
    assert read_rows(project.folder / judged).empty
    calibration = read_calibration(project)  # of a student that nothing vouches for
    assert (calibration["guaranteed"], calibration["ask_below"]) == (False, 2.0)


def test_validation_rows_teach_unless_there_are_enough_to_choose(project: Project) -> None:
    assert read_summary(project)["learned"] == {"human": 24, "synthetic": 96}  # the ratio of what is learned
    assert read_summary(project)["held_out"] == 0
    project.set_params(teacher__min_validation_rows=4)
    run = project.repro("export")
    assert run.ran == ["mix", "human_only", "teacher", "transfer", "distill", "export"]
    summary = read_summary(project)
    assert summary["held_out"] >= 4
    assert summary["learned"]["human"] == 24 - summary["held_out"]
    assert not read_calibration(project)["guaranteed"]
