"""The LLM labels real texts instead of writing, or in addition: what is sent, and what is learned."""

import json

from amalgam.files import read_rows
from tests.pipeline.project import HUMAN_ROWS, ROWS, Project
from tests.pipeline.server import StubServer

EXAMPLES = 4  # human-coded rows that every request shows
WANTED = 4 * HUMAN_ROWS  # synthetic rows at the ratio 0.8


def test_real_texts_are_labelled_in_place_of_writing(project: Project, server: StubServer) -> None:
    project.set_params(synthesis__source="label", split__unlabelled=WANTED, ratio=0.7)
    wanted = 56
    estimate = json.loads(project.do("amalgam", "estimate", "--json").output)
    sent = wanted + HUMAN_ROWS - EXAMPLES
    (labelling,) = (stage for stage in estimate["stages"] if stage["stage"] == "label")
    assert (labelling["to_send"], labelling["completion_tokens"]) == (sent, sent)
    assert {stage["stage"] for stage in estimate["stages"]} <= {"label", "baselines"}
    run = project.repro("transfer")
    assert {"prompts", "synthesize", "judge", "label", "curate", "mix"} <= {*run.ran}
    assert (server.log.synthesis, server.log.grading, server.log.labelling) == (0, 0, sent)
    asked = {request.body["messages"][-1]["content"].partition(": ")[2] for request in server.log.answered}
    prepared = {path.stem: read_rows(path) for path in (project.folder / "data/prepared").glob("*.csv")}
    assert not asked & {*prepared["test"]["text"]}
    labelled = read_rows(project.folder / "data/labelled/labelled.csv")
    assert labelled["text"].tolist() == prepared["unlabelled"]["text"].head(wanted).tolist()
    likely = labelled["soft"].map(json.loads)
    assert all(abs(sum(row) - 1) < 2e-4 and min(row) > 0 for row in likely)
    mixed = read_rows(project.folder / "data/mixed.csv")
    assert mixed["origin"].value_counts().to_dict() == {"synthetic": wanted, "human": HUMAN_ROWS}
    assert set(mixed["soft"][mixed["origin"] == "human"]) == {""}
    summary = project.read_json("data/labelled/summary.json")
    assert (summary["rows"], summary["requests"]) == (wanted, sent)
    assert summary["auc"] > 0.9  # the server knows the labels
    assert project.read_json("models/teacher/summary.json")["learned"]["synthetic"] == wanted
    transfer = read_rows(project.folder / "data/transfer/transfer.csv")
    assert not transfer["id"].duplicated().any()
    assert set(transfer["label"][transfer["id"].isin(labelled["id"])]) == {""}
    server.reset()
    project.set_params(ratio=0.6)  # fewer texts: none is asked about again
    project.repro("label")
    assert not server.log.answered
    project.set_params(llm__body={"logprobs": None, "top_logprobs": None})
    project.repro("label")
    summary = project.read_json("data/labelled/summary.json")
    # A request for each text, and five samples of its answer.
    assert server.log.labelling == summary["requests"] == 6 * (summary["rows"] + summary["coded"])
    assert summary["auc"] > 0.9


def test_half_of_the_rows_are_written_and_half_are_labelled(project: Project, server: StubServer) -> None:
    project.set_params(synthesis__source="both", teacher__guard=True)
    project.repro("teacher")
    assert (server.log.synthesis, server.log.grading) == (0, 0)  # as before
    mixed = read_rows(project.folder / "data/mixed.csv")
    texts = len(read_rows(project.folder / "data/labelled/labelled.csv"))
    assert 0 < texts <= WANTED // 2
    assert ((mixed["soft"] != "").sum(), (mixed["origin"] == "synthetic").sum()) == (texts, WANTED)
    assert WANTED - texts <= ROWS * 2
    summary = project.read_json("models/teacher/summary.json")
    learned = read_rows(project.folder / "models/teacher/learned.csv")
    assert summary["learned"]["synthetic"] == (learned["origin"] == "synthetic").sum()
    assert summary["learned"]["synthetic"] in ((WANTED, texts) if summary["guard"]["helps"] else (0,))
    assert summary["guard"]["label_auc"] <= project.read_json("data/labelled/summary.json")["auc"]
