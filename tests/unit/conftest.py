"""What several tests share: an invented task, invented rows, and models with random weights."""

from pathlib import Path

import pandas as pd
import pytest

from amalgam.tasks.schema import Task
from tests.pipeline.toy import LABELS, make_rows, write_encoder


@pytest.fixture(scope="session")
def task() -> Task:
    """A rubric with three labels, of which the last is rare."""
    labels = [
        {
            "name": name,
            "definition": f"It is {name}.",
            "examples": [f"So {name}."],
            "personas": [f"a {name} guest", "x"],
        }
        for name in ("bad", "good", "mixed_view")
    ]
    source = {"kind": "file", "files": ["rows.csv"], "obtain": "write it"}
    head = {"name": "toy", "title": "A toy?", "response": "comment", "licence": "CC0-1.0", "citation": "Invented."}
    scenarios = ["A guest of a bakery was asked.", "A guest of a café was asked."]
    return Task.model_validate({**head, "scenarios": scenarios, "ordinal": False, "labels": labels, "source": source})


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, that knows the words of the toy comments."""
    folder = tmp_path_factory.mktemp("models") / "encoder"
    write_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def comments() -> pd.DataFrame:
    """Sixty toy comments, half of each label."""
    return pd.DataFrame(make_rows(60)).assign(question="")


@pytest.fixture(scope="session")
def teacher(encoder: Path, comments: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder, trained until it tells the comments apart."""
    from amalgam.params import Teacher
    from amalgam.training.teacher import train_teacher

    steps = {"learning_rate": 5e-3, "batch_size": 8, "steps": 60, "evaluate_every": 20, "patience": 9}
    params = Teacher(model="toy", max_length=24, warmup=0.1, weight_decay=0.01, **steps)
    folder = tmp_path_factory.mktemp("models") / "teacher"
    labels, learn, held_out = list(LABELS), comments.iloc[:40], comments.iloc[40:]
    train_teacher(encoder, learn, held_out, labels, params, seed=1, target=folder, advance=lambda _item: None)
    return folder
