from dataclasses import replace

import pytest

from amalgam.report.sections.sweeps import build_sweeps, tabulate_likeness
from amalgam.report.sweeps import collect_likeness, collect_sweeps
from tests.unit.reporting import make_content

PARAMS = {"ratio": 0.8, "seeds": [1, 2], "judge": {"rows": 1000}, "llm": {"model": "a", "version": None}, "rate": 5e-05}
OWN = {
    "ratio": "0.8",
    "seeds": "[1, 2]",
    "params.yaml:judge.rows": "1000",
    "llm.model": "a",
    "llm.version": "",
    "rate": "5e-05",
}
AUC = {"auc": 0.8, "auc_low": 0.7, "auc_high": 0.9}


def list_experiment(auc=0.5, **changes):
    metrics = {"teacher.auc": f"{auc}", "teacher.auc_low": "0.4", "metrics/models.json:teacher.auc_high": "0.6"}
    return {"Experiment": "x", "judge.rows": "7", **OWN, **metrics, **changes}


def test_points_differ_in_one_number_alone():
    rows = [
        list_experiment(),  # this run
        list_experiment(0.1, ratio="0.5"),
        list_experiment(0.2, ratio="0.5"),  # once more: the last one counts
        list_experiment(0.3, ratio="0"),
        list_experiment(ratio="0.2", seeds="[1]"),
        list_experiment(**{"llm.model": "b"}),
        list_experiment(0.7, **{"params.yaml:judge.rows": "10"}),
    ]
    found = collect_sweeps(rows, PARAMS, {"teacher": AUC}, {})
    assert {key: [(point["x"], point["auc"]) for point in points] for key, points in found.items()} == {
        "judge.rows": [(10, 0.7), (1000, 0.8)],
        "ratio": [(0, 0.3), (0.5, 0.2), (0.8, 0.8)],
    }
    expected = {"model": "teacher", "x": 0, "left_out": False, "auc": 0.3, "auc_low": 0.4, "auc_high": 0.6}
    assert found["ratio"][0] == expected


def test_points_without_synthetic_rows_are_marked():
    guarded = {"metrics/training.json:guard.helps": "0.0"}
    rows = [
        list_experiment(0.1, ratio="0.5", **guarded),
        list_experiment(0.2, ratio="0.2", **{"teacher.guard": "False"}),
        list_experiment(0.3, ratio="0.9", **{"guard.helps": "1.0"}),
    ]
    params = PARAMS | {"teacher": {"guard": True}}
    points = collect_sweeps(rows, params, {"teacher": AUC}, {"helps": 0})["ratio"]
    assert [(point["x"], point["left_out"]) for point in points] == [
        (0.2, False),
        (0.5, True),
        (0.8, True),
        (0.9, False),
    ]
    content = replace(make_content(), sweeps={"ratio": points})
    (figure,) = build_sweeps(content)["figures"]
    assert "At 0.5, 0.8 the guard left the synthetic rows out" in str(figure)
    assert str(figure).count("Teacher, synthetic rows left out") == 2


def test_params_that_came_later_are_passed_over():
    older = {key: value for key, value in list_experiment(ratio="0.5").items() if key != "rate"}
    assert list(collect_sweeps([older], PARAMS, {"teacher": AUC}, {})) == ["ratio"]


@pytest.mark.parametrize("text", ["", "!", "<b>"])
def test_failed_experiments_leave_no_point(text):
    row = list_experiment(ratio="0.5") | dict.fromkeys(("teacher.auc", "teacher.auc_low"), text)
    points = collect_sweeps([row], PARAMS, {"teacher": AUC}, {})["ratio"]
    assert [point["x"] for point in points] == [0.8]


def test_what_the_rows_are_like_by_what_changed_them():
    own = {"synthetic": {"distinct_2": 0.5, "mmd": {"all": {"mmd2": 0.02}}}, "judge": {"kappa": 0.4}}
    same = {
        "synthetic.distinct_2": "0.5",
        "metrics/synthetic.json:judge.kappa": "0.4",
        "synthetic.mmd.all.mmd2": "0.02",
    }
    rows = [
        list_experiment(rate="1e-4", **same),  # the rows are those of this run
        list_experiment(**{"params.yaml:judge.rows": "10"} | same | {"synthetic.distinct_2": "0.25"}),
        list_experiment(**{"params.yaml:judge.rows": "20"} | dict.fromkeys(same, "!")),  # it failed
    ]
    found = collect_likeness(rows, PARAMS, own)
    rest = {"judge.kappa": 0.4, "synthetic.mmd.all.mmd2": 0.02}
    assert found == {
        "judge.rows": [
            {"x": 10, "synthetic.distinct_2": 0.25, **rest},
            {"x": 1000, "synthetic.distinct_2": 0.5, **rest},
        ]
    }
    table = tabulate_likeness(found["judge.rows"], "judge.rows")
    assert table.head == ["Distinct 2-grams", "Distance (MMD²)", "Judge's kappa"]
    assert [[cell.text for cell in cells] for _, cells in table.rows] == [
        ["0.25", "0.02", "0.4"],
        ["0.5", "0.02", "0.4"],
    ]
