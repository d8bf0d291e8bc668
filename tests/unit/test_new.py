"""`amalgam new` and `amalgam check`: tables as people have them, and tables that nobody should have."""

import datetime
import io
import json
import os
import re
import subprocess
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from amalgam.params import load_params
from amalgam.tasks.columns import load_task_rows
from amalgam.tasks.schema import load_task
from tests.pipeline.local import LocalServer
from tests.unit.answers import DOUBTFUL_DAYS, ROWS, TWO_CODES, Amalgam, code, make_task, write_csv


@pytest.mark.parametrize(
    ("codes", "names", "ordinal", "left"),
    [
        (["0", "1"], ["code_0", "code_1"], False, 0),
        (["1", "0.0", "1.0", "0"], ["code_0", "code_1"], False, 0),
        (["3", "-1", "2", "", "-98"], ["score_minus_1", "score_2", "score_3"], True, 32),
        (["0.0", "1.0", "2.0", "-99.0"], ["score_0", "score_1", "score_2"], True, 20),
        (["\u00bd", "1\u00bd", "2"], ["score_0_5", "score_1_5", "score_2"], True, 0),
        (["1,5", "2", "N/A", "3"], ["score_1_5", "score_2", "score_3"], True, 20),
        (["50%", "100 %", "0.00 / 4"], ["score_0", "score_50", "score_100"], True, 0),
        (["TRUE", "FALSE", "unclear", "?"], ["FALSE", "TRUE"], False, 40),
        (["sehr gut", "nicht gut"], ["nicht_gut", "sehr_gut"], False, 0),
        (["correct", "Correct", "incorrect", "INCORRECT "], ["incorrect", "correct"], False, 0),
        (["a b", "a-b", "a_b", "\u00e0 b"], ["a-b", "a_b", "a_b_3", "a_b_4"], False, 0),
        (["a", "a 3", "a!"], ["a", "a_3", "a_3_3"], False, 0),
        (["z\u0142a", "Yanl\u0131\u015f"], ["zla", "Yanlis"], False, 0),
        (["\u0434\u0430", "\u0414\u0430", "\u043d\u0435\u0442"], ["label_1", "label_2"], False, 0),
        (["2210001", "2210002", "2210003"], ["score_2210001", "score_2210002", "score_2210003"], True, 0),
        (["1.1", "1.2", "1.10", "2.1"], ["1_1", "1_10", "1_2", "2_1"], False, 0),
        (["+", "-", "0"], ["0", "minus", "plus"], False, 0),
        (["good", "poor", "-"], ["good", "poor"], False, 26),
        (["present", "missing", "partial"], ["missing", "partial", "present"], False, 0),
    ],
)
def test_every_code_gets_a_name(codes: list[str], names: list[str], ordinal: bool, left: int, amalgam: Amalgam) -> None:
    found = make_task(amalgam, code(codes))
    assert sorted(found["order"]) == sorted(names)
    assert found["ordinal"] == ordinal
    assert found["left_out"].get("no_label", 0) == left
    assert ordinal is False or found["order"] == names


RARE = code([*(["good", "bad"] * 18), *"wxyz"])
TWO_RARE = code([*(["good", "bad"] * 18), "Other", *"xyz"])


@pytest.mark.parametrize(
    ("content", "flags", "labels", "left"),
    [
        (code([f"{place},5" if place % 10 else "" for place in range(70)]), "--above 34.5", {"low": 40, "high": 32}, 8),
        (code(["0.2", "0.9", "-99", "nan"]), "--above 0.5", {"low": 20, "high": 20}, 40),
        (code(["40", "99", "80", "-99"]), "--above 50", {"low": 20, "high": 40}, 20),
        (RARE, "--merge-rare 5", {"good": 36, "bad": 36, "other": 8}, 0),
        (RARE, "--drop-rare 5", {"good": 36, "bad": 36}, 8),
        (RARE, "--merge-rare 5 --drop-rare 3", {"good": 36, "bad": 36}, 8),
        (RARE, "--merge-rare 5 --drop-rare 2", {"good": 36, "bad": 36, "other": 8}, 0),
        (TWO_RARE, "--merge-rare 5", {"good": 36, "bad": 36, "Other": 8}, 0),  # `Other` is rare as well
    ],
)
def test_flags_decide_what_the_labels_are(
    content: str, flags: str, labels: dict[str, int], left: int, amalgam: Amalgam
) -> None:
    found = make_task(amalgam, content, "--label", "code", *flags.split())
    assert found["labels"] == labels
    assert {*found["order"]} == {*labels}
    assert found["left_out"] == ({"no_label": left} if left else {})


