import math

import pytest

from amalgam.report.phrases import format_count, format_difference, format_number, format_share
from amalgam.report.tables.cost import tabulate_requests, tabulate_speed
from amalgam.report.tables.curves import tabulate_roc, tabulate_training
from amalgam.report.tables.groups import tabulate_subgroups
from amalgam.report.tables.models import tabulate_confusion
from amalgam.report.tables.run import flatten_values
from tests.unit.reporting import make_content


def read_cells(table):
    return {name.text: [cell.text for cell in cells] for name, cells in table.rows}


def test_numbers_as_text():
    assert format_number(-0.12345) == "\N{MINUS SIGN}0.123"
    assert format_difference(0.1) == "+0.100"
    assert format_count(1234567) == "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"
    assert [format_share(value) for value in (0.8, 0.975, 1)] == [
        f"{text}\N{NO-BREAK SPACE}%" for text in ("80", "97.5", "100")
    ]
    assert format_share(0.05, 1) == "5.0\N{NO-BREAK SPACE}%"


def test_confusion_shares_are_of_the_human_label():
    lines = [
        {"model": model, "actual": actual, "predicted": predicted}
        for model, actual, predicted in [
            *[("teacher", "no", "no")] * 3,
            ("teacher", "no", "yes"),
            ("student", "yes", "yes"),
        ]
    ]
    table = tabulate_confusion(lines, "teacher", ["no", "yes"])
    assert [[(cell.text, cell.small, cell.shade) for cell in cells] for _, cells in table.rows] == [
        [("75.0\N{NO-BREAK SPACE}%", "3", 8), ("25.0\N{NO-BREAK SPACE}%", "1", 2)],
        [("0.0\N{NO-BREAK SPACE}%", "0", 0), ("0.0\N{NO-BREAK SPACE}%", "0", 0)],
    ]


def test_nested_values_become_dotted_keys():
    values = {"ratio": 0.8, "seeds": [1, 2], "judge": {"rationale": False, "model": None}}
    assert flatten_values(values) == [
        ("ratio", "0.8"),
        ("seeds", "1, 2"),
        ("judge.rationale", "false"),
        ("judge.model", "null"),
    ]


def test_roc_is_read_between_its_points():
    rows = [{"model": "teacher", "fpr": x, "tpr": y} for x, y in [(0, 0), (0.1, 0.5), (0.3, 0.9), (1, 1)]]
    assert read_cells(tabulate_roc(rows)) == {"Teacher": ["0.25", "0.50", "0.70", "0.90", "0.93"]}


def test_losses_are_means_over_the_seeds_that_have_one():
    rows = [
        {"step": step, "seed": seed, "loss": loss, "validation_loss": 0.5}
        for step, seed, loss in [(20, 1, 0.4), (20, 2, 0.2), (10, 1, math.nan), (10, 2, math.nan)]
    ]
    assert list(read_cells(tabulate_training(rows)).items()) == [("10", ["", "0.500"]), ("20", ["0.300", "0.500"])]


def test_unknown_prices_are_called_so():
    cost = make_content().cost
    assert read_cells(tabulate_requests(cost)) == {
        "Writing responses": ["3", "12\N{NARROW NO-BREAK SPACE}345", "7", "unknown"],
        "All": ["3", "12\N{NARROW NO-BREAK SPACE}345", "7", "1.50"],
    }


def test_speed_holds_what_was_measured():
    speed = make_content().speed | {"student_int8_megabytes": 17.6}
    assert read_cells(tabulate_speed(speed)) == {
        "Teacher": ["230", "90.9"],
        "Student": ["430", "69.6"],
        "Student, int8": ["", "17.6"],
    }


@pytest.mark.parametrize("name", ["other", "<b>other</b>"])
def test_small_subgroups_are_marked(name):
    table = tabulate_subgroups({name: {"rows": 4, "small": 1}}, "school")
    assert read_cells(table) == {name: ["4", "too few rows", *[""] * 6]}
    assert len(table.rows[0][1]) == len(table.head)


def test_empty_values_stay_in_the_list():
    assert flatten_values({"llm": {"body": {}}}) == [("llm.body", "{}")]
