"""`amalgam new`: from a table of coded responses to a task that runs."""

import json
import math
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from amalgam.cli.sizes import choose_params, edit_params
from amalgam.errors import DataError, ParamsError
from amalgam.files import write_text
from amalgam.params import load_params
from amalgam.tasks.coding import CODED
from amalgam.tasks.columns import TaskRows, load_task_rows
from amalgam.tasks.guess import Guess, guess_columns
from amalgam.tasks.labels import (
    Labels,
    find_combined,
    find_labels,
    fold_code,
    list_codes,
    measure_kappa,
    name_code,
    read_rubric,
)
from amalgam.tasks.personal import find_personal_columns
from amalgam.tasks.schema import LEAVE_OUT, load_task
from amalgam.tasks.sources import Table, read_file
from amalgam.tasks.texts import WORD, clean_text, fold_text, guess_languages

_UNCODED = 20  # rows without a code; from that number on, their texts teach the student
_REASONS = {
    "no_text": "without a text",
    "no_label": "without a code",
    "coded_again": "that their coder had coded already",
    "not_selected": "not selected by `where`",
    "equal_text_other_label": "whose text has two codes",
}
_WHAT = {"text": "the response", "label": "the code", "group": "the group of a row", "time": "the date"}


@dataclass(frozen=True)
class Choice:
    """The flags of `amalgam new`."""

    columns: dict[str, list[str]]  # by flag
    sheet: str | None
    rubric: Path | None
    above: float | None
    merge_rare: int
    drop_rare: int
    force: bool
    yes: bool
    as_json: bool


class Found(NamedTuple):
    """What was found in a file."""

    table: Table
    guess: Guess
    labels: Labels
    definitions: dict[str, str]  # by label
    personal: dict[str, str]  # columns of personal data, with its kind


def run_new(project: Path, name: str, source: Path, choice: Choice) -> None:
    """Find out what a table holds, show it, and write `data/tasks/NAME` and fitting params; an error writes nothing."""
    params, folder = load_params(project / "params.yaml"), project / "data/tasks" / name
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise ParamsError(f"'{name}' cannot be the name of a task: use letters, digits, `_` and `-`")
    if folder.exists() and not choice.force:
        raise DataError(f"{folder} exists already: choose another name, or replace the task with --force")
    cache = project / ".cache/downloads"
    found = _look(source, choice, cache)
    # The task's own files keep their names; a source of the same name gets another.
    kept = f"source_{source.name}" if source.name in ("task.yaml", CODED) else source.name
    made = folder.with_name(f".{name}.{os.getpid()}.new")
    old = made / "replaced"
    try:
        (made / name).mkdir(parents=True)
        if source.exists():  # otherwise it is on the hub
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, made / name / kept)
            found.table.origin["files"][0]["path"] = kept
        write_text(made / name / "task.yaml", _write_task(name, found, choice.above))
        rows = load_task_rows(load_task(made / name), made / name, cache)
        values, why = choose_params(params, rows, name)
        write_text(made / "params.yaml", edit_params((project / "params.yaml").read_text(encoding="utf-8"), values))
        load_params(made / "params.yaml")
        facts = _list_facts(source, found, rows) | {"params": values, "why": why}
        print(json.dumps(facts, indent=2, ensure_ascii=False)) if choice.as_json else _show(facts)
        if folder.exists():
            # Codes added by people outlive the replaced table, and what DVC keeps out of Git stays out of it.
            for each in (CODED, f"{CODED}.dvc", f"{kept}.dvc", ".gitignore"):
                if (folder / each).exists():
                    shutil.copyfile(folder / each, made / name / each)
            folder.rename(old)
        (made / name).rename(folder)
        (made / "params.yaml").replace(project / "params.yaml")
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}): check the folder and the disk") from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(made, ignore_errors=True)
    if not choice.as_json:
        print(f"\n{folder} and params.yaml are written: `amalgam check {name}` examines the task, `dvc repro` runs it.")
        if source.exists():
            path = shlex.quote(str(folder / kept))
            print(f"`dvc add {path}` keeps private responses out of Git. Then run `git add {folder} params.yaml`,")
            print("so that queued experiments see the task.")


