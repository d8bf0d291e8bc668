"""Let the LLM grade synthetic responses by the rubric, and measure how often it confirms the intended label."""

from dataclasses import asdict
from pathlib import Path

from runtime import read_answering, run_stage

from amalgam.evaluation.metrics import summarise_agreement
from amalgam.files import read_json, read_rows, write_json, write_rows
from amalgam.llm.answering import answer_requests
from amalgam.llm.request import sum_answers, write_answers
from amalgam.machine import notify
from amalgam.params import Params
from amalgam.synthesis.answers import read_responses
from amalgam.synthesis.grading import build_grading_requests, read_grades, select_gradable
from amalgam.tasks.schema import load_task

TARGET = Path("data/judgements")


def main(params: Params, root: Path) -> None:
    """Read the completions, write data/judgements/."""
    task = load_task(Path("data/tasks") / params.task)
    answering = read_answering(params.llm, root)
    model = read_json(answering.folder / "identity.json")["model"]
    train = read_rows(Path("data/prepared/train.csv"))
    # A few responses of each label measure agreement; if the grades decide, all are graded.
    most = None if params.curation.consistency == "judge" else params.judge.rows
    rows = select_gradable(read_responses(Path("data/completions")), most)
    requests = build_grading_requests(task, rows, train, model, params.judge, params.llm.body)
    answers = answer_requests(requests, answering, "judge")
    grades, sentence = read_grades(answers, task.label_names, "the LLM as judge of its responses")
    if sentence:
        notify(f"judge: {sentence}")
    named = rows[["id", "label", "sample"]].itertuples(index=False, name=None)
    lines = [
        {"key": request.key, "id": row, "label": label, "sample": slot, **asdict(answer)}
        for (row, label, slot), request, answer in zip(named, requests, answers, strict=True)
    ]
    write_answers(TARGET / "answers", lines)
    judged = rows[["id", "label"]].assign(judged=grades)
    write_rows(TARGET / "judgements.csv", judged)
    agreement = summarise_agreement(judged["label"], judged["judged"], task.label_names)
    write_json(TARGET / "summary.json", agreement | sum_answers(lines))


if __name__ == "__main__":
    run_stage("judge", main)
