"""What several tests share: an invented task, invented rows, and models with random weights."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from amalgam.llm.journal import Journal, open_journal
from amalgam.tasks.schema import Task
from tests.pipeline.server import StubServer
from tests.pipeline.toy import LABELS, make_rows, write_encoder
from tests.unit.answers import Amalgam
from tests.unit.helpers import run_amalgam
from tests.unit.tasks import describe_task
from tests.unit.training import TEACHER

if TYPE_CHECKING:
    from tests.unit.batches import Run


@pytest.fixture
def server() -> Iterator[StubServer]:
    """An endpoint that answers at once, counts, and can be told to misbehave."""
    with StubServer() as server:
        yield server


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    with open_journal(tmp_path / "journal.sqlite", print) as journal:
        yield journal


@pytest.fixture
def run(journal: Journal) -> Iterator["Run"]:
    """Sending in batches to a server of the Batch API."""
    from tests.pipeline.batch_server import BatchServer
    from tests.unit.batches import Run, hurry

    hurry()
    with BatchServer() as server:
        yield Run(server, journal)
        if server.pause:
            server.pause.release.set()


@pytest.fixture(scope="session")
def task() -> Task:
    """A rubric with three labels, of which the last is rare."""
    scenarios = ["A guest of a bakery was asked.", "A guest of a café was asked."]
    return Task.model_validate(describe_task("bad", "good", "mixed_view", name="toy", scenarios=scenarios))


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights and the vocabulary of the toy comments."""
    folder = tmp_path_factory.mktemp("models") / "encoder"
    write_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def comments() -> pd.DataFrame:
    """Sixty toy comments, half of each label."""
    return pd.DataFrame(make_rows(60)).assign(question="")


@pytest.fixture(scope="session")
def teacher(encoder: Path, comments: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder, trained until it tells the comments apart; all weights are in the folder."""
    from amalgam.training.checkpoint import Config, load_trained, save_checkpoint
    from amalgam.training.encoding import load_tokenizer
    from amalgam.training.teacher import TeacherTrainer

    folder = tmp_path_factory.mktemp("models") / "teacher"
    learn, held_out = comments.iloc[:40].assign(origin="human"), comments.iloc[40:]
    TeacherTrainer(encoder, learn, held_out, list(LABELS), TEACHER).train(1, folder, lambda _item: None)
    model = load_trained(folder, [encoder])
    save_checkpoint(model, load_tokenizer(folder), folder, Config(list(LABELS), TEACHER.max_length, False, "mean"))
    return folder


@pytest.fixture(scope="session")
def shipped(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier as the student ships: both precisions and a manifest that names the small one."""
    from amalgam.shipping.card import write_manifest
    from amalgam.shipping.export import export_onnx, quantize_onnx
    from amalgam.shipping.onnx import FLOAT, INTEGER

    folder = tmp_path_factory.mktemp("models") / "shipped"
    shutil.copytree(teacher, folder, ignore=shutil.ignore_patterns("curves"))
    export_onnx({teacher: folder / FLOAT})
    quantize_onnx(folder / FLOAT, folder / INTEGER)
    calibration = {"temperature": 1.0, "threshold": None, "ask_below": 0.7, "guaranteed": False, "sentence": "None."}
    write_manifest(folder, INTEGER, calibration)
    return folder


@pytest.fixture
def amalgam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Amalgam:
    """Run a command in a project without tasks; returns its exit code and what it printed."""
    project = tmp_path / "project"
    (project / "data/tasks").mkdir(parents=True)
    shutil.copy(Path(__file__).parents[2] / "params.yaml", project)
    monkeypatch.chdir(project)

    def run(*args: str) -> tuple[int, str, str]:
        return run_amalgam(*args), *capsys.readouterr()

    return run
