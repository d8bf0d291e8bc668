import pytest

from amalgam.report.sweeps import collect_sweeps

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
    found = collect_sweeps(rows, PARAMS, {"teacher": AUC})
    assert {key: [(point["x"], point["auc"]) for point in points] for key, points in found.items()} == {
        "judge.rows": [(10, 0.7), (1000, 0.8)],
        "ratio": [(0, 0.3), (0.5, 0.2), (0.8, 0.8)],
    }
    assert found["ratio"][0] == {"model": "teacher", "x": 0, "auc": 0.3, "auc_low": 0.4, "auc_high": 0.6}


def test_params_that_came_later_are_passed_over():
    older = {key: value for key, value in list_experiment(ratio="0.5").items() if key != "rate"}
    assert list(collect_sweeps([older], PARAMS, {"teacher": AUC})) == ["ratio"]


@pytest.mark.parametrize("text", ["", "!", "<b>"])
def test_failed_experiments_leave_no_point(text):
    row = list_experiment(ratio="0.5") | dict.fromkeys(("teacher.auc", "teacher.auc_low"), text)
    points = collect_sweeps([row], PARAMS, {"teacher": AUC})["ratio"]
    assert [point["x"] for point in points] == [0.8]
