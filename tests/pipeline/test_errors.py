"""What can go wrong: one sentence reports it, and earlier outputs are unchanged."""

import json
import shutil
import sys

import pytest

from tests.pipeline.project import KEY, ROWS, Project, Run
from tests.pipeline.server import Fault, StubServer

DATA = ("prepared", "prompts.jsonl", "completions", "judgements", "curated", "mixed.csv", "baselines", "predictions")
OUTPUTS = (*(f"data/{name}" for name in DATA), "models", "metrics", "report.html")
NO_ONE = "http://127.0.0.1:9"  # the discard port, where nothing listens


def check_sentence(run: Run, *parts: str) -> None:
    """Check that a stage reported its failure in one sentence that has these parts, and nothing else."""
    assert len(run.messages) == 1, run.output
    assert "Traceback" not in run.output, run.output
    assert [part for part in parts if part not in run.messages[0]] == []


def check_failure(project: Project, *parts: str) -> Run:
    """Run `dvc repro`: it must fail with one sentence that has these parts, and leave all outputs as they were."""
    with project.keep(*OUTPUTS):
        run = project.repro(fails=True)
    assert "exited with 2" in run.output, run.output
    check_sentence(run, *parts)
    assert str(project.folder) not in run.messages[0]
    return run


def test_a_bad_file_a_bad_param_or_an_unknown_model(project: Project) -> None:
    table, params = project.folder / "data/tasks/toy/responses.csv", project.folder / "params.yaml"
    before = table.read_bytes(), params.read_bytes()
    table.write_bytes(before[0].replace(b"id,guest,text", b"id,guest,comment"))
    check_failure(project, "prepare: ", "responses.csv", "`text`")
    table.write_bytes(before[0])
    project.set_params(evaluation__confidence=2)
    check_failure(project, "describe: params.yaml", "`evaluation.confidence` is 2")
    params.write_bytes(before[1])
    # A stage that fails halfway: the encoder is there already.
    shutil.copytree(project.folder / "tiny-bert", project.folder / "other-bert")
    project.set_params(teacher__model="other-bert", llm__endpoint="embedded", llm__model="no-such-llm")
    check_failure(project, "models: `no-such-llm` is not an LLM", "smollm2-135m-instruct")


def test_an_interruption_while_a_stage_imports(project: Project) -> None:
    script = project.folder / "stages/describe.py"
    interruption = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    script.write_text(script.read_text().replace("import pandas as pd\n", f"{interruption}import pandas as pd\n"))
    with project.keep(*OUTPUTS):
        run = project.repro("describe", fails=True)
    check_sentence(run, "describe: ended by the user")


def test_an_endpoint_that_does_not_answer_or_refuses_the_key(project: Project, server: StubServer) -> None:
    server.fault = Fault(401, f"Incorrect API key provided: {KEY}. You can find yours in your account.")
    project.set_params(synthesis__temperature=0.3)
    run = check_failure(project, "status 401", "Incorrect API key provided: ***", "OPENAI_API_KEY")
    assert KEY not in run.output
    project.set_params(llm__endpoint=f"{NO_ONE}/v1")
    run = project.run("python", "stages/synthesize.py")
    check_sentence(run, f"{NO_ONE}/v1 does not answer", "`llm.endpoint`")
    assert run.code == 2


def test_an_endpoint_that_fails_midway_keeps_what_was_paid(project: Project, server: StubServer) -> None:
    server.fault = Fault(500, after=20)
    project.set_params(synthesis__temperature=0.3)
    check_failure(project, "status 500", "the server has a bad day", "are kept")
    paid = server.log.synthesis
    assert 20 <= paid < 2 * ROWS
    server.reset()
    project.repro("synthesize")
    assert server.log.synthesis == 2 * ROWS - paid


def test_faults_that_pass_are_sent_again_and_useless_answers_are_counted(project: Project, server: StubServer) -> None:
    server.spoilt = {0: "filter", 1: "length", 2: "empty", 3: "refusal", 4: "no_choice"}
    server.fault = Fault(429, times=3)
    project.set_params(synthesis__temperature=0.3)
    project.repro("synthesize")
    assert (len(server.log.failed), server.log.synthesis) == (3, 2 * (ROWS + 5))
    server.fault = Fault(0, times=3)
    project.repro("curate")
    assert (len(server.log.failed), server.log.grading) == (6, 2 * ROWS)
    rejected = json.loads((project.folder / "data/curated/summary.json").read_text())["rejected"]
    assert (rejected["cut_off"], rejected["empty"]) == (2, 2)
    assert rejected["refusal"] >= 2
    server.reset()
    project.set_params(synthesis__rows=ROWS + 2)
    project.repro("synthesize")
    assert server.log.synthesis == 2 * 2


def test_a_full_disk(project: Project) -> None:
    disk = "mount -t tmpfs -o size=64k none models/student"
    ship = f"{disk} && exec {sys.executable} stages/ship.py"
    run = project.run("unshare", "--mount", "--map-root-user", "sh", "-c", ship)
    if run.output.startswith(("unshare:", "mount:")):
        pytest.skip("this machine lets nobody mount a small disk")
    check_sentence(run, "ship: the disk is full")
    assert run.code == 2
