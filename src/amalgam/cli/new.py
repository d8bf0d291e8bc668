"""`amalgam new`: from a table of coded responses to a task that runs."""

import json
import math
import os
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from amalgam.errors import DataError, ParamsError
from amalgam.files import write_text
from amalgam.params import Params, load_params
from amalgam.tasks.columns import TaskRows, load_task_rows
from amalgam.tasks.guess import (
    MOST_LABELS,
    NO_CODE,
    Guess,
    guess_columns,
    guess_languages,
    measure_kappa,
    name_code,
    name_labels,
)
from amalgam.tasks.personal import find_personal_columns
from amalgam.tasks.reading import Table, read_file
from amalgam.tasks.schema import LEAVE_OUT, load_task
from amalgam.tasks.split import choose_sizes
from amalgam.tasks.texts import clean_text, fold_text

_TASKS = Path("data/tasks")
_UNCODED = 20  # rows without a code, from which the student learns from their texts
_LEAST = 5  # rows of a label, with which it can be in every set
_AUC = 0.85  # for which the width of an interval is said
_WHAT = {"text": "the response", "label": "the code", "group": "what rows belong together", "time": "the date"}


@dataclass(frozen=True)
class Choice:
    """What the flags of `amalgam new` say; `columns` has the columns by flag."""

    columns: dict[str, list[str]]
    sheet: str | None = None
    rubric: Path | None = None
    above: float | None = None
    merge_rare: int = 0
    drop_rare: int = 0
    force: bool = False
    yes: bool = False
    as_json: bool = False


@dataclass(frozen=True)
class Labels:
    """The labels of a task in class order, the name of every code (`leave_out` for what is none), and definitions."""

    names: list[str]
    codes: dict[str, str]
    ordinal: bool
    definitions: dict[str, str]


def run_new(project: Path, name: str, source: Path, choice: Choice) -> None:
    """Find out what a table holds, show it, and write `data/tasks/NAME` and the params that fit.

    Raises:
        DataError: the file cannot be read, leaves open what is what, or makes no task; nothing is written then.
        ParamsError: the project has no valid params.yaml, or the name cannot be that of a task.
    """
    params, folder = load_params(project / "params.yaml"), project / _TASKS / name
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise ParamsError(f"'{name}' cannot be the name of a task: take letters, digits, `_` and `-`")
    if folder.exists() and not choice.force:
        raise DataError(f"{folder} exists already: choose another name, or replace the task by --force")
    cache = project / ".cache/downloads"
    table = read_file(source, sheet=choice.sheet, cache=cache)
    frame = table.frame.assign(**{column: table.frame[column].map(_take_item) for column in table.lists})
    guess = _settle_doubts(frame, choice)
    guess.wording = guess.wording or ("question" not in choice.columns and table.questions.get(guess.text, "")) or ""
    labels = _find_labels(frame, guess, choice)
    personal = find_personal_columns(frame)
    made = folder.with_name(f".{name}.{os.getpid()}.new")
    try:
        (made / name).mkdir(parents=True)
        if source.exists():  # else it is of the hub
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, made / name / source.name)
        write_text(made / name / "task.yaml", _write_task(name, table, guess, labels, personal, choice))
        rows = load_task_rows(load_task(made / name), made / name, cache)
        values, why = _choose_params(params, rows, name, labels)
        changed = _edit_params((project / "params.yaml").read_text(encoding="utf-8"), values)
        write_text(made / "params.yaml", changed)
        load_params(made / "params.yaml")
        facts = _list_facts(source, table, frame, guess, rows, personal)
        _show(facts, values, why, as_json=choice.as_json)
        if folder.exists():
            folder.rename(made / "replaced")
        (made / name).rename(folder)
        (made / "params.yaml").replace(project / "params.yaml")
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}): check the folder and the disk") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if not choice.as_json:
        print(f"\n{folder} and params.yaml are written: `amalgam check {name}` looks closer, `dvc repro` runs it.")
    if not choice.as_json and source.exists():
        print(
            f"If the responses are private, `dvc add {folder}/{source.name}` keeps them out of Git; then "
            f"`git add {folder} params.yaml`."
        )


def _take_item(cell: str) -> str:
    items = json.loads(cell) if cell else []
    return "" if not items else items[0] if isinstance(items[0], str) else json.dumps(items[0])


