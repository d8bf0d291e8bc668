"""One server and one finished project a session; tests work on copies of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.project import Project, Run, make_project
from tests.pipeline.server import Log, StubServer
from tests.pipeline.warm import write_starter

# Waiting threads sleep at once: tests may share the cores with anything. Read when torch or llama.cpp is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "0")


@pytest.fixture(scope="session", autouse=True)
def _starts(tmp_path_factory: pytest.TempPathFactory) -> None:
    Project.starts = write_starter(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="session")
def running_server() -> Iterator[StubServer]:
    """Serve at one address for the whole session, since a project's endpoint is one of its params."""
    with StubServer() as server:
        yield server


@pytest.fixture(scope="session")
def first_run(running_server: StubServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Run, Log]:
    """Make the project and run all of it once; return it, what ran, and what was sent. Never change it."""
    running_server.reset()
    project = make_project(tmp_path_factory.mktemp("base") / "project", running_server.url)
    run = project.repro()
    project.commit("Run")
    log = running_server.log
    running_server.reset()  # what another fixture sends is not part of this run
    return project, run, log


@pytest.fixture
def server(running_server: StubServer) -> StubServer:
    """The server, with nothing logged and no faults."""
    running_server.reset()
    return running_server


@pytest.fixture
def project(first_run: tuple[Project, Run, Log], server: StubServer, tmp_path: Path) -> Project:
    """A finished project for this test only."""
    return first_run[0].copy(tmp_path / "project")
