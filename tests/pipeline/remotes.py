"""Remotes of DVC that machines share: a folder, and S3 over HTTP."""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

S3_SECRET = "s3-test-secret"
_BUCKET = "team"


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
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=_BUCKET)
        names = [entry["Key"] for page in pages for entry in page["Contents"]]
        return {name: client.get_object(Bucket=_BUCKET, Key=name)["Body"].read() for name in names}


def connect_s3(server: str) -> Any:
    import boto3

    keys = {"aws_access_key_id": "tester", "aws_secret_access_key": S3_SECRET}
    return boto3.client("s3", endpoint_url=server, region_name="us-east-1", **keys)


@contextmanager
def serve_s3() -> Iterator[Remote]:
    """Run an S3 server with an empty bucket in a thread."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    connect_s3(address).create_bucket(Bucket=_BUCKET)
    yield Remote(f"s3://{_BUCKET}/amalgam", address)
    server.stop()


def read_git_objects(folder: Path) -> bytes:
    """Return all objects of a Git repository, uncompressed, that a branch, an experiment or DVC's queue holds."""
    names = subprocess.run(["git", "rev-list", "--objects", "--all"], cwd=folder, stdout=subprocess.PIPE, check=True)
    hashes = b"".join(line.split()[0] + b"\n" for line in names.stdout.splitlines())
    command = ["git", "cat-file", "--batch"]
    return subprocess.run(command, cwd=folder, input=hashes, stdout=subprocess.PIPE, check=True).stdout
