"""Stage prepare: load the task's human-coded rows and divide them into train, validation, test and unlabelled."""

import re
import shutil
from pathlib import Path
from typing import Any

from runtime import run_stage

import pandas as pd

from amalgam.errors import DataError
from amalgam.files import write_json, write_rows
from amalgam.machine import notify
from amalgam.params import Params
from amalgam.tasks.coding import CODED, read_codes
from amalgam.tasks.columns import TRANSFER, load_task_rows, measure_agreement
from amalgam.tasks.schema import load_task
from amalgam.tasks.split import TRAIN, split_task

OUT = Path("data/prepared")


def main(params: Params, root: Path) -> None:
    folder = Path("data/tasks") / params.task
    task = load_task(folder)
    loaded = load_task_rows(task, folder, root / ".cache" / "downloads")
    transfer = loaded.transfer
    for note in loaded.notes:
        notify(f"prepare: {note.sentence}")
    codes = read_codes(folder, task.label_names)
    tables = split_task(loaded, codes, params.human_rows, params.split)
    used = len(tables[TRAIN]) + len(tables["validation"]) - params.human_rows
    if unused := len(codes) - used:
        notify(
            f"prepare: {unused} of the {len(codes)} responses in {folder / CODED} are not used for training, "
            "because they are in or near another set of this split, or no longer in the task"
        )
    train = tables[TRAIN]
    if not any(re.search(r"\w", text) for text in train["text"] + train["question"]):  # the baselines count words
        raise DataError(f"no text in the {len(train)} {TRAIN} rows has a letter or digit: correct `columns.text`")
    if len(transfer) and TRANSFER not in tables:
        notify(f"prepare: each {TRANSFER} row shares a text or group with a coded row, so there is no such set")
    drawn = pd.concat([table["id"] for table in tables.values()])
    left_out = loaded.left_out | {"over_budget": int((~loaded.main["id"].isin(drawn)).sum())}
    if len(transfer):
        left_out["transfer_known_text_or_group"] = len(transfer) - len(tables.get(TRANSFER, ()))
    if unused:
        left_out["coded"] = unused
    labels = {name: table["label"].value_counts() for name, table in tables.items() if "label" in table}
    summary: dict[str, Any] = {
        "rows": {name: len(table) for name, table in tables.items()},
        "labels": {name: counts.reindex(task.label_names, fill_value=0).to_dict() for name, counts in labels.items()},
        **measure_agreement(loaded.ratings, task),
        "left_out": left_out,
    }
    if len(tables["test"]) < params.split.test:
        summary["test_wanted"] = params.split.test
    write_tables(tables, summary)


def write_tables(tables: dict[str, pd.DataFrame], summary: dict[str, Any]) -> None:
    made = OUT.with_name(f".{OUT.name}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    for name, table in tables.items():
        write_rows(made / f"{name}.csv", table)
    write_json(made / "summary.json", summary)
    shutil.rmtree(OUT, ignore_errors=True)
    made.replace(OUT)


if __name__ == "__main__":
    run_stage("prepare", main)
