import pytest

from amalgam.report.sweeps import build_sweeps
from tests.unit.reporting import make_content

PARAMS = {
    **{"ratio": 0.8, "seeds": [1, 2], "judge": {"rows": 1000}, "llm": {"model": "a", "version": None}, "rate": 5e-05},
    "evaluation": {"confidence": 0.95},
}
OWN = {
    **{"ratio": "0.8", "seeds": "[1, 2]", "params.yaml:judge.rows": "1000"},
    **{"llm.model": "a", "llm.version": "", "rate": "5e-05"},
}
AUC = {"auc": 0.8, "auc_low": 0.7, "auc_high": 0.9}


def list_experiment(auc=0.5, **changes):
    metrics = {"teacher.auc": f"{auc}", "teacher.auc_low": "0.4", "metrics/models.json:teacher.auc_high": "0.6"}
    return {"Experiment": "x", "judge.rows": "7", **OWN, **metrics, **changes}


def read_sweeps(rows, params=PARAMS, **metrics):
    """Return the figures by the key of their param, and the other tables."""
    own = {"models": {"teacher": AUC}, "training": {"guard": {}}, "synthetic": {}} | metrics
    found = build_sweeps(make_content(metrics=own, params=params, experiments=rows)) or {"figures": [], "tables": []}
    return {figure.numbers.head[0]: figure for figure in found["figures"]}, found["tables"]


def list_points(figure):
    return [(x, name, auc) for x, name, (auc, _) in figure.numbers.rows]


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
    figures, tables = read_sweeps(rows)
    assert {key: list_points(figure) for key, figure in figures.items()} == {
        "judge.rows": [("10", "Teacher", "0.700"), ("1000", "Teacher", "0.800")],
        "ratio": [("0", "Teacher", "0.300"), ("0.5", "Teacher", "0.200"), ("0.8", "Teacher", "0.800")],
    }
    assert tables == []
    assert read_sweeps([]) == ({}, [])


def test_points_without_synthetic_rows_are_marked():
    guarded = {"metrics/training.json:guard.helps": "0.0"}
    rows = [
        list_experiment(0.1, ratio="0.5", **guarded),
        list_experiment(0.2, ratio="0.2", **{"teacher.guard": "False"}),
        list_experiment(0.3, ratio="0.9", **{"guard.helps": "1.0"}),
    ]
    figures, _ = read_sweeps(rows, PARAMS | {"teacher": {"guard": True}}, training={"guard": {"helps": 0}})
    left_out = "Teacher, synthetic rows left out"
    assert [(x, name) for x, name, _ in list_points(figures["ratio"])] == [
        *(("0.2", "Teacher"), ("0.5", left_out), ("0.8", left_out), ("0.9", "Teacher"))
    ]
    assert "At 0.5, 0.8 the guard left the synthetic rows out" in figures["ratio"].caption


@pytest.mark.parametrize("text", ["", "!", "<b>"])
def test_failed_experiments_leave_no_point(text):
    broken = list_experiment(ratio="0.5") | dict.fromkeys(("teacher.auc", "teacher.auc_low"), text)
    figures, _ = read_sweeps([broken, list_experiment(ratio="0.2")])
    assert [x for x, _, _ in list_points(figures["ratio"])] == ["0.2", "0.8"]


def test_what_the_rows_are_like_by_what_changed_them():
    own = {"synthetic": {"distinct_2": 0.5, "mmd": {"all": {"mmd2": 0.02}}}, "judge": {"kappa": 0.4}}
    same = {
        **{"synthetic.distinct_2": "0.5", "metrics/synthetic.json:judge.kappa": "0.4"},
        "synthetic.mmd.all.mmd2": "0.02",
    }
    rows = [
        list_experiment(rate="1e-4", **same),  # the rows are those of this run
        list_experiment(**{"params.yaml:judge.rows": "10"} | same | {"synthetic.distinct_2": "0.25"}),
        list_experiment(**{"params.yaml:judge.rows": "20"} | dict.fromkeys(same, "!")),  # it failed
    ]
    _, (table,) = read_sweeps(rows, synthetic=own)
    assert table.head == ["judge.rows", "Distinct 2-grams", "Distance (MMD²)", "Judge's kappa"]
    assert table.rows == [["10", "0.25", "0.02", "0.4"], ["1000", "0.5", "0.02", "0.4"]]
