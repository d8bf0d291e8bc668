"""What has been done: `amalgam journal` shows the answers of LLMs, `amalgam study status` the cells of the study."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from amalgam.cli import print_table
from amalgam.errors import DataError
from amalgam.files import read_json
from amalgam.llm.journal import Batch, ModelSummary, open_journal
from amalgam.params import load_params

_PLACE = Path(".cache/journal.sqlite")
_HASH = 12  # hexadecimal digits of a model file's hash that are shown
_STUDY = Path(".cache/study.json")  # the stage `cells` writes it whenever a training begins or ends
_STALE = 600.0  # seconds without an update, after which nothing seems to be running; a training may take minutes


def run_journal(project: Path, *, as_json: bool) -> None:
    """Print what the journal holds, in JSON as bytes and US dollars; a missing journal holds nothing."""
    path = project / _PLACE
    models, batches, spent = list[ModelSummary](), list[Batch](), 0.0
    if not path.exists():
        load_params(project / "params.yaml")  # refuses a folder that is no project
    else:
        with open_journal(path) as journal:
            models, batches, spent = journal.summarise(), journal.list_batches(), journal.read_spending()
    size = sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists())
    count = sum(model.answers for model in models)
    if as_json:
        found = {"journal": str(_PLACE), "bytes": size, "answers": count, "spending_usd": spent}
        print(json.dumps(found | {"models": [*map(asdict, models)], "batches": [*map(asdict, batches)]}, indent=2))
        return
    if models:
        header = ("model", "answers", "read in", "prompt tokens", "completion tokens", "USD")
        print_table([header, *map(_list_cells, models)])
        answers = f"{count} answer{'s' * (count != 1)}"
        print(f"{_PLACE}: {answers}, {size / 1e6:.1f} MB; {spent:.4f} USD spent from this clone")
    else:
        print(f"{_PLACE} holds no answers yet")
    for batch in batches:
        remote = f"as {batch.remote}" if batch.remote else "if it arrived"
        print(f"batch {batch.name} with {batch.keys} requests waits at the endpoint, {remote}: run again to collect it")


def run_forget(project: Path, batch: str) -> None:
    """Give up a batch, so that its requests are sent again."""
    path = project / _PLACE
    if not path.exists():
        raise DataError(f"there is no journal at {_PLACE} yet: run this at the top of a project that has sent requests")
    with open_journal(path) as journal:
        found = {one.name: one for one in journal.list_batches()}.get(batch)
        if not found:
            raise DataError(f"no batch {batch} is open: `amalgam journal` lists the open ones")
        journal.close_batch(batch)
    print(f"the batch {batch} is given up: its {found.keys} requests will be sent again unless they have an answer")


def run_status(project: Path, *, as_json: bool) -> None:
    """Print the study's cells that are done, running and failed, and the time left."""
    path = project / _STUDY
    if not path.is_file():
        raise DataError("no study has run here: `dvc repro study/dvc.yaml` runs the cells of study/params.yaml")
    status, now = read_json(path), time.time()
    status["running"] = {name: round(now - since) for name, since in status["running"].items()}
    if as_json:
        print(json.dumps(status, indent=2))
        return
    left, silent = status["seconds_left"], now - status["written"]
    about = f", about {max(left - silent, 0) / 60:.0f} minutes left" if status["trainings_left"] and left else ""
    print(f"{status['done']} of {status['cells']} cells are done, {len(status['failed'])} failures{about}")
    if status["trainings_left"] and silent > _STALE:
        print("no update for ten minutes: if the study no longer runs, `dvc repro study/dvc.yaml` resumes it")
    rows = [(name, f"running for {seconds} s") for name, seconds in status["running"].items()]
    rows += [(name, f"failed: {fault}") for name, fault in status["failed"].items()]
    if rows:
        print_table([("cell", "state"), *rows])


def _list_cells(model: ModelSummary) -> list[object]:
    name, colon, digits = model.model.partition("sha256:")
    shown = f"sha256:{digits[:_HASH]}" if colon and not name else model.model or "not named"
    cost = f"{model.cost_usd:.4f}" + (f" and {model.unpriced} without price" if model.unpriced else "")
    cost = "no price" if model.unpriced == model.answers else cost
    return [shown, model.answers, model.seeded, model.prompt_tokens, model.completion_tokens, cost]
