"""Answers are read from a real DVC cache, and fetched from a real remote, whatever the workspace holds."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from dvc.fs import localfs
from dvc.rwlock import rwlock

from amalgam.dvc import FOLDERS, find_file, iterate_shared_answers, list_stages_to_run, open_repo
from amalgam.errors import DataError
from amalgam.llm.request import Answer

COMPLETIONS, JUDGEMENTS, LABELLED, BASELINES = FOLDERS
ALL = " ".join(sorted(FOLDERS))
NO_ONE = "http://127.0.0.1:9/x"
_STAGES = {"synthesize": COMPLETIONS, "judge": JUDGEMENTS, "label": LABELLED, "baselines": BASELINES}


def make_line(number: int) -> dict[str, Any]:
    """Make a line as a stage writes it."""
    key = hashlib.sha256(str(number).encode()).hexdigest()
    tokens = {"prompt_tokens": 9, "completion_tokens": 3, "cost_usd": None}
    return {"key": key, "id": f"praise-{number}", "text": f"täxt {number}", "finish_reason": "stop", **tokens}


def write_shard(path: Path, *numbers: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(make_line(number)) + "\n" for number in numbers), encoding="utf-8")


def write_outputs(project: Path) -> None:
    """Write what the stages write: answers 0 to 5 in five shards, and files that hold none."""
    write_shard(project / COMPLETIONS / "00000.jsonl", 0, 1)
    write_shard(project / COMPLETIONS / "00001.jsonl", 2)
    write_shard(project / JUDGEMENTS / "answers/00000.jsonl", 3)
    write_shard(project / LABELLED / "answers/00000.jsonl", 4)
    write_shard(project / BASELINES / "answers/test/00000.jsonl", 5)
    for name in (f"{COMPLETIONS}/summary.json", f"{JUDGEMENTS}/judgements.csv", f"{BASELINES}/predictions.csv"):
        (project / name).write_text(f"{name}\n")


def save_outputs(project: Path, stage: str | None = None) -> None:
    """Put the outputs, or those of one stage, into DVC's cache and name them in dvc.lock."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        repo.commit(stage and f"{project}/dvc.yaml:{stage}", force=True)


def run_git(project: Path, *command: str) -> None:
    names = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *names, *command], cwd=project, check=True, capture_output=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project under Git with its outputs in DVC's cache, and pushed to the remote `storage` next to it."""
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
    """A copy with the cache and without the outputs, as a stage finds it when DVC runs it again."""
    return shutil.copytree(saved, tmp_path / "project", symlinks=True, ignore=shutil.ignore_patterns("data"))


@pytest.fixture
def clone(project: Path) -> Path:
    """A copy without the cache."""
    shutil.rmtree(project / ".dvc/cache")
    return project


def read(
    project: Path, is_known: Callable[[str], bool] = lambda _: False, **options: Any
) -> tuple[Mapping[str, list[tuple[str, Answer]]], list[str]]:
    """Return the answers by source, and the notices."""
    notices: list[str] = []
    found = iterate_shared_answers(project, notices.append, is_known, **options)
    return {source: list(answers) for source, answers in found}, notices


def list_numbers(found: Mapping[str, list[tuple[str, Answer]]]) -> list[int]:
    """Return the numbers of all sources' answers; check that the answers are as they were written."""
    numbers = []
    for key, answer in (one for answers in found.values() for one in answers):
        numbers.append(int(answer.text.removeprefix("täxt ")))
        assert (key, answer.prompt_tokens) == (make_line(numbers[-1])["key"], 9)
    return sorted(numbers)


def find_object(project: Path, name: str) -> Path:
    return project / ".dvc/cache/files/md5" / name[:2] / name[2:]


def list_objects(project: Path) -> list[Path]:
    return sorted(path for path in (project / ".dvc/cache/files/md5").rglob("*") if path.is_file())