def _settle_doubts(frame: pd.DataFrame, choice: Choice) -> Guess:
    """Guess columns; where two answers are possible, ask at a terminal, or say which flag decides."""
    said = dict(choice.columns)
    while True:
        guess = guess_columns(frame, said)
        if not guess.doubts or choice.yes:
            return guess
        flag, names = next(iter(guess.doubts.items()))
        if choice.as_json or not sys.stdin.isatty():
            raise DataError(
                f"{_WHAT[flag]} may be in {' or '.join(f'`{each}`' for each in names)}: say it by --{flag} "
                f"'{names[0]}' or another, or take all that is likeliest by --yes"
            )
        import typer

        print(f"Which column holds {_WHAT[flag]}?")
        for number, each in enumerate(names, start=1):
            sample = next((cell for cell in frame[each] if cell.strip()), "")
            print(f"  {number}  {each}  (such as {sample[:60]!r})")
        number = typer.prompt("Number", default=1, type=int)
        said[flag] = [names[min(max(number, 1), len(names)) - 1]]


def _find_labels(frame: pd.DataFrame, guess: Guess, choice: Choice) -> Labels:
    """Name the labels; a DataError if they are too many, or one has hardly any row."""
    columns = [guess.label] if guess.label else guess.raters
    if choice.above is not None:
        return Labels(["low", "high"], {}, False, {})
    counts = Counter(cell for column in columns for cell in frame[column].str.strip())
    codes = [code for code, _ in counts.most_common() if not NO_CODE.fullmatch(code)]
    names, ordinal = name_labels(codes, columns[0])
    rows = Counter[str]()
    for code, label in names.items():
        rows[label] += counts[code]
    rare = {label for label, count in rows.items() if count < max(choice.merge_rare, choice.drop_rare)}
    other = "other" if choice.merge_rare else LEAVE_OUT
    named = {code: other if label in rare else label for code, label in names.items()}
    order = [label for label in dict.fromkeys(named.values()) if label != LEAVE_OUT]
    advice = (
        f"--merge-rare {_LEAST} puts labels of fewer rows together as `other`, --drop-rare {_LEAST} leaves them out, "
        "and --above X makes two labels of a score"
    )
    if len(order) > MOST_LABELS:
        raise DataError(
            f"`{columns[0]}` has {len(order)} labels, and {MOST_LABELS} can be told apart at most: {advice}"
        )
    if len(order) < 2:
        raise DataError(
            f"`{columns[0]}` has the code {', '.join(order)} alone: a classifier needs two, so code more rows"
        )
    if few := [label for label in order if label in rows and rows[label] < _LEAST]:
        raise DataError(f"`{few[0]}` of `{columns[0]}` has {rows[few[0]]} rows, which is too few to learn: {advice}")
    named |= dict.fromkeys((code for code in counts if NO_CODE.fullmatch(code)), LEAVE_OUT)
    return Labels(order, named, ordinal and other not in order, _read_rubric(choice.rubric, named))


