"""Revisions from a real Git repository, and the command on them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from amalgam.cli import app
from amalgam.cli.review import run_review
from amalgam.dvc import open_repo
from amalgam.errors import DataError, ParamsError
from amalgam.evaluation.summary import gather_counts
from amalgam.review.revisions import StageChange, find_default_base, read_revision
from amalgam.review.verdict import Review, review_revisions
from tests.unit.review_project import ReviewProject, make_outputs, make_rows

ROWS = make_rows(120)
WEAK, STRONG = (make_outputs(ROWS, {"teacher": 2.0, "student": strength}) for strength in (0.5, 3.0))


@pytest.fixture
def repository(tmp_path: Path) -> ReviewProject:
    """A branch `main`, and a branch `ratio` that is checked out and better."""
    project = ReviewProject(tmp_path / "project")
    project.write(WEAK, {"student": {"auc": 0.7, "auc_low": 0.6}})
    project.commit("Start")
    project.git("switch", "--create", "ratio")
    project.write(STRONG, {"student": {"auc": 0.9, "auc_low": 0.8}}, ratio=0.5)
    project.commit("Less")
    return project


def review(repository: ReviewProject, old: str = "main", new: str = "workspace") -> Review:
    with open_repo(repository.folder) as repo:
        return review_revisions(repo, read_revision(repo, old), read_revision(repo, new), pytest.fail)


def run(repository: ReviewProject, base: str | None = None, head: str | None = None, worse: str | None = None) -> None:
    run_review(repository.folder, base, head, as_markdown=False, as_json=True, fail_if_worse=worse)


@pytest.mark.parametrize("new", ["workspace", "HEAD"])
def test_a_branch_is_compared_row_by_row(repository: ReviewProject, new: str) -> None:
    found = review(repository, new=new)
    assert [(change.name, change.old, change.new) for change in found.params] == [("ratio", 0.8, 0.5)]
    outs = StageChange("evaluate", [], [], ["data/predictions"])
    assert found.stages == [StageChange("mix", ["ratio"], [], []), outs]
    assert found.comparison
    assert found.comparison.unchanged == ["teacher"]
    assert len(found.comparison.flips) > 10
    assert not found.metrics  # student.auc is in the comparison, its interval's ends are not news
    assert (found.verdict.kind, review(repository, new, "main").verdict.kind) == ("better", "worse")


@pytest.mark.parametrize(
    ("bits", "kind", "points"),
    [(8, "better", "0.600 to 0.800"), (32, "no change", "0.900 to 0.800")],
)
def test_the_student_is_the_form_that_ships(tmp_path: Path, bits: int, kind: str, points: str) -> None:
    project = ReviewProject(tmp_path / "project")
    for whole, small, aucs, ships in ((3.0, 0.5, (0.9, 0.6), bits), (0.5, 3.0, (0.7, 0.8), 8)):
        metrics = {"student": {"auc": aucs[0]}, "student_int8": {"auc": aucs[1]}}
        project.write(make_outputs(ROWS, {"student": whole, "student_int8": small}), metrics, ships)
        project.commit("State")
    found = review(project, "HEAD~1", "HEAD")
    assert found.comparison
    assert found.verdict.kind == kind
    assert all(difference.measure.startswith("student.") for difference in found.comparison.differences)
    project.drop_cache()
    found = review(project, "HEAD~1", "HEAD")
    assert f"went from {points} (" in found.verdict.sentence
    assert [change.name for change in found.metrics] == ["student.auc"]


def test_what_allows_no_verdict_is_named_and_a_comment_needs_no_predictions(repository: ReviewProject) -> None:
    repository.edit("params.yaml", "ratio: 0.5", "ratio: 0.2")
    reason = "stage mix of workspace has not run with the current ratio: run `dvc repro`."
    assert review(repository).verdict.sentence.startswith(f"Cannot be said: {reason}")
    repository.edit("params.yaml", "ratio: 0.2", "ratio: 0.5 # a comment")
    repository.drop_cache()
    found = review(repository)
    assert found.verdict.kind == "cannot be said"
    assert "predictions of main are neither in DVC's cache nor on its remote" in found.verdict.sentence
    assert found.verdict.sentence.endswith("went from 0.700 to 0.900 (+0.200), perhaps by chance.")
    found = review(repository, "ratio")
    assert (found.verdict.kind, found.params, found.stages, found.comparison) == ("no change", [], [], None)
    assert found.verdict.sentence.endswith("the student's AUC is 0.900.")


def test_a_project_below_the_top_of_its_repository_is_compared_on_the_rows_that_both_have(tmp_path: Path) -> None:
    project = ReviewProject(tmp_path / "mono/part")
    (tmp_path / "mono/part/.git").rename(tmp_path / "mono/.git")
    project.write(WEAK)
    project.commit("Start")
    project.write(make_outputs(ROWS.iloc[30:], {"teacher": 2.0, "student": 3.0}), ratio=0.5)
    found = review(project)
    assert found.comparison
    assert (found.comparison.rows, found.comparison.old_rows, found.comparison.new_rows) == (90, 120, 90)
    assert found.verdict.kind == "better"


def test_a_base_is_named_or_main_or_what_origin_says_or_a_sentence(
    repository: ReviewProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository.folder)
    assert "Better: the student's AUC went from" in CliRunner().invoke(app, ["review"]).stdout
    head = repository.git("rev-parse", "HEAD").strip()
    repository.git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/quick-test", "main")  # an experiment
    assert review(repository, old="quick-test").verdict.kind == "better"
    with open_repo(repository.folder) as repo:
        assert find_default_base(repo) == "main"
        repository.git("branch", "--move", "main", "trunk")
        with pytest.raises(DataError, match="there is no branch `main` or `master`"):
            find_default_base(repo)
        repository.git("update-ref", "refs/remotes/origin/trunk", "trunk")
        repository.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk")
        assert find_default_base(repo) == "origin/HEAD"


def test_what_cannot_be_read_is_said_in_a_sentence(repository: ReviewProject, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no branch, tag, commit or experiment `nope`"):
        review(repository, "nope")
    for name, text in (("dvc.lock", "a: [\n<<<<<<<\n"), ("metrics/models.json", "{")):
        (repository.folder / name).write_text(text)
        with pytest.raises(DataError, match=f"{name} of `workspace` is not valid"):
            review(repository)
        repository.git("restore", ".")
    repository.edit("params.yaml", "confidence: 0.95", "other: 1")
    with pytest.raises(ParamsError, match=r"params\.yaml of `workspace`, section `evaluation`: `confidence` is"):
        review(repository)
    repository.git("switch", "--discard-changes", "--orphan", "other")
    repository.commit("Nothing")
    with pytest.raises(DataError, match=r"`other` holds no params\.yaml"):
        review(repository, "other", "main")
    with pytest.raises(DataError, match="DVC cannot read the project"), open_repo(tmp_path):
        pass
    shutil.rmtree(repository.folder / ".git")
    (repository.folder / ".dvc/config").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    with pytest.raises(DataError, match="is not in a Git repository"):
        review(repository)


def test_a_run_that_stopped_before_the_evaluation_allows_no_verdict(repository: ReviewProject) -> None:
    repository.write(WEAK)
    made = "outs:\n    - path: data/mixed.csv\n      md5: "
    repository.edit("dvc.lock", f"{made}abc", f"{made}def")
    reason = "stage evaluate of workspace has not run with the current data/mixed.csv: run `dvc repro`."
    assert review(repository).verdict.sentence == f"Cannot be said: {reason}"
    with pytest.raises(DataError, match=r"it is unknown whether student\.auc became worse"):
        run(repository, "main", worse="student.auc")


def test_all_work_of_the_llm_is_listed(repository: ReviewProject) -> None:
    asked: dict[str, Any] = {"requests": 3, "rows": 3, "unparsed": 0, "prompt_tokens": 5, "completion_tokens": 5}
    asked |= {"seeds": {}, "learned": {"synthetic": 3}, "held_out": 0, "cost_usd": None}
    names = ("prepared", "synthesis", "judge", "label", "teacher", "student")
    summaries = dict.fromkeys(names, asked) | {"baselines": {"human_only": asked, "llm_grader": asked}}
    cost = gather_counts(summaries, {})["cost"]
    repository.write(STRONG, cost)
    assert [one["requests"] for one in review(repository).new_usage] == [3] * len(cost.keys() - {"llm"})


def test_fail_if_worse(repository: ReviewProject, capsys: pytest.CaptureFixture[str]) -> None:
    run(repository, worse="student.auc")
    run(repository, "ratio", "main", "teacher.auc")
    run(repository, "ratio", "ratio", "student.kappa")
    with pytest.raises(SystemExit) as ended:
        run(repository, "ratio", "main", "student.brier")
    assert ended.value.code == 1
    assert capsys.readouterr().out.count('"verdict"') == 4  # it is printed all the same
    for name in ("student.ece", "auc", "nobody.auc", "student", "student_int8.auc"):
        with pytest.raises(ParamsError, match="is not a measure with an interval"):
            run(repository, worse=name)
    for name in ("tfidf_lr.auc", "student.auc"):
        with pytest.raises(DataError, match=rf"it is unknown whether {name} became worse"):
            run(repository, worse=name)
        repository.drop_cache()