def test_labels_that_stay_too_rare_are_refused_with_the_flag_that_helps(amalgam: Amalgam) -> None:
    Path("a.csv").write_text(code([*(["good", "bad"] * 39), "x", "y"]), encoding="utf-8")
    error = amalgam("new", "other", "--from", "a.csv", "--merge-rare", "5")[2]
    assert "`other` in `code` has 2 rows, which is too few to learn: --drop-rare 5 leaves out" in error
    assert "--merge-rare" not in error


def test_what_coders_say_becomes_a_majority(amalgam: Amalgam) -> None:
    bare = pd.DataFrame(ROWS).drop(columns="code")
    codes = pd.Series([row["code"] for row in ROWS])
    other = codes.map({"complaint": "praise", "praise": "complaint"})

    def make(*flags: str, **columns: Any) -> dict[str, Any]:
        return make_task(amalgam, bare.assign(**columns).to_csv(index=False), *flags)

    first = codes.index < 6  # here, two disagree and the third said nothing
    flags = ["--rater", "A", "--rater", "B", "--rater", "C"]
    found = make(*flags, A=codes, B=codes.where(~first, other), C=codes.where(~first, ""))
    assert (found["left_out"], found["labels"]) == ({"no_label": 6}, {"complaint": 37, "praise": 37})
    raters = {"rater_1": codes, "rater_2": codes}
    found = make(code=codes, **raters)["columns"]
    assert (found["label"], found["raters"]) == ("code", [*raters])
    assert make(coder_1=codes)["columns"]["label"] == "coder_1"
    assert make("--yes", hand_code=codes, gpt_label=other)["columns"]["label"] == "hand_code"
    assert make(**raters)["columns"]["label"] == ""
    numbers = codes.map({"complaint": "0", "praise": "1"})  # the second as pandas writes them next to an empty cell
    raters = {"rater_1": numbers, "rater_2": (numbers + ".0").where(numbers.index > 0, "")}
    found = make(**raters)
    assert (found["columns"]["raters"], found["kappa"]) == ([*raters], 1.0)
    found = make(**raters, final=numbers)
    assert (found["columns"]["label"], found["kappa"]) == ("final", 1.0)
    settled = {"coder_1": codes, "coder_2": codes.where(~first, other), "adjudicated": codes.where(first, "")}
    found = make(**settled)
    assert (found["columns"]["raters"], found["left_out"]) == ([*settled], {})
    odd = codes.where(codes.index > 2, "odd")
    bare.assign(rater_1=odd, rater_2=odd).to_csv("a.csv", index=False)
    assert "`odd` in `rater_1` has the majority in 3 rows" in amalgam("new", "other", "--from", "a.csv")[2]


def test_traits_of_a_text_are_not_taken_for_raters(amalgam: Amalgam) -> None:
    traits = [{"text": row["text"], "content score": row["code"], "style score": row["code"]} for row in ROWS]
    found = make_task(amalgam, write_csv(traits), "--yes")
    assert (found["columns"]["label"], found["columns"]["raters"]) == ("content score", [])
    assert "if they are raters of the same thing, name each with --rater" in found["notes"][0]
    assert "may be in `content score` or `style score`" in amalgam("new", "other", "--from", "a.csv")[2]


