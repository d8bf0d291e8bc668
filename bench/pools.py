"""Prepare the tasks of the quality benchmark as the pipeline does: splits, and a pool of synthetic rows for each.

Run `python -m bench.pools FOLDER` after `dvc repro models`; FOLDER/TASK/responses.csv holds the rows of each task in
bench/tasks (its task.yaml names their source). The output stays in `.cache/bench`.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import pandas as pd

from amalgam.files import read_json, read_rows, write_rows
from amalgam.llm.answering import Answering
from amalgam.params import Params, load_params
from amalgam.synthesis.answers import read_responses
from amalgam.synthesis.asking import Rounds, collect_answers, write_completions
from amalgam.synthesis.curate import find_rejects
from amalgam.synthesis.prompts import build_prompts, load_template
from amalgam.tasks.columns import TaskRows, load_task_rows
from amalgam.tasks.schema import load_task
from amalgam.tasks.split import keep_apart, split_rows

CACHE = Path(".cache/bench")
SIZES = (51, 200)
TASKS = (
    "khan_saq_ela",
    "cered_difficulty_binary",
    "asap_sas_04_binary",
    "saf_networks",
    "mathdial_moves",
    "vader_reviews",
    "asap_sas_10",
    "cered_4class",
)
_MAX_TOKENS = 160  # for an answer; some tasks have longer responses than the default task
_SEED = 11  # of the splits, so that figures of different days use the same test rows
_COLUMNS = ["id", "text", "question", "label", "sample", "shots"]


def prepare_task(name: str, data: Path, params: Params) -> None:
    """Split a task's rows for each number of human rows; the small sets are parts of the large ones."""
    loaded = load_rows(name, data)
    for size in SIZES:
        tables = split_task(loaded.main, size, _SEED, params, keep_apart(loaded.unlabelled, loaded.transfer))
        for part, table in tables.items():
            write_rows(CACHE / f"{name}-{size}" / f"{part}.csv", table)


def split_task(
    rows: pd.DataFrame, size: int, seed: int, params: Params, texts: pd.DataFrame | None = None
) -> dict[str, pd.DataFrame]:
    """Split rows with `size` human rows; the rest is as in params.yaml."""
    return split_rows(rows, size, params.split.model_copy(update={"seed": seed}), texts)


def load_rows(name: str, data: Path) -> TaskRows:
    """Read the rows of data/NAME/responses.csv as the task's task.yaml in bench/tasks describes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        shutil.copytree(Path("bench/tasks") / name, folder)
        shutil.copy(data / name / "responses.csv", folder)
        return load_task_rows(load_task(folder), folder, CACHE / "downloads")


def write_pool(name: str, params: Params, rows: int) -> None:
    """Let the embedded LLM write `rows` usable responses a label from the smallest set of human rows; curate them."""
    task = load_task(Path("bench/tasks") / name)
    folder = CACHE / f"{name}-{SIZES[0]}"
    train, held_out = read_rows(folder / "train.csv"), read_rows(folder / "test.csv")
    few = train["label"].value_counts().reindex(task.label_names, fill_value=0).min()
    prompts = params.prompts.model_copy(update={"shots": min(params.prompts.shots, int(few))})
    synthesis = params.synthesis.model_copy(update={"rows": rows, "max_tokens": _MAX_TOKENS})
    model, answering = open_llm(params, Path("models/base/llm"))
    template = load_template(prompts.template, [Path("data/templates")])
    rounds = Rounds(list(build_prompts(task, train, template, prompts, rows)), model, synthesis, params.llm.body)
    collect_answers(rounds, answering)
    write_completions(CACHE / name / "completions", rounds)
    responses = read_responses(CACHE / name / "completions")
    found = find_rejects(
        responses,
        pd.Series("", responses.index),
        shots=train,
        held_out=pd.concat([held_out, read_rows(folder / "validation.csv")], ignore_index=True),
        threshold=params.curation.near_duplicate,
    )
    kept = responses.loc[found["reason"] == "", _COLUMNS]
    write_rows(CACHE / name / "synthetic.csv", kept.astype(str))


def open_llm(params: Params, folder: Path) -> tuple[str, Answering]:
    """Return the identity of the LLM in a folder, and how it answers, with a journal that all benchmarks share."""
    journal, prices = CACHE / "journal.sqlite", Path("data/prices.yaml")
    answering = Answering(params.llm, folder, journal, prices, None, lambda _: iter(()))
    return read_json(folder / "identity.json")["model"], answering


def main(data: Path, names: list[str], rows: int) -> None:
    """Prepare the tasks and write their pools."""
    params = load_params(Path("params.yaml"))
    for name in names:
        prepare_task(name, data, params)
        labels = len(load_task(Path("bench/tasks") / name).labels)
        write_pool(name, params, -(-rows // labels))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with TASK/responses.csv")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--rows", type=int, default=220, help="synthetic rows a task, before curation")
    args = parser.parse_args()
    main(args.data, args.tasks, args.rows)
