"""What human rows decide: whether synthetic rows teach, and what chooses the checkpoint."""

from typing import Any

import pytest

from amalgam.files import read_rows
from tests.pipeline.project import HUMAN_ROWS, Project
from tests.pipeline.server import StubServer

SUMMARY, JUDGED = "models/teacher/summary.json", "models/teacher/out_of_fold.csv"


def read_calibration(project: Project) -> dict[str, Any]:
    return dict(project.read_json("models/exported/summary.json")["calibration"])


def test_a_teacher_without_help_from_synthetic_rows_is_the_human_only_one(project: Project, server: StubServer) -> None:
    assert project.list_members() == ["contrastive", "mixed"]
    summary = project.read_json(SUMMARY)
    assert summary["learned"] == {"human": HUMAN_ROWS, "synthetic": 96}  # the ratio of what is learned
    assert summary["held_out"] == 0  # too few validation rows to choose
    project.set_params(teacher__guard=True)
    run = project.repro("export")
    guard = project.read_json(SUMMARY)["guard"]
    # If the rows are let in, the teacher is the same as before, and so are its students.
    assert run.ran == ["teacher", "transfer", "distill", *([] if guard["helps"] else ["export"])]
    assert (guard["folds"], guard["rows"]) == (5, HUMAN_ROWS)
    assert guard["difference"] == pytest.approx(guard["with_synthetic_auc"] - guard["human_only_auc"], abs=2e-4)
    helped = bool(guard["helps"])
    assert helped is bool(guard["recognised"] and guard["difference"] >= -guard["difference_error"])
    assert project.list_members() == ["contrastive", "mixed" if helped else "human_only"]
    assert ("synthetic" in (project.folder / "models/teacher/learned.csv").read_text()) is helped
    assert not server.log.answered
    judged = read_rows(project.folder / JUDGED)
    assert len(judged) == len(set(judged["id"])) == HUMAN_ROWS
    calibration = read_calibration(project)
    assert calibration["sentence"].startswith("In cross-validation")
    assert f"{HUMAN_ROWS} human-coded rows" in calibration["sentence"]
    assert calibration["guaranteed"] is False
    # Without synthetic rows there is nothing to guard.
    project.set_params(ratio=0)
    with project.keep("models/human_only", JUDGED):
        assert project.repro("teacher").ran == ["label", "mix", "teacher"]
    assert "guard" not in project.read_json(SUMMARY)
    assert project.list_members() == ["contrastive", "human_only"]
    # Synthetic rows alone are not guarded, and enough validation rows choose.
    project.set_params(ratio=1.0, teacher__min_validation_rows=4)
    run = project.repro("export")
    assert run.ran == ["label", "mix", "human_only", "teacher", "transfer", "distill", "export"]
    summary = project.read_json(SUMMARY)
    assert "guard" not in summary
    assert project.list_members() == ["contrastive", "mixed"]  # as many as its twin has
    assert (summary["learned"]["human"], summary["held_out"] >= 4) == (0, True)
    twins = project.read_json("models/human_only/summary.json")["seeds"].values()
    assert {twin["train_rows"] for twin in twins} == {HUMAN_ROWS - summary["held_out"]}
    assert read_rows(project.folder / JUDGED).empty
    calibration = read_calibration(project)  # of a student that nothing vouches for
    assert (calibration["guaranteed"], calibration["ask_below"]) == (False, 2.0)