@pytest.mark.parametrize(
    ("texts", "codes"),
    [
        (["Q1", "Q2"], ["Q1_code", "Q2_code"]),
        (["Q1", "Q2"], ["class", "Q2_score"]),
        (["Item 1 response", "Item 2 response"], ["Item 1 code", "Item 2 code"]),
        (["Why?", "Why was it so good?"], ["Total score", "Points - Why was it so good?"]),
    ],
)
def test_of_several_answers_each_has_its_own_code(texts: list[str], codes: list[str], amalgam: Amalgam) -> None:
    names = [*texts, *codes]
    rows = [
        dict(zip(names, [f"To {row['guest']}", row["text"], "xy"[place // 3 % 2], row["code"]], strict=True))
        for place, row in enumerate(ROWS)
    ]
    found = make_task(amalgam, write_csv(rows), "--text", texts[1])
    assert (found["columns"]["label"], found["columns"]["question"]) == (codes[1], "")


def test_raters_of_another_answer_are_not_raters_of_this_one(amalgam: Amalgam) -> None:
    codes, raters = pd.DataFrame(ROWS)["code"], ["r1_Q2", "r2_Q2"]
    first = dict.fromkeys(["r1_Q1", "r2_Q1"], codes.shift(1, fill_value="praise"))
    frame = pd.DataFrame(ROWS).rename(columns={"text": "Q2", "guest": "Q1"}).drop(columns="code")
    found = make_task(amalgam, frame.assign(**first, **dict.fromkeys(raters, codes)).to_csv(index=False))
    assert (found["columns"]["raters"], found["kappa"]) == (raters, 1.0)


def test_texts_that_nobody_coded_are_kept_and_empty_ones_left_out(amalgam: Amalgam) -> None:
    coded = [{**row, "question": "How was it?"} for row in ROWS]
    for row in coded[:31]:
        row["code"] = ""
    coded[50]["text"] = coded[51]["text"] = "\u200b "
    found = make_task(amalgam, write_csv(coded))
    assert found["left_out"] == {"no_text": 2, "no_label": 31}
    assert found["task"].scenarios == ['The question was: "How was it?"']
    rows = load_task_rows(found["task"], Path("data/tasks/mine"), Path())
    assert len(rows.unlabelled) == 78
    assert [one.partition(":")[0] for one in found["why"] if "uncoded" in one] == ["31 uncoded responses"]
    coded += [{**ROWS[0], "id": f"n{number}", "text": f"Text {number}.", "code": ""} for number in range(30)]
    assert not any("uncoded" in sentence for sentence in make_task(amalgam, write_csv(coded))["why"])


def test_several_codes_at_once_are_pointed_out(amalgam: Amalgam) -> None:
    found = make_task(amalgam, code(["a;b", "a", "b"]))
    assert found["labels"] == {"a": 27, "b": 26, "a_b": 27}
    assert "'a;b' looks like several codes at once" in found["notes"][0]
    mixed = [{**row, "code": {"choices": [*"ab"]} if place % 3 else "ab"[place % 2]} for place, row in enumerate(ROWS)]
    assert make_task(amalgam, json.dumps(mixed), name="a.json")["labels"] == {"a_b": 53, "a": 14, "b": 13}
    for no, yes in ("01", ("Unchecked", "Checked")):
        parts = [
            {"text": row["text"], **dict.fromkeys("abc", no), "abc"[place % 3]: yes} for place, row in enumerate(ROWS)
        ]
        found = make_task(amalgam, write_csv(parts), "--yes")
        assert f"one of `a`, `b`, `c` is {yes} in every row" in found["notes"][0]


DAYS = [datetime.datetime(2025, 1, 3, 14, 5) + datetime.timedelta(days=4 * number) for number in range(80)]


@pytest.mark.parametrize(
    ("name", "form"),
    [("when", "%d.%m.%Y"), ("when", "%d %b %Y"), ("submitted", "%s")],
)
def test_dates_are_found_in_the_usual_forms(name: str, form: str, amalgam: Amalgam) -> None:
    rows = [{**row, name: day.strftime(form)} for row, day in zip(ROWS, DAYS, strict=True)]
    found = make_task(amalgam, write_csv(rows))
    assert found["columns"]["time"] == name
    times = load_task_rows(found["task"], Path("data/tasks/mine"), Path()).main["time"]
    assert [time[:10] for time in times] == [f"{day:%Y-%m-%d}" for day in DAYS]


def test_what_programs_add_is_taken_for_nothing_else(amalgam: Amalgam) -> None:
    rows = [
        {
            "Student Response Type": "ATTEMPT",
            "Duration": str(200 + number),
            "turn": str(number % 4),
            "Uhrzeit": f"09:{number % 25:02}:00",
            "team": "AB"[number % 2],  # two groups cannot fill three sets
            "StartDate": f"{day:%Y-%m-%d}",
            "EndDate": f"{day:%Y-%m-%d}",
            "ResponseId": f"R{number}",
            "Input": row["text"],
            "move": row["code"],
        }
        for number, (row, day) in enumerate(zip(ROWS, DAYS, strict=True))
    ]
    found = make_task(amalgam, write_csv(rows))
    wanted = {"text": "Input", "label": "move", "id": "ResponseId", "time": "StartDate", "group": ""}
    assert {key: found["columns"][key] for key in wanted} == wanted
    assert found["notes"] == ["dates are also in `EndDate`: use --time for another"]
    assert "the day cannot be told from the month" in make_task(amalgam, DOUBTFUL_DAYS)["notes"][0]


def test_an_id_of_persons_with_several_rows_is_their_group_and_merged_questions_are_noted(amalgam: Amalgam) -> None:
    rows = [
        {**row, "id": str(number // 4), "question": "" if number % 4 else f"How was day {number}?"}
        for number, row in enumerate(ROWS)
    ]
    found = make_task(amalgam, write_csv(rows), "--yes")
    assert (found["columns"]["id"], found["columns"]["group"], found["groups"]) == ("", "id", 20)
    assert "`question` is empty in most rows: if its cells were merged" in found["notes"][0]


def test_params_keep_their_comments_and_a_task_is_not_replaced_unasked(amalgam: Amalgam) -> None:
    before = Path("params.yaml").read_text("utf-8").replace("\nsplit:\n", "\nsplit:  # of the rows\n")
    Path("params.yaml").write_text(before, encoding="utf-8")
    make_task(amalgam, write_csv(ROWS))
    after = Path("params.yaml").read_text("utf-8")
    changed = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert {new.split(":")[0].strip() for _, new in changed} == {"task", "ratio", "human_rows", "test", "max_tokens"}
    assert all(old.partition("#")[2] == new.partition("#")[2] for old, new in changed)
    assert amalgam("new", "mine", "--from", "a.csv")[2].startswith("amalgam: data/tasks/mine exists already")
    kept = {Path("data/tasks/mine", name): name for name in ("coded.csv", "coded.csv.dvc", "a.csv.dvc", ".gitignore")}
    for path, text in kept.items():  # what people coded, and what DVC wrote
        path.write_text(text, encoding="utf-8")
    out = amalgam("new", "mine", "--from", "a.csv", "--force")[1]
    assert {path: path.read_text("utf-8") for path in kept} == kept
    ((best, fast),) = re.findall(r"training takes about (\d+) min with `quality: best` and (\d+) min", out)
    assert int(fast) < int(best)
    assert "split.seed=1,2,3,4" in out  # the test set is small
    assert amalgam("new", "../mine", "--from", "a.csv")[2].startswith("amalgam: '../mine' cannot be the name")
    assert amalgam("new", "2024", "--from", "a.csv")[0] == 0
    assert load_params(Path("params.yaml")).task == "2024"


def test_a_terminal_is_asked_where_two_answers_are_possible(amalgam: Amalgam, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.csv").write_bytes(TWO_CODES.encode())
    monkeypatch.setattr("sys.stdin", terminal := io.StringIO("2\n"))
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    exit_code, out, err = amalgam("new", "mine", "--from", "a.csv")
    assert exit_code == 0, err
    assert "1  code  (for example 'complaint')" in out
    assert load_task(Path("data/tasks/mine")).label_names == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rubric.md", "# Rubric\n\n- **Complaint**: Something is\n  criticised.\n\n## praise\nAll is well.\n"),
        ("rubric.csv", "code,meaning\ncomplaint,Something is criticised.\npraise,All is well.\n"),
    ],
)
def test_a_rubric_gives_definitions(name: str, text: str, amalgam: Amalgam) -> None:
    Path(name).write_text(text, encoding="utf-8")
    task = make_task(amalgam, write_csv(ROWS), "--rubric", name)["task"]
    assert [label.definition for label in task.labels] == ["Something is criticised.", "All is well."]
    assert amalgam("check", "mine") == (0, "mine: 80 coded rows, and nothing to fix\n", "")


def test_check_lists_all_faults_at_once(amalgam: Amalgam) -> None:
    rows = [{**row, "rater1": row["code"], "rater2": "praise"} for row in ROWS]
    make_task(amalgam, write_csv(rows), "--group", "")
    bad = [dict(row) for row in rows]
    bad[0]["code"], bad[1]["code"], bad[2]["text"], bad[3]["id"] = "odd", "", "", bad[4]["id"]
    bad[5]["text"] = bad[6]["text"]
    bad[7]["text"] = "on and on " * 150
    for row in bad[20:30]:
        row["text"] = f"<p>{row['text']}</p>"
    Path("data/tasks/mine/a.csv").write_text(write_csv(bad[:6]), encoding="utf-8")
    Path("data/tasks/mine/b.csv").write_text(write_csv(bad[6:]), encoding="utf-8")
    task = Path("data/tasks/mine/task.yaml")
    task.write_text(re.sub(r"files: .*", "files: [a.csv, b.csv]", task.read_text("utf-8")), encoding="utf-8")
    assert "    a.csv, row 7; b.csv, row 2\n" in amalgam("check", "mine")[1]
    exit_code, out, _ = amalgam("check", "mine", "--json")
    assert exit_code == 2
    found = [(each["level"], each["sentence"], each["rows"]) for each in json.loads(out)]
    expected = [
        ("error", "the id 'c004' is in both", ["a.csv, row 5", "a.csv, row 6"]),
        ("error", "has no text", ["a.csv, row 4"]),
        ("error", "has the label 'odd'", ["a.csv, row 2"]),
        ("error", "has no label", ["a.csv, row 3"]),
        ("warning", "their text also has another label", ["a.csv, row 7", "b.csv, row 2"]),
        ("warning", "rater1 and rater2 disagree on 40 rows", None),
        ("warning", "`guest` repeats", []),
        ("warning", "10 texts contain HTML tags", None),
        ("warning", "have no definition", []),
    ]
    for (level, words, places), (one, sentence, rows_of_it) in zip(expected, found, strict=True):
        assert level == one
        assert words in sentence
        assert places is None or places == rows_of_it


class Hub(BaseHTTPRequestHandler):
    """A model hub that has one file of one data set."""

    def do_GET(self) -> None:  # the name that the library asks for
        about = {"id": "me/bakery", "sha": "1" * 40, "siblings": [{"rfilename": "train.csv"}], "tags": []}
        replies = {
            "train.csv": write_csv(ROWS),
            "/tree/": json.dumps([{"type": "file", "path": "train.csv", "oid": "1", "size": 1}]),
            "/api/datasets/me/bakery": json.dumps(about | {"private": False, "downloads": 0}),
        }
        content = next((reply for part, reply in replies.items() if part in self.path), "").encode()
        self.send_response(200 if content else 404)
        kind = "text/csv" if self.path.endswith(".csv") else "application/json"
        heads = {"Content-Type": kind, "ETag": '"1"', "X-Repo-Commit": "1" * 40, "Content-Length": str(len(content))}
        for name, value in (heads if content else {**heads, "X-Error-Code": "EntryNotFound"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    do_HEAD = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


def test_a_split_of_the_hub_becomes_a_task_and_offline_it_is_one_sentence(amalgam: Amalgam, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from amalgam.cli import main; main()", "new", "mine", "--force", "--from"]
    paths = {"HF_HOME": str(tmp_path / "hub"), "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with LocalServer(("127.0.0.1", 0), Hub) as server:
        server.start()
        environment = os.environ | paths | {"HF_ENDPOINT": server.url.removesuffix("/v1"), "HF_HUB_OFFLINE": "0"}
        run = partial(subprocess.run, env=environment, capture_output=True, text=True)
        made = run([*command, "hub:me/bakery:train"])
    assert made.returncode == 0, made.stderr
    assert "complaint 40, praise 40" in made.stdout
    source = load_task(Path("data/tasks/mine")).source
    assert (source.kind, source.revision) == ("hub", "1" * 40)  # type: ignore[union-attr]
    failed = run([*command, "hub:me/bakery:train"])
    assert (failed.returncode, failed.stderr.count("\n")) == (2, 1), failed.stderr
    assert "no connection" in failed.stderr
