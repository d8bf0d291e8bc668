"""Let the LLM grade every synthetic response by the rubric, and measure how often it confirms the intended label."""

from pathlib import Path

from runtime import read_answering, run_stage

from amalgam.evaluation.agreement import summarise_agreement
from amalgam.files import read_json, write_json
from amalgam.llm.answering import answer_requests
from amalgam.params import Params
from amalgam.rows import read_rows, write_rows
from amalgam.synthesis.completions import read_completions
from amalgam.synthesis.curate import select_gradable
from amalgam.synthesis.grading import build_grading_requests, parse_grade
from amalgam.tasks.schema import load_task

TARGET = Path("data/judgements")


def main(params: Params, root: Path) -> None:
    """Read the completions, write data/judgements/."""
    task = load_task(Path("data/tasks") / params.task)
    answering = read_answering(params.llm, root)
    expected = params.synthesis.rows * len(task.labels)
    rows = select_gradable(read_completions(Path("data/completions"), expected))
    requests = build_grading_requests(
        task,
        rows,
        examples=read_rows(Path("data/prepared/train.csv")),
        model=read_json(answering.folder / "identity.json")["model"],
        params=params.judge,
    )
    answers = answer_requests(requests, answering, "judge")
    judged = rows.assign(judged=[parse_grade(answer, task.label_names) for answer in answers])
    write_rows(TARGET / "judgements.csv", judged[["id", "label", "judged"]])
    tokens = {
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "completion_tokens": sum(answer.completion_tokens for answer in answers),
    }
    write_json(
        TARGET / "summary.json", summarise_agreement(judged["label"], judged["judged"], task.label_names) | tokens
    )


if __name__ == "__main__":
    run_stage("judge", main)
