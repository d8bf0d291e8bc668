"""Answers are read out of a real DVC cache, and fetched from a real remote, whatever the workspace holds."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from amalgam.dvc import FOLDERS, iterate_shared_answers

COMPLETIONS, JUDGEMENTS, BASELINES = FOLDERS
_STAGES = {"synthesize": COMPLETIONS, "judge": JUDGEMENTS, "baselines": BASELINES}


def make_line(number: int) -> dict[str, Any]:
    """Make a line as a stage writes it."""
    key = hashlib.sha256(str(number).encode()).hexdigest()
    return {
        "key": key,
        "id": f"praise-{number}",
        "text": f"täxt {number}",
        "finish_reason": "stop",
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "cost_usd": None,
    }


def write_shard(path: Path, *numbers: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(make_line(number)) + "\n" for number in numbers), encoding="utf-8")


def write_outputs(project: Path) -> None:
    """Write what the stages write: answers 0 to 5 in four shards, and files that hold none."""
    write_shard(project / COMPLETIONS / "00000.jsonl", 0, 1)
    write_shard(project / COMPLETIONS / "00001.jsonl", 2)
    (project / COMPLETIONS / "summary.json").write_text('{"answers": 3}\n')
    write_shard(project / JUDGEMENTS / "answers/00000.jsonl", 3, 4)
    (project / JUDGEMENTS / "judgements.csv").write_text("id,judged\n")
    write_shard(project / BASELINES / "answers/00000.jsonl", 5)
    (project / BASELINES / "predictions.csv").write_text("id\n")


def save_outputs(project: Path, stage: str | None = None) -> None:
    """Let DVC take the outputs, or those of one stage, into its cache and name them in dvc.lock."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        repo.commit(stage and f"{project}/dvc.yaml:{stage}", force=True)


def run_git(project: Path, *command: str) -> None:
    names = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *names, *command], cwd=project, check=True, capture_output=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project under Git with its outputs in DVC's cache, and pushed to the remote `storage` beside it."""
    from dvc.repo import Repo

    top = tmp_path_factory.mktemp("saved")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR"):
            patch.setenv(name, str(top / "outside"))
        project = top / "project"
        project.mkdir()
        run_git(project, "init", "--quiet")
        with Repo.init(str(project)) as repo, repo.config.edit() as config:
            config["remote"]["storage"] = {"url": str(top / "storage")}
            config["core"]["remote"] = "storage"
        stages = "".join(f"  {stage}: {{cmd: 'true', outs: [{folder}]}}\n" for stage, folder in _STAGES.items())
        (project / "dvc.yaml").write_text(f"stages:\n{stages}")
        write_outputs(project)
        save_outputs(project)
        with Repo(str(project)) as repo:
            assert repo.push()
        run_git(project, "add", "--all")
        run_git(project, "commit", "--quiet", "--message", "Run")
        yield project


@pytest.fixture
def project(saved: Path, tmp_path: Path) -> Path:
    """A copy with the cache and without the outputs, as a stage finds it that DVC runs again."""
    project = tmp_path / "project"
    shutil.copytree(saved, project, symlinks=True)
    shutil.rmtree(project / "data")
    return project


@pytest.fixture
def clone(project: Path) -> Path:
    """A copy without the cache."""
    shutil.rmtree(project / ".dvc/cache")
    return project


def commit_no_lock(project: Path) -> None:
    """Take dvc.lock out of the last commit."""
    run_git(project, "rm", "--quiet", "--cached", "dvc.lock")
    run_git(project, "commit", "--quiet", "--message", "No lock file")


def drop_remote(project: Path) -> None:
    (project / ".dvc/config").write_text("")


def read(
    project: Path, skip: Callable[[str], bool] = lambda _: False, **options: Any
) -> tuple[Mapping[str, list[dict[str, Any]]], list[str]]:
    """Return the lines by source, and the notices."""
    notices: list[str] = []
    found = {source: list(lines) for source, lines in iterate_shared_answers(project, notices.append, skip, **options)}
    return found, notices


