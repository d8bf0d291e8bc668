"""The real language model and the real encoder, on a few rows."""

import json
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pandas as pd
import pytest

from amalgam.base_models import fetch_encoder, fetch_llm
from amalgam.errors import ModelError
from amalgam.files import read_json
from amalgam.llm.answering import Answering, answer_requests
from amalgam.llm.request import Request
from amalgam.params import load_params
from amalgam.synthesis.answers import read_responses
from amalgam.synthesis.asking import Rounds, build_response_format, collect_answers, write_completions
from amalgam.synthesis.grading import build_grading_requests, parse_grade
from amalgam.synthesis.prompts import build_prompts, load_template
from amalgam.tasks.schema import load_task
from amalgam.training.checkpoint import open_model
from amalgam.training.teacher import TeacherTrainer
from tests.pipeline.project import REPOSITORY
from tests.pipeline.toy import make_rows, write_task
from tests.unit.helpers import make_answering

ROWS = 4  # a label
_SERVE = """
import sys, time
from pathlib import Path
from amalgam.llm.answering import serve_model
with serve_model(Path(sys.argv[1]), context=256, slots=2) as endpoint:
    print(endpoint.url, endpoint.api_key, endpoint.slots, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch both default models, through the cache that `make repro` fills."""
    folder = tmp_path_factory.mktemp("models")
    cache = REPOSITORY / ".cache/downloads"
    try:
        fetch_llm("smollm2-135m-instruct", folder / "llm", cache)
        fetch_encoder("all-minilm-l6-v2", folder / "encoder", cache)
    except ModelError as error:
        if "could not be downloaded" in str(error):
            pytest.skip(f"THE REAL MODELS WERE NOT TESTED: {error}")
        raise
    return folder


def test_the_server_wants_its_key_listens_on_loopback_alone_and_ends_with_its_process(base: Path) -> None:
    server = subprocess.Popen([sys.executable, "-c", _SERVE, str(base / "llm/model.gguf")], stdout=subprocess.PIPE)
    try:
        assert server.stdout
        url, key, slots = server.stdout.readline().decode().split()
        assert int(slots) == 2
        assert url.startswith("http://127.0.0.1:")
        port = int(url.split(":")[2].split("/")[0])
        question = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        with httpx2.Client(trust_env=False, timeout=30) as client:
            keys = {"Authorization": f"Bearer {key}"}, {"Authorization": "Bearer sk-wrong"}, {}
            for headers, status in zip(keys, (200, 401, 401), strict=True):
                reply = client.post(f"{url}/chat/completions", json=question, headers=headers)
                assert reply.status_code == status
        # Another address of this machine: it would answer if the server listened on all.
        with socket.socket() as other:
            other.settimeout(1)
            assert other.connect_ex(("127.0.0.2", port))
    finally:
        server.kill()
        server.communicate()
    with socket.socket() as late:
        assert late.connect_ex(("127.0.0.1", port))


def test_a_few_rows_from_the_prompt_to_the_teacher(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):  # they lead nowhere: the server on this machine is asked without a proxy
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    params = load_params(REPOSITORY / "params.yaml")
    write_task(tmp_path / "toy")
    task = load_task(tmp_path / "toy")
    human = pd.DataFrame(make_rows(24))[["id", "text", "label"]].assign(question="")
    template = load_template(params.prompts.template, [REPOSITORY / "data/templates"])
    prompts = list(build_prompts(task, human, template, params.prompts, ROWS))
    model = read_json(base / "llm/identity.json")["model"]
    answering = answer_here(base / "llm", tmp_path)

    rounds = Rounds(prompts, model, params.synthesis.model_copy(update={"rows": ROWS}))
    collect_answers(rounds, answering)
    write_completions(tmp_path / "completions", rounds)
    rows = read_responses(tmp_path / "completions")
    rows = rows[rows["fault"] == ""].groupby("label").head(ROWS)
    assert list(rows["label"].value_counts()) == [ROWS, ROWS]
    assert rows["text"].nunique() > ROWS
    requests = build_grading_requests(task, rows, human, model, params.judge)
    grades = [answer.text for answer in answer_requests(requests, answering, "judge")]
    assert all(parse_grade(grade, task.label_names) for grade in grades)

    steps = params.teacher.model_copy(update={"steps": 6, "batch_size": 8})
    train = pd.concat([human.head(16).assign(origin="human"), rows.assign(origin="synthetic")], ignore_index=True)
    trainer = TeacherTrainer(base / "encoder", train, human.tail(8), task.label_names, steps)
    outcome = trainer.train(1, tmp_path / "teacher", lambda _item: None)
    assert (outcome.steps, outcome.train_rows) == (6, 16 + 2 * ROWS)
    scores = open_model(tmp_path / "teacher", [base / "encoder"])(human)
    assert scores.shape == (24, 2)
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def test_json_by_a_schema_is_what_the_grammar_lets_through(base: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Write two comments on a bakery, as a poem."}]
    body = {"messages": turns, "max_tokens": 60, "temperature": 1.0, "response_format": build_response_format(2)}
    answering = answer_here(base / "llm", tmp_path)
    requests = [Request(str(number), "m", body | {"seed": number}, number) for number in range(4)]
    for answer in answer_requests(requests, answering, "json"):
        assert re.match(r'\s*\{\s*"response_1"\s*:\s*"', answer.text)
        assert answer.finish_reason == "length" or list(json.loads(answer.text)) == ["response_1", "response_2"]


def answer_here(folder: Path, top: Path) -> Answering:
    """Answer with the embedded LLM, with the test's own journal and nothing to take over from DVC."""
    return replace(make_answering(top, "embedded", timeout=300.0), folder=folder)
