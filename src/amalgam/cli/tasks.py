"""`amalgam check` lists what may be wrong with a task, `amalgam tasks` lists all tasks with their last results."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from amalgam.cli import print_table
from amalgam.dvc import list_experiments, open_repo
from amalgam.errors import AmalgamError, DataError
from amalgam.machine import notify
from amalgam.params import Params, load_params
from amalgam.review.revisions import PRIMARY, WORKSPACE, read_revision
from amalgam.tasks.cells import Fault
from amalgam.tasks.coding import read_codes
from amalgam.tasks.columns import TaskRows, load_task_rows, read_task_rows
from amalgam.tasks.guess import guess_columns
from amalgam.tasks.labels import measure_kappa
from amalgam.tasks.schema import FileSource, GitSource, Task, WheelSource, load_task
from amalgam.tasks.sources import load_tables
from amalgam.tasks.split import split_rows
from amalgam.tasks.texts import guess_languages

_FEW = 20  # rows of a label; with fewer, its scores show little
_AGREED = 0.8  # kappa; from there on, raters agree well enough (Krippendorff)
_LONG = 0.05  # share of texts that may be cut
_ENGLISH = ("all-minilm-l6-v2", "all-mpnet-base-v2", "smollm2-135m-instruct")  # models that know only English
_TAGS = r"</(?:p|b|i|em|strong|div|span|li|ul|ol|td|h\d)>|<br ?/?>|<p>"
_SHOWN = 8  # rows of a fault; JSON has all of them


def run_check(project: Path, name: str, *, as_json: bool) -> None:
    """Print all faults; exit with code 0 if there are none, 1 if there are only warnings, else 2."""
    params, folder = load_params(project / "params.yaml"), project / "data/tasks" / name
    errors: list[Fault] = []
    warnings: list[Fault] = []
    try:
        task = load_task(folder)
        table, texts = load_tables(task.source, folder, project / ".cache/downloads")
        rows = read_task_rows(task, table, texts, errors)
        warnings = [*_find_doubtful(task, rows, table), *_find_unfit(task, rows, params, project)]
        read_codes(folder, task.label_names)
        if not errors and params.task == name:
            split_rows(rows.main, params.human_rows, params.split)
    except DataError as error:
        errors.append(Fault(str(error)))
    levels = [("error", fault) for fault in errors] + [("warning", fault) for fault in warnings]
    if as_json:
        found = [{"level": level, "sentence": fault.sentence, "rows": fault.rows} for level, fault in levels]
        print(json.dumps(found, indent=2, ensure_ascii=False))
    for level, fault in levels if not as_json else ():
        print(f"{level}: {fault.sentence}")
        if len(fault.rows) > 1:
            more = f" and {len(fault.rows) - _SHOWN} more" if len(fault.rows) > _SHOWN else ""
            print(f"    {'; '.join(fault.rows[:_SHOWN])}{more}")
    if not levels and not as_json:
        print(f"{name}: {len(rows.main)} coded rows, and nothing to fix")
    if levels:
        sys.exit(2 if errors else 1)


def _find_doubtful(task: Task, rows: TaskRows, table: pd.DataFrame) -> Iterator[Fault]:
    """Find what makes the codes or the test doubtful."""
    yield from rows.notes
    main = rows.main
    for label, count in main["label"].value_counts().items():
        if count < _FEW:
            places = [rows.places[name] for name in main["id"][main["label"] == label]]
            yield Fault(f"only {count} rows are coded '{label}': code {_FEW} or more, or merge it with another", places)
    raters = [name for name in map(str, rows.ratings) if name != "id"]
    named = dict(zip(raters, (cell.column or ", ".join(cell.columns) for cell in task.columns.raters), strict=False))
    for one, other in combinations(raters, 2):
        kappa = measure_kappa(rows.ratings[one], rows.ratings[other])
        if kappa is not None and kappa < _AGREED:
            pair = rows.ratings[["id", one, other]]
            apart = pair["id"][(pair[one] != pair[other]) & (pair[[one, other]] != "").all(axis=1)]
            both = f"{named.get(one, one)} and {named.get(other, other)}"
            sentence = f"{both} disagree on {len(apart)} rows (kappa {kappa:.2f}): settle them together"
            yield Fault(sentence, [rows.places[name] for name in apart])
    asked = main.groupby("question")["label"].nunique()
    if len(asked) > len(task.labels) and (asked == 1).all():
        yield Fault("each question has answers of only one label, so it reveals the label: code other answers")
    if task.columns.group is None:
        cells = {"text": task.columns.text, "label": task.columns.label, "question": task.columns.question}
        said = {key: [cell.column] if cell else [] for key, cell in cells.items() if not cell or cell.column}
        with suppress(DataError):
            if group := guess_columns(table, said).group:
                advice = f"add it, or rows of one `{group}` may be in train and test"
                yield Fault(f"`{group}` repeats, but is not `columns.group`: {advice}")


def _find_unfit(task: Task, rows: TaskRows, params: Params, project: Path) -> Iterator[Fault]:
    """Find what the models cannot read, or do not get."""
    main, limit = rows.main, params.teacher.max_length
    if main.empty:
        return
    sizes = pd.Series(_count_tokens([*(main["question"] + " " + main["text"]).str.strip()], project), index=main.index)
    if (share := float((sizes > limit).mean())) > _LONG:
        fits = min(512, -(-int(sizes.quantile(0.95)) // 32) * 32)
        asked = ", with their questions," if task.columns.question else ""
        sentence = f"{share:.0%} of the texts{asked} have more than {limit} tokens, and are cut there"
        places = [rows.places[name] for name in main["id"][sizes > limit]]
        yield Fault(f"{sentence}: set `teacher.max_length` to {fits}", places)
    tagged = main["id"][main["text"].str.contains(_TAGS)]
    if len(tagged) > _LONG * len(main):
        sentence = f"{len(tagged)} texts contain HTML tags, which the models read as words: export them as plain text"
        yield Fault(sentence, [rows.places[name] for name in tagged])
    language, count = guess_languages([*main["text"]]).most_common(1)[0]
    models = [name for name in (params.teacher.model, params.llm.model) if name in _ENGLISH]
    if language not in ("English", "unknown") and models:
        sentence = f"most texts ({count / len(main):.0%}) are {language}, but {' and '.join(models)} know only English"
        yield Fault(f"{sentence}: set `teacher.model` and `llm.model` to models for this language")
    if bare := [label.name for label in task.labels if not label.definition]:
        yield Fault(f"{', '.join(bare)} have no definition in task.yaml: the LLM writes better with one")


def _count_tokens(texts: list[str], project: Path) -> list[int]:
    """Count the encoder's tokens of each text; if there is no encoder yet, assume four tokens for three words."""
    path = project / "models/base/encoder/tokenizer.json"
    if not path.is_file():
        return [2 + len(text.split()) * 4 // 3 for text in texts]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]


def run_tasks(project: Path, *, as_json: bool) -> None:
    """Print all tasks in `data/tasks`; for a task that cannot be read, print the reason."""
    results = _read_results(project)
    listed: list[dict[str, Any]] = []
    for folder in sorted(path.parent for path in (project / "data/tasks").glob("*/task.yaml")):
        try:
            task = load_task(folder)
            about = {"labels": task.label_names, "licence": task.licence, "student_auc": results.get(task.name)}
            listed.append({"name": task.name, "rows": None, **about})
            listed[-1]["rows"] = _count_rows(task, folder, project / ".cache/downloads")
        except AmalgamError as error:
            notify(f"{folder.name}: {error}")
    if not listed:
        load_params(project / "params.yaml")  # refuses a folder that is no project
    if as_json:
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    cells: list[Sequence[str]] = [("task", "rows", "AUC", "labels", "licence")]
    for one in listed:
        numbers = ["-" if value is None else f"{value:,}" for value in (one["rows"], one["student_auc"])]
        texts = [text if len(text) < 40 else f"{text[:39]}…" for text in (", ".join(one["labels"]), one["licence"])]
        cells.append((one["name"], *numbers, *texts))
    print_table(cells)


def _count_rows(task: Task, folder: Path, cache: Path) -> int | None:
    match task.source:
        case FileSource():
            here = True
        case WheelSource() as source:
            here = (cache / "wheels" / f"{source.package}-{source.version}.whl").is_file()
        case GitSource() as source:
            here = all((cache / "git" / str(file.sha256)).is_file() for file in source.files)
        case source:
            here = source.is_local
    return len(load_task_rows(task, folder, cache).main) if here else None


def _read_results(project: Path) -> dict[str, float]:
    """Return the last student's AUC by task, from the experiments at HEAD, from HEAD and from the workspace."""
    results = {}
    try:
        with open_repo(project) as repo:
            for revision in ("HEAD", WORKSPACE, *list_experiments(repo)):
                found = read_revision(repo, revision)
                locked = found.stages.get("evaluate", {}).get("params", {}).get("params.yaml", {})
                if "task" in locked and (auc := found.metrics.get(PRIMARY)) is not None:
                    results[str(locked["task"])] = round(auc, 3)
    except AmalgamError as error:
        notify(f"no results are known: {error}")
    return results
