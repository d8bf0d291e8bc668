"""What can go wrong: one sentence reports it, and earlier outputs are unchanged."""

import shutil
import sys

import pytest

from tests.pipeline.project import KEY, Project, Run
from tests.pipeline.server import Fault, StubServer

DATA = ("prepared", "prompts.jsonl", "completions", "judgements", "curated", "mixed.csv", "baselines", "predictions")
OUTPUTS = (*(f"data/{name}" for name in DATA), "models", "metrics", "report.html")


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


def test_an_endpoint_that_refuses_the_key(project: Project, server: StubServer) -> None:
    server.fault = Fault(401, f"Incorrect API key provided: {KEY}. You can find yours in your account.")
    project.set_params(synthesis__temperature=0.3)
    run = check_failure(project, "status 401", "Incorrect API key provided: ***", "OPENAI_API_KEY")
    assert KEY not in run.output


def test_a_full_disk(project: Project) -> None:
    disk = "mount -t tmpfs -o size=64k none models/student"
    ship = f"{disk} && exec {sys.executable} stages/ship.py"
    run = project.run("unshare", "--mount", "--map-root-user", "sh", "-c", ship)
    if run.output.startswith(("unshare:", "mount:")):
        pytest.skip("this machine lets nobody mount a small disk")
    check_sentence(run, "ship: the disk is full")
    assert run.code == 2
