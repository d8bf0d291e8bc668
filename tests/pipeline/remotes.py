"""Remotes of DVC that machines share: a folder, and S3 over HTTP."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.pipeline.project import Project

S3_SECRET = "s3-test-secret"
_WAIT = 60.0  # seconds for the server to start


class Remote(Protocol):
    """Storage that more than one machine reaches; `credentials` is what the environment needs for it."""

    @property
    def credentials(self) -> dict[str, str]: ...

    def add_to(self, project: Project) -> None:
        """Make this the default remote of a project; a file of the project holds that, and no credentials."""

    def read_files(self) -> dict[str, bytes]:
        """Read everything that is stored."""


@dataclass(frozen=True)
class FolderRemote:
    """A folder, as on a network drive."""

    folder: Path

    @property
    def credentials(self) -> dict[str, str]:
        return {}

    def add_to(self, project: Project) -> None:
        project.do("dvc", "remote", "add", "--default", "storage", str(self.folder))

    def read_files(self) -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in self.folder.rglob("*") if file.is_file()}


@dataclass(frozen=True)
class S3Remote:
    """A bucket of the S3 server at an address."""

    server: str
    bucket: str = "team"

    @property
    def credentials(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": S3_SECRET}

    def make_bucket(self) -> None:
        self._connect().create_bucket(Bucket=self.bucket)

    def add_to(self, project: Project) -> None:
        project.do("dvc", "remote", "add", "--default", "storage", f"s3://{self.bucket}/amalgam")
        project.do("dvc", "remote", "modify", "storage", "endpointurl", self.server)

    def read_files(self) -> dict[str, bytes]:
        client = self._connect()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        names = [entry["Key"] for page in pages for entry in page["Contents"]]
        return {name: client.get_object(Bucket=self.bucket, Key=name)["Body"].read() for name in names}

    def _connect(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.server,
            region_name="us-east-1",
            aws_access_key_id="tester",
            aws_secret_access_key=S3_SECRET,
        )


@contextmanager
def serve_s3(folder: Path) -> Iterator[S3Remote]:
    """Run an S3 server with an empty bucket in a process of its own; its log goes into the folder."""
    log = folder / "s3.log"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        remote = S3Remote(_await_address(log, process))
        remote.make_bucket()
        yield remote
    finally:
        process.terminate()
        process.wait()


def read_git_objects(folder: Path) -> bytes:
    """Return all objects of a Git repository, uncompressed, that a branch, an experiment or DVC's queue holds."""
    names = subprocess.run(["git", "rev-list", "--objects", "--all"], cwd=folder, stdout=subprocess.PIPE, check=True)
    hashes = b"".join(line.split()[0] + b"\n" for line in names.stdout.splitlines())
    command = ["git", "cat-file", "--batch"]
    return subprocess.run(command, cwd=folder, input=hashes, stdout=subprocess.PIPE, check=True).stdout


def _await_address(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline and process.poll() is None:
        if match := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return match[0]
        time.sleep(0.05)
    raise AssertionError(log.read_text())
