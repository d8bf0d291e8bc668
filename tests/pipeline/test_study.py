"""The study's pipeline on the toy task: nothing computed or paid for twice, whatever is added, killed or impossible."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from amalgam.files import read_json
from tests.pipeline.project import HUMAN_ROWS, Project, make_project
from tests.pipeline.server import StubServer

STUDY, STUDY_PARAMS = "study/dvc.yaml", "study/params.yaml"
TABLE, CELLS = "study/results.parquet", "study/cells"


@pytest.fixture(scope="module")
def studied(running_server: StubServer, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that ran a small study in one process."""
    running_server.reset()
    project = make_project(tmp_path_factory.mktemp("study") / "project", running_server.url)
    project.set_params(
        STUDY_PARAMS, preset="size", tasks=["toy"], llms=["stub"], seeds=[1], ratios=[0.5], rows=[], ray=None
    )
    run = project.repro(STUDY)
    assert count_computed(run.output) == 4  # two members of human rows alone, one of the mix, and the guard
    assert running_server.log.answered_twice == 0
    return project


@pytest.fixture
def project(studied: Project, server: StubServer, tmp_path: Path) -> Project:
    return studied.copy(tmp_path / "project")


def read_table(project: Project) -> pd.DataFrame:
    return pd.read_parquet(project.folder / TABLE)


def count_computed(output: str) -> int:
    """Return how many parts a run computed."""
    match = re.search(r"cells, trainings: (\d+) to do", output)
    assert match, output
    return int(match[1])


def count_results(project: Project) -> int:
    return len(list((project.folder / CELLS).rglob("*.json")))


def test_a_study_leaves_charts_numbers_a_page_and_a_status(studied: Project) -> None:
    table = read_table(studied)
    assert list(table["synthetic"]) == [0, HUMAN_ROWS]
    assert table["auc"].between(0.5, 1).all()
    assert table["guard_helps"].notna().sum() == 1
    charts = {path.name for path in (studied.folder / "study/charts").iterdir()}
    assert charts == {"size.svg", "size.pdf", "size.tex"}
    metrics = read_json(studied.folder / "metrics/study.json")
    assert metrics["size"]["toy"]["ratio_0_5"]["auc"] == pytest.approx(table["auc"][1], abs=1e-4)
    page = (studied.folder / "study/report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "The paper: best at 80 %" in page
    assert "2 of 2 cells are done, 0 failures" in studied.do("amalgam", "study", "status").output
    assert "study" not in studied.do("amalgam", "doctor").output.replace("study/", "")  # only of the main pipeline


def test_what_is_there_is_neither_computed_nor_paid_again_and_what_cannot_be_had_is_told(
    project: Project, server: StubServer
) -> None:
    assert not project.repro(STUDY).ran
    shutil.rmtree(project.folder / CELLS)
    shutil.rmtree(project.folder / ".cache")
    project.do("dvc", "checkout", "study/cells.dvc")  # as `dvc pull` ends
    assert count_computed(project.repro("--force", STUDY).output) == 0
    before = read_table(project)  # one more ratio costs only that ratio
    project.set_params(STUDY_PARAMS, ratios=[0.2, 0.5])
    run = project.repro(STUDY)
    assert count_computed(run.output) == 2  # a member that learns the mix, and the guard
    after = read_table(project)
    kept = after[after["ratio"] != 0.2].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
    project.set_params(STUDY_PARAMS, ratios=[0.5], human_rows=[HUMAN_ROWS, 500])
    run = project.repro(STUDY)
    assert count_computed(run.output) == 0
    assert not server.log.answered  # a smaller ratio needs no more responses
    table = read_table(project)
    assert list(table["fault"] == "") == [True, False, True, False]
    assert table["fault"].str.contains("`human_rows` is 500").sum() == 2
    assert "500" in (project.folder / "study/report.html").read_text(encoding="utf-8")
    assert "2 of 4 cells failed" in run.output


def test_a_kill_loses_what_was_in_flight(project: Project) -> None:
    project.set_params(STUDY_PARAMS, seeds=[1, 2, 3])
    before = count_results(project)
    assert project.kill(["dvc", "repro", f"{STUDY}:cells"], lambda: count_results(project) >= before + 2) != 0
    there = count_results(project)
    run = project.repro(STUDY)
    assert count_computed(run.output) == before + 6 - there  # two more seeds, of three trainings each
    assert len(read_table(project)) == 6
    assert (read_table(project)["fault"] == "").all()
