import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from amalgam.errors import DataError
from amalgam.tasks.schema import load_task
from tests.unit.tasks import describe_task

TASKS = sorted(path.parent for path in (Path(__file__).parents[2] / "data" / "tasks").glob("*/task.yaml"))
SMALL = describe_task(
    *("no", "yes"),
    ordinal="false",
    source={
        **{"kind": "git", "url": "https://example.org/repository", "revision": "0" * 40},
        "files": [{"path": "answers.csv", "sha256": "0" * 64}],
    },
    columns={"label": {"column": "score", "map": {"0": "no", "1": "yes"}}},
)
DROP = object()


def write_task(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    return folder


def change(keys: tuple[str | int, ...], value: object) -> dict[str, Any]:
    changed = copy.deepcopy(SMALL)
    place: Any = changed
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return {key: part for key, part in changed.items() if part is not DROP}


@pytest.mark.parametrize("folder", TASKS, ids=lambda folder: folder.name)
def test_shipped_tasks_are_valid_and_their_rubrics_balanced(folder: Path) -> None:
    task = load_task(folder)
    assert len(task.label_names) == 2
    assert all(2 <= len(label.examples) <= 4 and 3 <= len(label.personas) <= 6 for label in task.labels)


def test_scalars_need_no_quotes(tmp_path: Path) -> None:
    text = (
        yaml.safe_dump(SMALL).replace("'0':", "0:").replace("'1':", "1:").replace("'no'", "no").replace("'yes'", "yes")
    )
    task = load_task(write_task(tmp_path / "small", text))
    assert task.label_names == ["no", "yes"]
    assert task.columns.label.map == {"0": "no", "1": "yes"}
    assert task.ordinal is False


@pytest.mark.parametrize(
    ("keys", "value", "parts"),
    [
        (("source",), DROP, ["`source` is missing"]),
        (("response",), " ", ["`response`", "hold some text"]),
        (("name",), "other", ["`name` is 'other'", "'small'"]),
        (("labels", 1, "name"), "no", ["two labels have the same name"]),
        (("labels", 1, "name"), "a b", ["`labels.1.name` is 'a b'", "only letters"]),
        (("labels", 1, "name"), "n\u00e9gatif", ["letters from a to z", "`columns.label.map`"]),
        (("labels", 1, "name"), "leave_out", ["leave_out"]),
        (("prompts",), {"attributes": {"sub topic": ["x"]}}, ["`prompts.attributes.sub topic", "only letters"]),
        (("source", "kind"), "ftp", ["`source.kind` is 'ftp'", "file, wheel, hub, git"]),
        (("source", "revision"), "main", ["`source.revision` is 'main'", "40 hexadecimal"]),
        (("source", "files", 0), "answers.csv", ["sha256 for answers.csv"]),
        (("source", "files", 0, "format"), "xls", ["`source.files.0.format`", "plain_tsv", "xlsx"]),
        (("source", "files", 0, "join"), ["id"], ["start with a file that has no `join`"]),
        (("source",), {"kind": "hub", "repository": "some/data", "splits": ["train"]}, ["pin a `revision`"]),
        (("columns", "label"), {"column": "a", "columns": ["b"]}, ["either one `column` or several"]),
        (("columns", "label"), {"column": "a", "otherwise": "no"}, ["`otherwise` only beside"]),
        (("columns", "label"), {"column": "a", "pattern": "(a"}, ["regular expression with one group"]),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, keys: tuple[str | int, ...], value: object, parts: list[str]) -> None:
    folder = write_task(tmp_path / "small", yaml.safe_dump(change(keys, value)))
    with pytest.raises(DataError) as caught:
        load_task(folder)
    assert str(folder / "task.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: small\n\ttitle: x\n", "line 2 is not valid YAML"),
        ("name: small\ntitle: a\ntitle: b\n", "line 3: the key `title` stands there twice: keep one of the two"),
        ("name: small\ncolumns:\n  label: {column: x, map: {1: a, '1': b}}\n", "line 3: the key `1` stands"),
    ],
)
def test_broken_yaml_and_doubled_keys_are_named_with_the_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_task(write_task(tmp_path / "small", text))


def test_an_unknown_task_names_those_that_there_are(tmp_path: Path) -> None:
    write_task(tmp_path / "small", yaml.safe_dump(SMALL))
    with pytest.raises(DataError, match=r"set `task` in params\.yaml to one of small"):
        load_task(tmp_path / "other")