def _look(source: Path, choice: Choice, cache: Path) -> Found:
    table = read_file(source, sheet=choice.sheet, cache=cache)
    for column in table.lists:
        items = [(json.loads(cell or "[]") or [""])[0] for cell in table.frame[column]]
        table.frame[column] = [item if isinstance(item, str) else json.dumps(item) for item in items]
    personal = find_personal_columns(table.frame)
    try:
        guess = _settle_doubts(table.frame, choice, personal)
    except DataError as error:
        if choice.sheet or not table.source.sheet:
            raise
        raise DataError(f"in the sheet `{table.source.sheet}` (--sheet names another), {error}") from error
    if "question" not in choice.columns:
        guess.wording = guess.wording or table.questions.get(guess.text, "")
    answered = table.frame[table.frame[guess.text].str.strip() != ""]  # other rows, such as a total, are left out
    cells = pd.concat([answered[column] for column in guess.coded])
    if guess.coder:  # the coders of a response vote, as raters do
        response = [guess.id] if guess.id else [name for name in (guess.text, guess.question) if name]
        cells = cells.set_axis(answered.groupby(response).ngroup())
    if choice.above is not None:
        labels = Labels(["low", "high"], _find_missing(cells.str.strip()), False)
    else:
        if combined := find_combined([*cells.str.strip().unique()]):
            looks = f"'{combined}' looks like several codes at once, and became a label of its own"
            table.notes.append(f"{looks}: to separate one code from all others, give it a column")
        labels = find_labels(cells, guess.coded[0], choice.merge_rare, choice.drop_rare)
    definitions = read_rubric(choice.rubric, labels) if choice.rubric else {}
    return Found(table, guess, labels, definitions, personal)


def _find_missing(cells: "pd.Series[str]") -> dict[str, str]:
    """Map the cells that hold no score, such as N/A and -99, to `leave_out`; on a scale to 100, 99 is a score."""
    numbers, known = pd.to_numeric(cells.str.replace(",", "."), errors="coerce"), cells.isin(list_codes(cells))
    low, high = numbers[known].min(), numbers[known].max()
    return dict.fromkeys(["", *cells[~known & ~numbers.between(1.5 * min(low, 0), 1.5 * max(high, 0))]], LEAVE_OUT)


def _settle_doubts(frame: pd.DataFrame, choice: Choice, personal: dict[str, str]) -> Guess:
    """Guess columns; if two answers are possible, ask on a terminal, or name the flag that decides."""
    said = dict(choice.columns)
    while True:
        guess = guess_columns(frame, said, personal)
        if not guess.doubts or choice.yes:
            return guess
        flag, names = next(iter(guess.doubts.items()))
        if choice.as_json or not sys.stdin.isatty():
            where = " or ".join(f"`{each}`" for each in names)
            advice = f"name it, as in --{flag} '{names[0]}', or take the most likely ones with --yes"
            raise DataError(f"{_WHAT[flag]} may be in {where}: {advice}")
        import typer

        print(f"Which column holds {_WHAT[flag]}?")
        for number, each in enumerate(names, start=1):
            sample = next((cell for cell in frame[each] if cell.strip()), "")
            print(f"  {number}  {each}  (for example {sample[:60]!r})")
        number = typer.prompt("Number", default=1, type=int)
        said[flag] = [names[min(max(number, 1), len(names)) - 1]]


def _write_task(name: str, found: Found, above: float | None) -> str:
    """Write task.yaml, with a comment on each part."""
    table, guess, labels = found.table, found.guess, found.labels
    steps: dict[str, Any] = {"map": labels.codes}
    if above is not None:
        steps |= {"above": {"high": above}, "otherwise": "low"}
    elif all(code == label for code, label in labels.codes.items()):
        steps = {}
    if any(column in table.lists for column in guess.coded):
        steps = {"item": 0, "otherwise": LEAVE_OUT, **steps}
    whole = {"column": guess.label} if guess.label else {"columns": guess.raters, "majority": "true"}
    one: dict[str, dict[str, Any]] = {}
    spelt = {fold_code(code): label for code, label in labels.codes.items()}
    for rater in guess.raters:  # who may spell codes in another way, and use codes of no label
        said = list_codes(table.frame[rater].str.strip())
        own = {code: spelt[fold_code(code)] for code in said if fold_code(code) in spelt}
        one[rater] = {"otherwise": LEAVE_OUT, **steps, "map": own | labels.codes}
    shown = {guess.text, guess.label, guess.question, *guess.subgroups}  # names in these do not say who wrote a text
    roster = [column for column, kind in found.personal.items() if kind == "name" and column not in shown]
    blank = not all(map(clean_text, table.frame[guess.text]))
    entries: dict[str, Any] = {
        "id": guess.id,
        "text": {"column": guess.text, "otherwise": LEAVE_OUT} if blank else guess.text,
        "label": {**whole, **steps} if steps or not guess.label else guess.label,
        **{key: getattr(guess, key) for key in ("question", "group", "time", "coder")},
        "subgroups": {name_code(column, 1): column for column in guess.subgroups},
        "raters": [{"column": rater, **one[rater]} if steps else rater for rater in guess.raters],
        "roster": {"columns": roster, "join": " "} if roster else {},
    }
    cells = [table.frame[column].str.strip() for column in guess.coded]
    codes = pd.concat([each.isin(list_codes(each)) for each in cells], axis=1)
    described = []
    for label in labels.names:
        spelled = [" ".join(code.split()) for code, other in labels.codes.items() if other == label != code]
        described.append({"name": label, "codes": spelled, "definition": found.definitions.get(label, "")})
    *others, last = labels.names
    which = f"{', '.join(others)} or {last}" if len(others) < 5 else f"which of {len(others) + 1} labels"
    import jinja2

    loader = jinja2.PackageLoader("amalgam.cli", "")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, keep_trailing_newline=True)
    environment.filters["quote"] = _quote
    return environment.get_template("task.yaml.j2").render(
        name=name,
        title=f"{name}: {which}?",
        ordinal=labels.ordinal,
        scenarios=[f'The question was: "{" ".join(guess.wording.split())}"'] if guess.wording else [],
        labels=described,
        origin=table.origin,
        uncoded=int((~codes.any(axis=1)).sum()) >= _UNCODED,
        entries=entries,
    )