def _read_rubric(path: Path | None, codes: dict[str, str]) -> dict[str, str]:
    """Read a definition for each label, by its code or name: of a table of two columns, or of lines that begin so."""
    if path is None:
        return {}
    known = {key.casefold(): name for code, name in codes.items() for key in (code, name, name.replace("_", " "))}
    found: dict[str, list[str]] = {}
    if path.suffix.lower() in (".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".parquet"):
        for row in read_file(path).frame.to_numpy():
            cells = [cell.strip() for cell in row if cell.strip()]
            if len(cells) > 1 and cells[0].casefold() in known:
                found[known[cells[0].casefold()]] = cells[1:2]
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as text in UTF-8: name a rubric that can") from error
        keys = "|".join(re.escape(key) for key in sorted(known, key=len, reverse=True) if key)
        start = re.compile(rf"[\s#>*|`\"-]*({keys})[\s*|`\"]*(?:[:=|\u2013\u2014-]\s*|$)(.*)", re.IGNORECASE)
        label = ""
        for line in lines:
            if match := start.match(line):
                label = known[match[1].casefold()]
            if label and (text := (match[2] if match else line).strip(" |*#")):
                found.setdefault(label, []).append(text)
    if not found:
        raise DataError(
            f"{path} defines none of {', '.join(dict.fromkeys(codes))}: write one label a line, `label: text`"
        )
    return {label: " ".join(texts) for label, texts in found.items()}


def _write_task(name: str, table: Table, guess: Guess, labels: Labels, personal: dict[str, str], choice: Choice) -> str:
    """Write task.yaml, with a word on what each part is for."""
    columns: dict[str, Any] = {"id": guess.id} if guess.id else {}
    blank = not all(map(clean_text, table.frame[guess.text]))
    columns["text"] = {"column": guess.text, "otherwise": LEAVE_OUT} if blank else guess.text
    steps: dict[str, Any] = {"map": labels.codes}
    if choice.above is not None:
        steps = {"map": {"": LEAVE_OUT}, "above": {"high": choice.above}, "otherwise": "low"}
    elif all(code == label for code, label in labels.codes.items()):
        steps = {}
    given = [guess.label] if guess.label else guess.raters
    if any(column in table.lists for column in given):
        steps = {"item": 0, "otherwise": LEAVE_OUT, **steps}
    whole = {"column": guess.label} if guess.label else {"columns": guess.raters, "majority": "true"}
    columns["label"] = {**whole, **steps} if steps or not guess.label else guess.label
    for key in ("question", "group", "time", "coder"):
        if column := getattr(guess, key):
            columns[key] = column
    if guess.subgroups:
        columns["subgroups"] = {name_code(column, 1): column for column in guess.subgroups}
    loose = {**steps, **({} if "above" in steps else {"otherwise": LEAVE_OUT})}
    if guess.raters:
        columns["raters"] = [{"column": rater, **loose} if steps else rater for rater in guess.raters]
    if roster := [column for column, kind in personal.items() if kind == "name"]:
        columns["roster"] = {"columns": roster, "join": " "}
    sources = table.origin.get("files") or table.origin["splits"]
    coded = table.frame[given].apply(lambda cells: ~cells.str.strip().str.fullmatch(NO_CODE)).any(axis=1)
    wording = [f'The question was: "{" ".join(guess.wording.split())}"'] if guess.wording else []
    lines = [
        f"name: {name}",
        f"title: {_quote('Which label does a response get?')}  # stands above the report",
        "response: response  # what one is called in a prompt, such as: student answer, customer comment",
        "licence: not stated  # of the data; the report and the model card name it",
        "citation: not stated",
        f"ordinal: {str(labels.ordinal).lower()}  # true: the labels are steps of one scale",
        "# Who answers, and to what: a sentence or two help the LLM to write such responses.",
        f"scenarios: {_quote(wording)}",
        "",
        "labels:  # of two, the last is the positive one",
    ]
    for label in labels.names:
        codes = [code for code, other in labels.codes.items() if other == label and code != label]
        lines.append(f"  - name: {_quote(label)}" + (f"  # in the file: {_quote(codes)[1:-1]}" if codes else ""))
        lines.append(f"    definition: {_quote(labels.definitions.get(label, ''))}")
    lines.insert(
        -2 * len(labels.names),
        "  # A definition says when coders give the label; the LLM then writes and grades by it,",
    )
    lines.insert(-2 * len(labels.names), "  # else by the name and by examples of the train rows alone.")
    lines += [
        "",
        "source:",
        *(f"  {key}: {_quote(value)}" for key, value in table.origin.items()),
        *([f"  unlabelled: {_quote(sources)}  # rows without a code"] if (~coded).sum() >= _UNCODED else []),
        *(["  obtain: Run `dvc pull`, or ask who made this task for the file."] if "files" in table.origin else []),
        "",
        "columns:  # docs/tasks.md has all that can be said here",
        *(f"  {key}: {_quote(value)}" for key, value in columns.items()),
    ]
    return "\n".join(lines) + "\n"


def _quote(value: Any) -> str:
    """Write a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _choose_params(params: Params, rows: TaskRows, name: str, labels: Labels) -> tuple[dict[str, Any], list[str]]:
    """Choose the sizes of the sets and the ratio, and say why."""
    test, human, validation = choose_sizes(rows.main, seed=params.split.seed)
    # Nine of ten responses that are asked for can be used.
    synthetic = 0.85 * params.synthesis.rows * len(labels.names)
    ratio = min(0.8, math.floor(100 * synthetic / (synthetic + human)) / 100)
    words = float(rows.main["text"].str.count(r"\S+").quantile(0.75))
    tokens = min(max(math.ceil(words * 4 / 3 / 16) * 16, 64), 512)
    values = {"task": name, "ratio": ratio, "human_rows": human, "split.test": test, "split.validation": validation}
    values["synthesis.max_tokens"] = tokens
    rarest = min(rows.main["label"].value_counts(normalize=True))
    width = measure_width(max(round(rarest * test), 1), test - max(round(rarest * test), 1))
    why = [
        f"human_rows {human}, split.test {test}: every coded row is used, {test / (test + human):.0%} of them to test",
        f"an AUC of {_AUC} will have a 95 % interval of about ±{width:.2f} (Hanley and McNeil, 1982)"
        + ("; only more coded rows make it narrower" if width > 0.05 else ""),
        f"ratio {ratio:g}: what `synthesis.rows: {params.synthesis.rows}` a label brings beside them",
        f"synthesis.max_tokens {tokens}: as long as three responses in four",
    ]
    return values, why


def _list_facts(
    source: Path, table: Table, frame: pd.DataFrame, guess: Guess, rows: TaskRows, personal: dict[str, str]
) -> dict[str, Any]:
    """List what was found, as `--json` prints it."""
    texts, raters = rows.main["text"], [name for name in map(str, rows.ratings) if name != "id"]
    pairs = [measure_kappa(rows.ratings[one], rows.ratings[other]) for one, other in combinations(raters, 2)]
    kappas = [kappa for kappa in pairs if kappa is not None]
    written = {key: getattr(table.source, key) for key in ("format", "encoding", "separator", "sheet")}
    used = {key: getattr(guess, key) for key in Guess.__slots__ if key not in ("doubts", "notes")}
    return {
        "file": {"path": str(source), **written, "export": table.export, "rows": len(frame)},
        "columns": used,
        "labels": {str(label): int(count) for label, count in rows.main["label"].value_counts().items()},
        "left_out": {reason: count for reason, count in rows.left_out.items() if count},
        "words": [int(size) for size in texts.str.count(r"\S+").quantile([0, 0.5, 1])],
        "languages": {language: count / len(texts) for language, count in guess_languages([*texts]).most_common(3)},
        "equal_texts": int(texts.map(fold_text).duplicated().sum()),
        "groups": int(rows.main["group"].nunique()) if "group" in rows.main else None,
        "kappa": sum(kappas) / len(kappas) if kappas else None,
        "personal": personal,
        "not_used": [name for name in map(str, frame) if name not in guess.list_used() and name not in personal],
        "notes": [*table.notes, *guess.notes, *(note.sentence for note in rows.notes)],
    }


def _show(facts: dict[str, Any], values: dict[str, Any], why: list[str], *, as_json: bool) -> None:
    """Print what was found, and what params.yaml will say."""
    if as_json:
        print(json.dumps({**facts, "params": values, "why": why}, indent=2, ensure_ascii=False))
        return
    file, columns = facts["file"], facts["columns"]
    low, middle, high = facts["words"]
    known = ", ".join(f"{language} {share:.0%}" for language, share in facts["languages"].items() if share >= 0.01)
    code = f"`{columns['label']}`" if columns["label"] else "majority of the raters"
    left = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in facts["left_out"].items())
    kappa = f", kappa {facts['kappa']:.2f}" if facts["kappa"] is not None else ""
    raters = columns["raters"] or [f"each `{columns['coder']}`"] * bool(columns["coder"])
    how = [facts["file"][key] for key in ("export", "format", "encoding", "sheet") if file[key]]
    lines = {
        "file": f"{file['path']}: {', '.join(how)}, {file['rows']:,} rows",
        "response": f"`{columns['text']}`: {middle} words ({low} to {high}); {known}",
        "label": f"{code}: {', '.join(f'{label} {count}' for label, count in facts['labels'].items())}",
        "raters": ", ".join(raters) + kappa if raters else "",
        "question": f"`{columns['question']}`" if columns["question"] else columns["wording"],
        "group": f"`{columns['group']}`: {facts['groups']} groups" if columns["group"] else "",
        "date": columns["time"],
        "subgroups": ", ".join(columns["subgroups"]),
        "left out": left,
        "equal texts": facts["equal_texts"] or "",
        "personal": ", ".join(f"`{column}` ({kind})" for column, kind in facts["personal"].items()),
        "not used": ", ".join(facts["not_used"]),
    }
    for name, value in lines.items():
        if value:
            print(f"{name:<12}{value}")
    for note in facts["notes"]:
        print(f"note        {note}")
    print("params.yaml " + "\n            ".join(why))


def measure_width(positive: int, negative: int) -> float:
    """Return half the width of the 95 % interval of an AUC of 0.85 (Hanley and McNeil, 1982)."""
    one, two = _AUC / (2 - _AUC) - _AUC**2, 2 * _AUC**2 / (1 + _AUC) - _AUC**2
    variance = _AUC * (1 - _AUC) + (positive - 1) * one + (negative - 1) * two
    return 1.96 * math.sqrt(variance / (positive * max(negative, 1)))


def _edit_params(text: str, values: dict[str, Any]) -> str:
    """Set values in the text of params.yaml; comments and all other lines stay."""
    for key, value in values.items():
        section, _, leaf = key.rpartition(".")
        start = text.index(f"\n{section}:\n") if section else 0
        pattern = re.compile(rf"^({'  ' if section else ''}{leaf}: )([^#\n]*?)( *)(#.*)?$", re.MULTILINE)
        match = pattern.search(text, start)
        if match is None:
            raise ParamsError(f"params.yaml has no line `{key}: …`: add it")
        comment = f"{' ' * max(len(match[2] + match[3]) - len(str(value)), 2)}{match[4]}" if match[4] else ""
        text = f"{text[: match.start()]}{match[1]}{value}{comment}{text[match.end() :]}"
    return text
