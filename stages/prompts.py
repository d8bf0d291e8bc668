"""Build the requests for synthetic responses: a template filled in with the rubric and train rows."""

from pathlib import Path

from runtime import run_stage

from amalgam.files import read_rows, write_jsonl
from amalgam.machine import notify
from amalgam.params import Params
from amalgam.synthesis.prompts import build_prompts, list_shortages, load_template
from amalgam.tasks.schema import load_task


def main(params: Params, root: Path) -> None:
    """Read the rubric, the template and the train rows, write data/prompts.jsonl."""
    folder = Path("data/tasks") / params.task
    task = load_task(folder)
    template = load_template(params.prompts.template, [folder / "templates", Path("data/templates")])
    train = read_rows(Path("data/prepared/train.csv"))
    rows = 0 if params.synthesis.source == "label" else params.synthesis.rows
    for shortage in list_shortages(task, train, params.prompts) if rows else ():
        notify(shortage)
    prompts = build_prompts(task, train, template, params.prompts, rows)
    write_jsonl(Path("data/prompts.jsonl"), prompts)


if __name__ == "__main__":
    run_stage("prompts", main)