def _quote(value: Any) -> str:
    """Write a value as YAML on one line."""
    copy = json.loads(json.dumps(value))  # YAML would write an anchor for an object that is there twice
    text = yaml.safe_dump(copy, default_flow_style=True, allow_unicode=True, width=math.inf, sort_keys=False)
    return str(text).removesuffix("\n").removesuffix("\n...")


def _list_facts(source: Path, found: Found, rows: TaskRows) -> dict[str, Any]:
    """List what was found, as `--json` prints it."""
    guess, texts = found.guess, rows.main["text"]
    ratings = rows.ratings.drop(columns="id")
    kappas = [measure_kappa(ratings[one], ratings[other]) for one, other in combinations(ratings, 2)]
    known = [kappa for kappa in kappas if kappa is not None]
    written = {key: getattr(found.table.source, key) for key in ("format", "encoding", "separator", "sheet")}
    used = guess.list_used() | found.personal.keys()
    return {
        "file": {"path": str(source), **written, "export": found.table.export, "rows": len(found.table.frame)},
        "columns": {key: getattr(guess, key) for key in Guess.__slots__ if key not in ("doubts", "notes")},
        "labels": {str(label): int(count) for label, count in rows.main["label"].value_counts().items()},
        "left_out": {reason: count for reason, count in rows.left_out.items() if count},
        "words": [int(size) for size in texts.str.count(WORD).quantile([0, 0.5, 1])],
        "languages": {name: round(count / len(texts), 3) for name, count in guess_languages([*texts]).most_common(3)},
        "equal_texts": int(texts.map(fold_text).duplicated().sum()),
        "groups": int(rows.main["group"].nunique()) if "group" in rows.main else None,
        "kappa": sum(known) / len(known) if known else None,
        "personal": found.personal,
        "not_used": [name for name in map(str, found.table.frame) if name not in used],
        "notes": [*found.table.notes, *guess.notes, *(note.sentence for note in rows.notes)],
    }


def _show(facts: dict[str, Any]) -> None:
    """Print what was found, and the values for params.yaml."""
    file, columns, words = facts["file"], facts["columns"], facts["words"]
    known = ", ".join(f"{language} {share:.0%}" for language, share in facts["languages"].items() if share >= 0.01)
    code = f"`{columns['label']}`" if columns["label"] else "majority of the raters"
    kappa = f", kappa {facts['kappa']:.2f}" if facts["kappa"] is not None else ""
    raters = ", ".join(columns["raters"]) or (f"a row for each `{columns['coder']}`" if columns["coder"] else "")
    between = {"": "", ",": "", "\t": "tabs between cells"}.get(
        file["separator"], f"`{file['separator']}` between cells"
    )
    how = ", ".join(filter(None, [file["export"], file["format"], file["encoding"], file["sheet"], between]))
    lines = {
        "file": f"{file['path']}: {how}, {file['rows']:,} rows",
        "response": f"`{columns['text']}`: {words[1]} words ({words[0]} to {words[2]}); {known}",
        "label": f"{code}: {', '.join(f'{label} {count}' for label, count in facts['labels'].items())}",
        "raters": raters and raters + kappa,
        "question": columns["question"] or columns["wording"],
        "group": columns["group"] and f"`{columns['group']}`: {facts['groups']} groups",
        "date": columns["time"],
        "subgroups": ", ".join(columns["subgroups"]),
        "left out": ", ".join(f"{count} {_REASONS[reason]}" for reason, count in facts["left_out"].items()),
        "equal texts": facts["equal_texts"] and f"{facts['equal_texts']} rows repeat the text of another row",
        "personal": ", ".join(f"`{column}` ({kind})" for column, kind in facts["personal"].items()),
        "not used": ", ".join(facts["not_used"]),
        "note": "\n            ".join(facts["notes"]),
        "params.yaml": "\n            ".join(facts["why"]),
    }
    print("\n".join(f"{name:<12}{value}" for name, value in lines.items() if value))