def test_every_answer_is_read_once_from_the_cache_under_the_hash_of_its_shard(project: Path, tmp_path: Path) -> None:
    found, notices = read(project, fetch=False)
    assert (list_numbers(found), len(found)) == ([0, 1, 2, 3, 4, 5], 5)
    assert set(found) < {hashlib.md5(path.read_bytes()).hexdigest() for path in list_objects(project)}
    assert not notices
    assert read(tmp_path) == ({}, [])  # outside of a project
    assert read(project, found.__contains__) == ({}, [])
    # Only the new part of a pool that grew is read; other files with numbers for names hold no answers.
    write_outputs(project)
    write_shard(project / COMPLETIONS / "00001.jsonl", 2, 6)
    changes = ({"prompt_tokens": "9"}, {"prompt_tokens": 2**63}, {"text": "\ud800"}, {"cost_usd": float("nan")})
    lines = [make_line(7), {"key": "a", "text": "no answer"}, *(make_line(9) | change for change in changes), [1], 2]
    (project / COMPLETIONS / "00002.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"key": \n')
    save_outputs(project)
    grown, notices = read(project, found.__contains__)
    assert (list_numbers(grown), notices) == ([2, 6, 7], [])


def test_answers_that_the_cache_lacks_are_fetched_and_nothing_else_is(clone: Path) -> None:
    found, (notice,) = read(clone, fetch=False)
    assert (found, f"try `dvc pull {ALL}`" in notice) == ({}, True)
    found, notices = read(clone)
    assert list_numbers(found) == [0, 1, 2, 3, 4, 5]
    assert len(list_objects(clone)) == len(FOLDERS) + 5  # lists of files and shards: no table, no summary
    (notice,) = notices
    assert f"({ALL}) from DVC's remote `storage`" in notice
    assert read(clone) == (found, [])
    find_object(clone, sorted(found)[0]).unlink()
    assert read(clone)[0] == found


@pytest.mark.parametrize(
    ("config", "folders", "reason"),
    [
        (None, COMPLETIONS, f"`dvc pull {COMPLETIONS}` shows why"),  # what the remote has is fetched
        ("", ALL, "DVC has no default remote here"),
        (f"[core]\n remote = away\n['remote \"away\"']\n url = {NO_ONE}\n", ALL, f"`dvc pull {ALL}` shows why"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_sentence(
    clone: Path, config: str | None, folders: str, reason: str
) -> None:
    if config is None:
        write_shard(clone / COMPLETIONS / "00002.jsonl", 8)
        save_outputs(clone, "synthesize")
        shutil.rmtree(clone / ".dvc/cache")
    else:
        (clone / ".dvc/config").write_text(config)
    found, notices = read(clone)
    assert list_numbers(found) == ([0, 1, 2, 3, 4, 5] if config is None else [])
    assert f"that dvc.lock names in {folders} are not here and could not be fetched ({reason}), so" in notices[-1]


def test_a_damaged_file_is_left_out_and_named(project: Path) -> None:
    found, _ = read(project)
    source = sorted(found)[0]
    shard = find_object(project, source)
    tree = next(path for path in list_objects(project) if path.suffix == ".dir" and source not in path.read_text())
    for path in (shard, tree):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-3])
    left, notices = read(project, fetch=False)
    assert left
    assert left.items() < found.items()
    assert {f"delete {path} and run `dvc pull`" for path in (shard, tree)} == {one.split(": ")[1] for one in notices}


def test_a_file_of_an_output_is_fetched_alone_and_none_where_the_remote_lacks_it(clone: Path) -> None:
    tree = (clone / "dvc.lock").read_text().split(f"path: {JUDGEMENTS}")[1].split("md5: ")[1].split()[0]
    notices: list[str] = []
    with open_repo(clone) as repo:
        found = find_file(repo, tree, "judgements.csv", "grades of main", notices.append)
        assert found
        assert found.read_text() == f"{JUDGEMENTS}/judgements.csv\n"
        assert len(list_objects(clone)) == 2
        assert find_file(repo, tree, "judgements.csv", "grades", pytest.fail) == found
        assert notices == ["fetching grades of main from DVC's remote `storage`"]
        assert find_file(repo, "0" * 32 + ".dir", "judgements.csv", "x", notices.append) is None
        assert find_file(repo, "", "judgements.csv", "x", pytest.fail) is None


def test_what_would_run_is_unknown_while_dvc_runs(clone: Path) -> None:
    lock = rwlock(str(clone / ".dvc/tmp"), localfs, "dvc repro", [], [str(clone / COMPLETIONS)], hardlink=False)
    with lock, pytest.raises(DataError, match="DVC is at work"):
        list_stages_to_run(clone)
