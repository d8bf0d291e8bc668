from pathlib import Path

import pytest

from amalgam.errors import DataError
from amalgam.tasks.labels import Labels, read_rubric
from amalgam.tasks.schema import load_task

TASKS = sorted(path.parent for path in (Path(__file__).parents[2] / "data" / "tasks").glob("*/task.yaml"))
SMALL = f"""
name: small
response: comment
ordinal: false
labels: [{{name: no}}, {{name: yes}}]
source:
  kind: git
  url: https://example.org/repository
  revision: {"0" * 40}
  files: [{{path: answers.csv, sha256: {"0" * 64}}}]
columns: {{label: {{column: score, map: {{0: no, 1: yes}}}}}}
"""
LABEL, KIND, FILE = "column: score, map: {0: no, 1: yes}", "  kind: git", "path: answers.csv"


def write_task(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("folder", TASKS, ids=lambda folder: folder.name)
def test_shipped_tasks_are_valid_and_their_rubrics_balanced(folder: Path) -> None:
    task = load_task(folder)
    assert len(task.label_names) == 2
    assert all(2 <= len(label.examples) <= 4 and 3 <= len(label.personas) <= 6 for label in task.labels)


def test_scalars_need_no_quotes(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path / "small", SMALL))
    assert task.label_names == ["no", "yes"]
    assert task.columns.label.map == {"0": "no", "1": "yes"}
    assert task.ordinal is False


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("response: comment", "response: ' '", ["`response`", "hold some text"]),
        ("name: small", "name: other", ["`name` is 'other'", "'small'"]),
        ("name: yes", "name: no", ["two labels have the same name"]),
        ("name: yes", "name: n\u00e9gatif", ["`labels.1.name` is 'n", "letters from a to z", "`columns.label.map`"]),
        ("name: yes", "name: leave_out", ["leave_out"]),
        (KIND, "  kind: ftp", ["`source.kind` is 'ftp'", "file, wheel, hub, git"]),
        ("0" * 40 + "\n", "main\n", ["`source.revision` is 'main'", "40 hexadecimal"]),
        (", sha256: " + "0" * 64, "", ["sha256 for answers.csv"]),
        (KIND, "  {kind: hub, repository: some/data, splits: [train]}\nother:", ["pin a `revision`"]),
        (LABEL, "column: a, columns: [b]", ["either one `column` or several"]),
        (LABEL, "column: a, otherwise: no", ["`otherwise` only with"]),
        (LABEL, "column: a, pattern: (a", ["regular expression with one group"]),
        ("name: small", "name: small\n\ttitle: x", ["line 3 is not valid YAML"]),
        ("name: small", "title: a\ntitle: b", ["line 3: the key `title` is there twice: keep one of the two"]),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, old: str, new: str, parts: list[str]) -> None:
    folder = write_task(tmp_path / "small", SMALL.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        load_task(folder)
    assert str(folder / "task.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_rubric_needs_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,It is wrong.\n1,It is right.\n", encoding="utf-8")
    labels = Labels(["no", "yes"], {"0": "no", "1": "yes"}, False)
    assert read_rubric(tmp_path / "a.csv", labels) == {"no": "It is wrong.", "yes": "It is right."}


def test_an_unknown_task_names_those_that_there_are(tmp_path: Path) -> None:
    write_task(tmp_path / "small", SMALL)
    with pytest.raises(DataError, match=r"set `task` in params\.yaml to one of small"):
        load_task(tmp_path / "other")
