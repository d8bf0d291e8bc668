"""A pull request is reviewed automatically: the steps of the workflow, in a clone with two branches."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from amalgam.files import read_rows
from amalgam.report.content import flatten
from tests.pipeline.project import AFTER_RATIO, TEST, Project, Run
from tests.pipeline.server import Log, StubServer
from tests.pipeline.toy import LABELS


def review(project: Project, *args: str) -> dict[str, Any]:
    output = project.do("amalgam", "review", *args, "--json").output
    return dict(json.loads(output[output.index("{") :]))


@pytest.fixture(scope="module")
def branches(first_run: tuple[Project, Run, Log], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project with the branches `main` and `ratio`; the latter's student learns more, from another mix."""
    project = first_run[0].copy(tmp_path_factory.mktemp("branches") / "project")
    project.do("git", "branch", "--move", "main")
    project.do("git", "switch", "--quiet", "--create", "ratio")
    params = ("ratio=0.2", "distillation.temperature=1.0", "distillation.learning_rate=0.005", "distillation.steps=60")
    run = project.do("dvc", "exp", "run", *(part for param in params for part in ("--set-param", param)))
    assert (sorted(run.ran), run.restored) == (sorted(AFTER_RATIO), [])
    project.commit("Fewer synthetic rows, and a student that learns longer")
    return project


def run_workflow(project: Project, folder: Path) -> tuple[str, str]:
    """Run the step of .github/workflows/review.yml that makes the review; return its comment and exit code."""
    workflow = yaml.safe_load((project.folder / ".github/workflows/review.yml").read_text(encoding="utf-8"))
    step = next(step for step in workflow["jobs"]["review"]["steps"] if step.get("id") == "review")
    project.do("git", "update-ref", "refs/remotes/origin/main", "main")
    files = {name: folder / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for path in files.values():
        path.unlink(missing_ok=True)
    env = {name: str(path) for name, path in files.items()} | {"BASE": "origin/main"}
    run = project.run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], env=env)
    assert run.code == 0, run.output
    first, *lines = files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines()
    end = lines.index(first.removeprefix("comment<<"))
    comment = "\n".join(lines[:end]) + "\n"
    assert comment == files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
    assert len(comment.encode()) < 65_000
    (project.folder / "review.md").unlink()
    return comment, dict(line.split("=") for line in lines[end + 1 :])["code"]


def test_a_branch_with_another_ratio_is_reviewed(branches: Project, tmp_path: Path) -> None:
    found = review(branches, "main", "ratio")
    params = {change["name"]: (change["old"], change["new"]) for change in found["params"]}
    assert params.keys() == {"ratio", *(f"distillation.{name}" for name in ("temperature", "learning_rate", "steps"))}
    assert params["ratio"] == (0.8, 0.2)
    assert sorted(stage["name"] for stage in found["stages"]) == sorted(AFTER_RATIO)
    assert found["comparison"]["rows"] == TEST
    assert set(found["comparison"]["unchanged"]) == {"human_only", "embedding_lr", "tfidf_lr", "llm_grader"}
    primary = found["comparison"]["differences"][0]
    metrics = json.loads(branches.do("dvc", "metrics", "diff", "main", "ratio", "--json").output)
    change = metrics["metrics/summary.json"][primary["measure"]]
    for ours, dvcs in (("old", "old"), ("new", "new"), ("change", "diff")):
        assert primary[ours] == pytest.approx(change[dvcs], abs=2e-4)
    kind = "better" if primary["low"] > 0 else "worse" if primary["high"] < 0 else "no evidence of a difference"
    assert found["verdict"]["kind"] == kind
    rows = read_rows(branches.folder / "data/prepared/test.csv").set_index("id")
    assert found["comparison"]["flips"]
    for flip in found["comparison"]["flips"]:
        assert (flip["text"], flip["label"]) == (rows.loc[flip["id"], "text"], rows.loc[flip["id"], "label"])
        assert (flip["old"] == flip["label"]) != (flip["new"] == flip["label"])

    comment, code = run_workflow(branches, tmp_path)
    assert code == "0"
    assert f"**{kind.capitalize()}**: {found['verdict']['sentence'].partition(': ')[2]}" in comment
    assert "- `ratio`: `0.8` → `0.2`" in comment
    assert "dvc.lock belongs to what is committed" in comment
    assert re.search(r"^    metrics/summary\.json +student\.auc ", comment, re.MULTILINE)
    assert re.search(r"^    params\.yaml +ratio +0\.8 +0\.2$", comment, re.MULTILINE)


def test_another_ratio_shows_in_the_metrics_and_going_back_restores_the_first(
    branches: Project, server: StubServer, tmp_path: Path
) -> None:
    project = branches.copy(tmp_path / "project")
    assert re.search(r"^ratio: 0\.2 +# synthetic share", (project.folder / "params.yaml").read_text(), re.MULTILINE)
    for form in ((), ("--md",)):
        differences = project.do("dvc", "metrics", "diff", "main", *form).output
        assert re.search(r"metrics/summary\.json[ |]+student\.auc ", differences), differences
        lines = differences.strip().splitlines()
        assert len(lines) <= 40, differences
        assert max(map(len, lines)) <= 100, differences
    words = set(re.findall(r"\w+", " ".join(flatten(project.read_json("metrics/summary.json")))))
    assert not words & {"toy", *LABELS}
    project.do("git", "checkout", "--quiet", "main", "params.yaml")
    run = project.repro()
    assert (run.ran, sorted(run.restored)) == ([], sorted(AFTER_RATIO))
    assert not project.do("git", "diff", "--stat", "main").output
    assert not server.log.answered


def test_a_comment_is_no_change_and_a_param_that_has_not_run_is_refused(project: Project, tmp_path: Path) -> None:
    project.do("git", "branch", "--move", "main")
    project.do("git", "switch", "--quiet", "--create", "comment")
    path = project.folder / "params.yaml"
    path.write_text("# Nothing but a comment\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    project.commit("Comment")
    comment, code = run_workflow(project, tmp_path)
    assert code == "0"
    assert "**No change**: no stage ran again, and every prediction is the same" in comment
    project.set_params(ratio=0.2)
    project.commit("Ratio, but no run")
    comment, code = run_workflow(project, tmp_path)
    assert code == "1"
    reason = "stage label of HEAD has not run with the current ratio: run `dvc repro`."
    assert f"**Cannot be said**: {reason}" in comment
    assert "**The pipeline is not up to date**" in comment
    assert "    Running stage 'mix':" in comment


def test_a_clone_without_a_cache_fetches_the_predictions(branches: Project, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    clone = Project(tmp_path / "clone")
    subprocess.run(["git", "clone", "--quiet", str(branches.folder), str(clone.folder)], check=True)
    for project in (branches, clone):
        project.do("dvc", "remote", "add", "--local", "--default", "shared", str(remote))
    branches.do("dvc", "push", "--all-branches", "data/predictions", "data/prepared")
    found = review(clone, "origin/main")
    assert found["comparison"] == review(branches, "main")["comparison"]
    assert found["comparison"]["flips"]
    assert not (clone.folder / "data/predictions").exists()
