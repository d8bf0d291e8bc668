"""A team shares answers and models through Git and a DVC remote: what one machine paid for, no other pays for.

Ada has run the pipeline at two temperatures and two ratios, and pushed. Every other machine is a fresh clone.
"""

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from amalgam.params import load_params
from tests.pipeline.project import KEY, ROWS, Project, Run, clone_project, read_git_objects
from tests.pipeline.server import Log, StubServer

COOLER = 0.3
MORE = 3  # rows a label
BUCKET, S3_SECRET = "team", "s3-test-secret"
TO_MIX = ["synthesize", "judge", "curate", "mix"]
# No credentials of this machine's user, and no search for any on its network.
NOBODY = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_CONFIG_FILE": "/nowhere"}


@dataclass(frozen=True)
class Remote:
    """Storage that more than one machine reaches: a folder, or a bucket of the S3 server at an address."""

    url: str
    server: str = ""

    @property
    def credentials(self) -> dict[str, str]:
        """Variables that the environment needs; no file of a project holds them."""
        return {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": S3_SECRET} if self.server else {}

    def read_files(self) -> dict[str, bytes]:
        """Read everything that is stored."""
        if not self.server:
            return {str(file): file.read_bytes() for file in Path(self.url).rglob("*") if file.is_file()}
        client = connect_s3(self.server)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        names = [entry["Key"] for page in pages for entry in page["Contents"]]
        return {name: client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}


def connect_s3(server: str) -> Any:
    import boto3

    keys = {"aws_access_key_id": "tester", "aws_secret_access_key": S3_SECRET}
    return boto3.client("s3", endpoint_url=server, region_name="us-east-1", **keys)


@dataclass(frozen=True)
class Team:
    """What Ada's machine shares with others: a Git repository and a remote."""

    ada: Project
    origin: Path
    remote: Remote

    def clone(self, folder: Path, branch: str = "main") -> Project:
        """Clone it on another machine, which may use the remote."""
        return clone_project(self.origin, describe_machine("bob-tester", folder, self.remote), branch)


def describe_machine(user: str, folder: Path, remote: Remote) -> Project:
    """Describe where a user has the project, on a machine that may use the remote."""
    home = folder / f"home-of-{user}"
    machine = {"USER": user, "LOGNAME": user, "HOME": str(home), **NOBODY, **remote.credentials}
    return Project(home / "projects" / "amalgam", machine)


def make_team(first: Project, folder: Path, remote: Remote) -> Team:
    """Take the finished project to Ada's machine, and push it from there."""
    ada = describe_machine("ada-lovelace", folder, remote)
    first.copy(ada.folder)
    origin = folder / "origin.git"
    ada.do("git", "init", "--quiet", "--bare", str(origin))
    ada.do("git", "branch", "--move", "main")
    ada.do("git", "remote", "add", "origin", str(origin))
    ada.do("dvc", "remote", "add", "--default", "storage", remote.url)
    if remote.server:
        ada.do("dvc", "remote", "modify", "storage", "endpointurl", remote.server)
    ada.commit("Add the remote")
    ada.do("git", "push", "--quiet", "origin", "main")
    ada.do("dvc", "push")
    return Team(ada, origin, remote)


@pytest.fixture(scope="module")
def team(first_run: tuple[Project, Run, Log], tmp_path_factory: pytest.TempPathFactory) -> Team:
    """Ada with a folder as the remote: `main`, the experiment and branch `cooler`, and the branch `half`."""
    folder = tmp_path_factory.mktemp("team")
    team = make_team(first_run[0], folder, Remote(str(folder / "storage")))
    ada = team.ada
    ada.do("dvc", "exp", "run", "--name", "cooler", "--set-param", f"synthesis.temperature={COOLER}", "mix")
    ada.do("dvc", "exp", "push", "origin", "cooler")
    ada.do("dvc", "exp", "branch", "cooler", "cooler")
    ada.do("git", "reset", "--quiet", "--hard")
    ada.do("dvc", "checkout")
    ada.do("dvc", "push", "--run-cache")
    ada.do("git", "switch", "--quiet", "--create", "half")
    ada.do("dvc", "exp", "run", "--set-param", "ratio=0.5", "mix")
    ada.commit("Half of the rows")
    ada.do("git", "push", "--quiet", "origin", "half", "cooler")
    ada.do("dvc", "push")
    return team


@pytest.fixture(scope="module")
def s3_team(first_run: tuple[Project, Run, Log], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Ada with S3 as the remote, and only `main`."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    remote = Remote(f"s3://{BUCKET}/amalgam", "http://{}:{}".format(*server.get_host_and_port()))
    connect_s3(remote.server).create_bucket(Bucket=BUCKET)
    yield make_team(first_run[0], tmp_path_factory.mktemp("s3-team"), remote)
    server.stop()


def count_sent(server: StubServer) -> tuple[int, int]:
    """Return how many requests were answered: to write, and to grade."""
    assert not server.log.failed
    return server.log.synthesis, server.log.grading


def test_a_pull_leaves_nothing_to_run_and_changes_send_only_what_is_new(
    team: Team, server: StubServer, tmp_path: Path
) -> None:
    clone = team.clone(tmp_path)
    clone.do("dvc", "pull")
    run = clone.repro()
    assert not run.ran + run.restored
    assert not clone.list_changes()
    run = clone.do("dvc", "exp", "run", "--set-param", "ratio=0.2", "teacher")
    assert (run.ran, run.restored) == (["label", "mix", "teacher"], [])
    # An experiment of another machine comes back.
    clone.do("git", "reset", "--quiet", "--hard")
    clone.do("dvc", "checkout")
    clone.do("dvc", "exp", "pull", "origin", "cooler")
    clone.do("dvc", "exp", "apply", "cooler")
    assert load_params(clone.folder / "params.yaml").synthesis.temperature == COOLER
    run = clone.repro("mix")
    assert not run.ran + run.restored
    assert count_sent(server) == (0, 0)
    # More rows send only the new requests.
    clone.set_params(synthesis__rows=ROWS + MORE)
    assert clone.repro("judge").ran == ["prompts", "synthesize", "judge"]
    assert count_sent(server) == (2 * MORE, 2 * MORE)


@pytest.mark.parametrize("pulls", [True, False])
def test_a_run_comes_back_from_the_run_cache(pulls: bool, team: Team, server: StubServer, tmp_path: Path) -> None:
    clone = team.clone(tmp_path)
    clone.do("dvc", "pull", "--run-cache")
    clone.set_params(synthesis__temperature=COOLER)
    # Without --pull DVC knows the run but has no files of it: the stages run, on answers that they fetch.
    run = clone.repro("mix", *["--pull"] * pulls)
    assert (run.ran, run.restored) == (([], TO_MIX) if pulls else (TO_MIX, []))
    assert count_sent(server) == (0, 0)


def test_two_workers_of_the_queue_fetch_what_was_not_pulled_and_pay_for_the_rest_once(
    team: Team, server: StubServer, tmp_path: Path
) -> None:
    clone = team.clone(tmp_path)
    server.delay = 0.3
    for ratio in ("0.2", "0.5"):
        params = ["--set-param", f"synthesis.rows={ROWS + MORE}", "--set-param", f"ratio={ratio}"]
        clone.do("dvc", "exp", "run", "--queue", *params, "mix")
    clone.do("dvc", "queue", "start", "--jobs", "2")
    deadline = time.monotonic() + 240
    while any(word in (status := clone.do("dvc", "queue", "status").output) for word in ("Queued", "Running")):
        assert time.monotonic() < deadline, status
        time.sleep(0.5)
    assert status.count("Success") == 2, status
    assert count_sent(server) == (2 * MORE, 2 * MORE)
    check_secrets(clone.folder, [KEY, "bob-tester"])


def test_more_rows_over_s3_fetch_what_was_not_pulled_and_a_pull_leaves_nothing_to_run(
    s3_team: Team, server: StubServer, tmp_path: Path
) -> None:
    clone = s3_team.clone(tmp_path)
    clone.set_params(synthesis__rows=ROWS + MORE, llm__offline=True)
    run = clone.repro("judge", fails=True, env=dict.fromkeys(s3_team.remote.credentials, ""))
    assert "`dvc pull data/baselines data/completions data/judgements data/labelled` shows why" in run.output
    assert "llm.offline" in run.output
    assert "Traceback" not in run.output
    clone.set_params(llm__offline=False)
    assert "`storage`" in clone.repro("judge").output
    assert count_sent(server) == (2 * MORE, 2 * MORE)
    clone.do("git", "checkout", "--quiet", ".")
    clone.do("dvc", "pull", "--force")
    run = clone.repro()
    assert not run.ran + run.restored


@pytest.mark.parametrize("side", ["--ours", "--theirs"])
def test_a_merge_sends_nothing_whichever_side_is_taken(
    side: str, team: Team, server: StubServer, tmp_path: Path
) -> None:
    clone = team.clone(tmp_path, "half")
    clone.do("dvc", "pull")
    merge = clone.run("git", "merge", "origin/cooler")
    assert "CONFLICT (content): Merge conflict in dvc.lock" in merge.output
    assert "conflict in params.yaml" not in merge.output
    clone.do("git", "checkout", side, "dvc.lock", "metrics")
    clone.do("dvc", "pull", "--allow-missing")
    run = clone.repro("mix")
    assert run.ran == (TO_MIX if side == "--ours" else ["label", "mix"])
    assert count_sent(server) == (0, 0)
    clone.do("git", "commit", "--all", "--message", "Merge")
    params = load_params(clone.folder / "params.yaml")
    assert (params.synthesis.temperature, params.ratio) == (COOLER, 0.5)


@pytest.mark.parametrize("remote", ["team", "s3_team"])
def test_nothing_that_is_pushed_tells_a_secret(
    remote: str, first_run: tuple[Project, Run, Log], request: pytest.FixtureRequest
) -> None:
    team: Team = request.getfixturevalue(remote)
    # Her name is in the paths of her home and of the project.
    secrets = [KEY, S3_SECRET, "ada-lovelace", str(first_run[0].folder.parent), sys.prefix]
    stored = team.remote.read_files()
    assert len(stored) > 50
    told = [(name, secret) for name, content in stored.items() for secret in secrets if secret.encode() in content]
    assert not told
    check_secrets(team.origin, secrets)
    check_secrets(team.ada.folder, secrets)


def check_secrets(repository: Path, secrets: list[str]) -> None:
    """Check that no object of a Git repository, those of experiments included, holds a secret."""
    content = read_git_objects(repository)
    assert b"synthesis:" in content  # params.yaml, so the objects are read as they were written
    assert [secret for secret in secrets if secret.encode() in content] == []
