"""`amalgam predict` with the student of a run, and `amalgam doctor` on the project around it."""

import csv
import json
from typing import Any

import pytest

from tests.pipeline.project import AFTER_RATIO, ROWS, Project
from tests.pipeline.server import StubServer
from tests.pipeline.toy import LABELS, make_rows


def test_the_command_labels_and_says_in_one_sentence_what_is_wrong(project: Project) -> None:
    # Of many lengths, since the model reads them sorted by length.
    comments = [row["text"] * (1 + number % 3) for number, row in enumerate(make_rows(90))]
    with (project.folder / "in.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["comment"], *([comment] for comment in comments)])
    project.do("amalgam", "predict", "in.csv", "out.csv", "--text-column", "comment")
    with (project.folder / "out.csv").open(encoding="utf-8", newline="") as stream:
        header, *labelled = list(csv.reader(stream))
    assert header == ["comment", "label", "p_complaint", "p_praise", "needs_human"]
    assert [row[0] for row in labelled] == comments
    for row in labelled:
        chances = [float(cell) for cell in row[2:4]]
        assert sum(chances) == pytest.approx(1, abs=2e-6)
        assert row[1] == LABELS[chances.index(max(chances))]
    run = project.run("amalgam", "predict", "nowhere.csv", "out.csv")
    assert (run.code, run.output.splitlines()[-1]) == (2, "amalgam: nowhere.csv does not exist")
    assert "Traceback" not in run.output


def test_the_doctor_says_what_would_run_and_what_it_would_send(project: Project, server: StubServer) -> None:
    healthy = examine(project)
    assert (healthy["stages"], healthy["requests"], healthy["problems"]) == ([], [], [])
    project.set_params(synthesis__temperature=0.3)
    changed = examine(project)
    following = ["synthesize", "judge", "curate", "describe", *AFTER_RATIO]
    assert changed["stages"] == following
    assert changed["requests"] == [
        {"stage": stage, "requests": 2 * ROWS, "answered": 0, "to_send": 2 * ROWS, "at_most": at_most}
        for stage, at_most in (("synthesize", False), ("judge", True))
    ]
    assert not server.log.answered
    project.repro("synthesize")
    assert server.log.synthesis == 2 * ROWS


def examine(project: Project) -> dict[str, Any]:
    """Return what `amalgam doctor --json` prints."""
    run = project.run("amalgam", "doctor", "--json")
    assert run.code == 0, run.output
    findings: dict[str, Any] = json.loads(run.output)
    return findings
