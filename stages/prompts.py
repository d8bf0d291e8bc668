"""Build the requests for synthetic responses: rubric, few-shot examples from train rows, one line a request."""

from pathlib import Path

from runtime import run_stage

from amalgam.files import write_jsonl
from amalgam.params import Params
from amalgam.rows import read_rows
from amalgam.synthesis.prompts import build_prompts
from amalgam.tasks.schema import load_task


def main(params: Params, root: Path) -> None:
    """Read the rubric and the train rows, write data/prompts.jsonl."""
    task = load_task(Path("data/tasks") / params.task)
    train = read_rows(Path("data/prepared/train.csv"))
    write_jsonl(Path("data/prompts.jsonl"), build_prompts(task, train, params.prompts, params.synthesis.rows))


if __name__ == "__main__":
    run_stage("prompts", main)
