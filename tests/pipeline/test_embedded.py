"""The real language model and the real encoder, on a few rows."""

import socket
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amalgam.base_models import fetch_encoder, fetch_llm
from amalgam.errors import ModelError
from amalgam.files import read_json
from amalgam.llm.answering import Answering, answer_requests
from amalgam.llm.embedded import serve_model
from amalgam.params import Llm, load_params
from amalgam.progress import show_progress
from amalgam.synthesis.completions import build_requests
from amalgam.synthesis.curate import extract_response
from amalgam.synthesis.grading import build_grading_requests, parse_grade
from amalgam.synthesis.prompts import build_prompts
from amalgam.tasks.schema import load_task
from amalgam.training.scoring import score_rows
from amalgam.training.teacher import train_teacher
from tests.pipeline.project import REPOSITORY
from tests.pipeline.toy import make_rows, write_task

ROWS = 4  # a label


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch both default models, through the cache that `make repro` fills."""
    folder = tmp_path_factory.mktemp("models")
    cache = REPOSITORY / ".cache/downloads"
    try:
        fetch_llm("smollm2-135m-instruct", folder / "llm", cache)
        fetch_encoder("all-minilm-l6-v2", folder / "encoder", cache)
    except ModelError as error:
        if "could not be had" in str(error):
            pytest.skip(f"THE REAL MODELS WERE NOT TESTED: {error}")
        raise
    return folder


def test_the_server_wants_its_key_and_listens_on_loopback_alone(base: Path) -> None:
    with serve_model(base / "llm/model.gguf", slots=1, context=256) as endpoint:
        assert endpoint.url.startswith("http://127.0.0.1:")
        port = int(endpoint.url.split(":")[2].split("/")[0])
        assert ask_status(endpoint.url, endpoint.api_key) == 200
        assert ask_status(endpoint.url, "sk-wrong") == 401
        assert ask_status(endpoint.url, None) == 401
        # Another address of this machine: it would answer if the server listened on all.
        with socket.socket() as other:
            other.settimeout(1)
            assert other.connect_ex(("127.0.0.2", port))


def test_a_few_rows_from_the_prompt_to_the_teacher(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy that leads nowhere: the server on this machine is asked without one.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    params = load_params(REPOSITORY / "params.yaml")
    llm = params.llm.model_copy(update={"endpoint": "embedded", "concurrency": 4})
    write_task(tmp_path / "toy")
    task = load_task(tmp_path / "toy")
    human = pd.DataFrame(make_rows(24))[["id", "text", "label"]].assign(question="")
    prompts = build_prompts(task, human, params.prompts, ROWS)
    model = read_json(base / "llm/identity.json")["model"]

    requests = build_requests(prompts, model, params.synthesis)
    answers = answer_requests(requests, make_answering(llm, base / "llm", tmp_path), "synthesize")
    rows = pd.DataFrame(prompts)[["id", "label", "question"]].assign(text=[extract_response(a.text) for a in answers])
    assert rows["text"].str.len().min() > 0
    assert rows["text"].nunique() > ROWS
    # The journal answers, so there is no need of a model.
    assert answer_requests(requests, make_answering(llm, tmp_path / "nothing", tmp_path), "synthesize") == answers

    grading = build_grading_requests(task, rows, human, model, params.judge)
    grades = answer_requests(grading, make_answering(llm, base / "llm", tmp_path), "judge")
    assert all(parse_grade(grade, task.label_names) for grade in grades)

    steps = params.teacher.model_copy(update={"steps": 6, "evaluate_every": 3, "batch_size": 8})
    train = pd.concat([human.head(16), rows], ignore_index=True)
    with show_progress("teacher", total=steps.steps) as advance:
        outcome = train_teacher(
            base / "encoder",
            train,
            human.tail(8),
            task.label_names,
            steps,
            seed=1,
            target=tmp_path / "teacher",
            advance=advance,
        )
    assert (outcome.steps, outcome.train_rows) == (6, 16 + 2 * ROWS)
    scores = score_rows(tmp_path / "teacher", human)
    assert scores.shape == (24, 2)
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def make_answering(llm: Llm, folder: Path, top: Path) -> Answering:
    return Answering(llm, folder, top / "journal.sqlite", None)


def ask_status(url: str, api_key: str | None) -> int:
    """Return the status with which an endpoint answers a small request."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    body = b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}'
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(f"{url}/chat/completions", body, headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