def list_lines(found: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the lines of all sources in the order of their numbers."""
    return sorted((line for lines in found.values() for line in lines), key=lambda line: str(line["id"]))


def list_objects(project: Path) -> list[Path]:
    return sorted(path for path in (project / ".dvc/cache/files/md5").rglob("*") if path.is_file())


def test_every_answer_is_read_from_the_cache_under_the_hash_of_its_shard(project: Path) -> None:
    found, notices = read(project)
    assert list_lines(found) == [make_line(number) for number in range(6)]
    shards = {hashlib.md5(path.read_bytes()).hexdigest() for path in list_objects(project)}
    assert len(found) == 4
    assert set(found) < shards
    assert not notices


def test_what_is_known_is_not_read_again_and_a_pool_that_grew_only_where_it_grew(project: Path) -> None:
    known = set(read(project)[0])
    assert read(project, known.__contains__) == ({}, [])
    write_outputs(project)
    write_shard(project / COMPLETIONS / "00001.jsonl", 2, 6)
    write_shard(project / COMPLETIONS / "00002.jsonl", 7)
    save_outputs(project)
    found, _ = read(project, known.__contains__)
    assert sorted(line["id"] for line in list_lines(found)) == ["praise-2", "praise-6", "praise-7"]


def test_answers_that_the_cache_lacks_are_fetched_and_nothing_else_is(clone: Path) -> None:
    found, notices = read(clone)
    assert list_lines(found) == [make_line(number) for number in range(6)]
    assert len(list_objects(clone)) == len(FOLDERS) + 4  # lists of files and shards: no table, no summary
    assert len(notices) == 1
    assert "`storage`" in notices[0]
    assert all(folder in notices[0] for folder in FOLDERS)
    assert read(clone) == (found, [])


def test_a_shard_that_is_missing_alone_is_fetched(project: Path) -> None:
    found, _ = read(project)
    source = sorted(found)[0]
    (project / ".dvc/cache/files/md5" / source[:2] / source[2:]).unlink()
    assert read(project, fetch=False)[0] == {other: lines for other, lines in found.items() if other != source}
    assert read(project)[0] == found


def test_no_remote_is_asked_where_none_should_be(clone: Path) -> None:
    assert read(clone, fetch=False) == ({}, [])


def test_without_a_remote_one_sentence_says_what_is_missing(clone: Path) -> None:
    drop_remote(clone)
    found, notices = read(clone)
    assert not found
    assert notices == [
        "the answers that dvc.lock names in data/baselines data/completions data/judgements are not here and could not "
        "be fetched (DVC has no default remote here), so the LLM is asked for those that are needed"
    ]


def test_what_the_remote_lacks_is_said_and_the_rest_is_fetched(clone: Path) -> None:
    write_shard(clone / COMPLETIONS / "00002.jsonl", 8)
    save_outputs(clone, "synthesize")
    shutil.rmtree(clone / ".dvc/cache")
    found, notices = read(clone)
    assert list_lines(found) == [make_line(number) for number in range(6)]
    assert notices[1:] == [
        "the answers that dvc.lock names in data/completions are not here and could not be fetched "
        "(`dvc pull data/completions` says why), so the LLM is asked for those that are needed"
    ]


def test_a_remote_that_does_not_answer_ends_nothing(clone: Path) -> None:
    (clone / ".dvc/config").write_text("[core]\n remote = away\n['remote \"away\"']\n url = http://127.0.0.1:9/x\n")
    found, notices = read(clone)
    assert not found
    assert len(notices) == 2
    assert "`dvc pull data/baselines data/completions data/judgements` says why" in notices[1]


@pytest.mark.parametrize("side", ["HEAD", "MERGE_HEAD"])
def test_a_conflict_of_the_lock_file_costs_no_side_its_answers(clone: Path, side: str) -> None:
    (clone / "dvc.lock").write_text("<<<<<<< HEAD\nschema: '2.0'\n=======\n>>>>>>> theirs\n")
    if side == "MERGE_HEAD":
        commit_no_lock(clone)
        run_git(clone, "update-ref", "MERGE_HEAD", "HEAD~1")
    assert list_lines(read(clone)[0]) == [make_line(number) for number in range(6)]


def test_answers_that_only_a_record_of_a_run_names_are_fetched(clone: Path) -> None:
    lock = (clone / "dvc.lock").read_text()
    tree = lock.split(COMPLETIONS)[1].split("md5: ")[1].split()[0]
    record = clone / ".dvc/cache/runs/ab" / ("ab" * 32) / ("cd" * 32)
    record.parent.mkdir(parents=True)
    record.write_text(f"cmd: 'true'\nouts:\n- path: {COMPLETIONS}\n  hash: md5\n  md5: {tree}\n")
    record.with_name("half").write_text(f"outs:\n- path: {COMPLETIONS}\n  hash: md5\n  md5: 12")
    (clone / "dvc.lock").unlink()
    commit_no_lock(clone)
    assert [line["id"] for line in list_lines(read(clone)[0])] == ["praise-0", "praise-1", "praise-2"]


def test_the_lock_file_of_a_temporary_workspace_counts(clone: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    shutil.move(clone / "dvc.lock", workspace)
    commit_no_lock(clone)
    assert read(clone) == ({}, [])
    assert list_lines(read(clone, workspace=workspace)[0]) == [make_line(number) for number in range(6)]


def test_a_damaged_file_is_left_out_and_named(project: Path) -> None:
    found, _ = read(project)
    source = sorted(found)[0]
    shard = project / ".dvc/cache/files/md5" / source[:2] / source[2:]
    tree = next(path for path in list_objects(project) if path.suffix == ".dir" and source not in path.read_text())
    for path in (shard, tree):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-3])
    left, notices = read(project, fetch=False)
    assert 0 < len(left) < len(found)
    assert left.items() < found.items()
    assert sorted(notices) == sorted(
        f"a damaged file in DVC's cache is left out: delete {path} and run `dvc pull`" for path in (shard, tree)
    )


def test_other_files_with_numbers_for_names_hold_no_answers(project: Path) -> None:
    write_outputs(project)
    lines = [{"key": "a", "text": "no answer"}, make_line(9) | {"prompt_tokens": "9"}, [1], 2]
    (project / COMPLETIONS / "00002.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"key": \n')
    save_outputs(project)
    found, notices = read(project)
    assert list_lines(found) == [make_line(number) for number in range(6)]
    assert not notices


def test_outside_a_project_there_is_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) == ({}, [])
