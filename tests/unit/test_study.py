"""The grid of a study, the keys of its cells, its engine and its report."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from amalgam.cli.status import run_status
from amalgam.errors import DataError
from amalgam.evaluation.bootstrap import Estimate
from amalgam.files import read_json, write_json, write_rows
from amalgam.params import load_params, load_section
from amalgam.study import cells
from amalgam.study.engine import Board, Store, run_jobs
from amalgam.study.grid import PRESETS, Cell, Data, Study, expand_grid
from amalgam.study.results import Point, list_findings, list_points, tabulate_points
from tests.pipeline.toy import LABELS, make_rows
from tests.unit.training import TEACHER

ROOT = Path(__file__).parents[2]
PARAMS = load_params(ROOT / "params.yaml")
FILE = load_section(ROOT / "study/params.yaml", Study)


def expand(**changes: Any) -> dict[Cell, Any]:
    return expand_grid(Study(**FILE.model_dump() | changes), PARAMS)


def test_the_file_asks_for_what_the_readme_promises() -> None:
    found = expand()
    assert {name for names in found.values() for name in names} == {"size", "variety", "consistency"}
    assert len(found) < 40
    assert all({cell.twin for cell in expand(preset=preset)} <= {*expand(preset=preset)} for preset in PRESETS)
    first = list(found)[:3]  # the human-only teachers, one a seed
    assert [cell.twin for cell in first] == first
    assert all(found[cell] == ["size", "variety", "consistency"] for cell in first)


def test_a_value_more_is_a_cell_a_seed_more_of_the_experiments_that_vary_it_or_else_of_all() -> None:
    before, after = (expand(preset="size", ratios=ratios) for ratios in ([0.2, 0.8], [0.2, 0.5, 0.8]))
    assert [cell.ratio for cell in set(after) - set(before)] == [0.5] * len(FILE.seeds)
    assert set(before) <= set(after)
    quick = expand(temperatures=[0.1, 0.2])
    assert {cell.temperature for cell in quick if quick[cell] == ["variety"]} == {0.1, 0.2}
    assert {cell.temperature for cell in quick if quick[cell] == ["size"]} == {0.7}
    assert {cell.human_rows for cell in expand(human_rows=[20, 30])} == {20, 30}


ROWS = pd.DataFrame(make_rows(200)).assign(question="", group="")
DATA = Data(ROWS[:20], ROWS[20:24], ROWS[24:60])
POOL = ROWS[60:].assign(shots="", reason="").reset_index(drop=True)
CELL = Cell("toy", "random", 24, "amalgam", 1, ratio=0.5, llm="stub", temperature=0.7, filter="none")


def list_parts(pool: pd.DataFrame | None = POOL, steps: int = 8, **changes: Any) -> dict[str, cells.Part]:
    section = TEACHER.model_copy(update={"min_validation_rows": 60, "recipe": "paper", "steps": steps})
    return cells.list_parts(replace(CELL, **changes), DATA, pool, list(LABELS), section, 1)


def name_parts(encoder: str = "e", **changes: Any) -> dict[str, str]:
    return {name: cells.name_part(part, encoder) for name, part in list_parts(**changes).items()}


def test_cells_share_what_is_the_same() -> None:
    keys = name_parts()
    assert name_parts(temperature=0.1) == keys  # what was learned counts, not how it was made
    assert name_parts(pool=pd.concat([POOL, POOL.assign(text="x")], ignore_index=True)) == keys
    twin = name_parts(pool=None)
    assert (twin["contrast"], len(twin)) == (keys["contrast"], 2)
    assert twin["entropy"] != keys["entropy"]
    assert not {*name_parts(ratio=1.0).values()} & {keys["contrast"], keys["entropy"]}
    for change in ({"seed": 2}, {"pool": POOL.assign(text=POOL["text"] + "!")}, {"encoder": "f"}, {"steps": 99}):
        assert name_parts(**change)["entropy"] != keys["entropy"], change


def test_cells_have_the_recipe_and_the_split_of_the_pipeline_unless_the_preset_sets_them() -> None:
    teacher = PARAMS.teacher.model_copy(update={"recipe": "paper"})
    split = PARAMS.split.model_copy(update={"by": "time"})
    changed = PARAMS.model_copy(update={"teacher": teacher, "split": split})
    assert {(cell.recipe, cell.split) for cell in expand_grid(FILE, changed)} == {("paper", "time")}
    found = {name: list_parts(recipe=name) for name in ("amalgam", "paper", "protocol")}
    assert ["contrast" in parts for parts in found.values()] == [True, False, False]
    recipes = [parts["entropy"].teacher.recipe for parts in found.values()]
    assert [*recipes, found["amalgam"]["contrast"].teacher.recipe] == ["amalgam", "paper", "paper", "amalgam"]
    assert found["paper"]["entropy"].held_out is None  # only the authors let test rows choose
    assert found["protocol"]["entropy"].held_out is DATA.test


def test_the_contrastive_member_has_the_steps_of_the_human_rows_at_every_ratio() -> None:
    some, alone = (list_parts(ratio=ratio)["contrast"] for ratio in (CELL.ratio, 1.0))
    assert (some.taught, set(some.learned["origin"])) == (None, {"human"})
    assert (alone.taught, set(alone.learned["origin"])) == (len(some.learned), {"synthetic"})


def test_a_ratio_that_the_pool_cannot_fill_is_a_fault() -> None:
    with pytest.raises(DataError, match=r"needs 108 .+ .complaint., but curation kept 70: raise `synthesis\.rows`"):
        list_parts(ratio=0.9)
    with pytest.raises(DataError, match="could not confirm the label of 70 of 70"):
        list_parts(pool=POOL.assign(reason="inconsistent"))


def square(_encoder: Path, number: int) -> dict[str, int]:
    if number == 3:
        raise ValueError("three is\nimpossible")
    time.sleep(0.05)
    return {"square": number**2}


def run(ray: str | None = None) -> Iterator[tuple[str, Any]]:
    return run_jobs([f"{number}" for number in range(40)], lambda key: (int(key),), square, ROOT / "bench", ray)


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_which_a_node_is_lost_computes_what_one_process_does_but_for_a_job_that_fails() -> None:
    expected: dict[str, Any] = {f"{number}": {"square": number**2} for number in range(40)}
    expected["3"] = "ValueError: impossible"
    assert dict(run()) == expected
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Workers import this module by its name.
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]), "RAY_DISABLE_MEMORY_MONITOR": "1"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    lost = cluster.add_node(num_cpus=1)
    try:
        ray.init(cluster.address, runtime_env={"env_vars": environment}, log_to_driver=False)
        found: dict[str, Any] = {}
        for key, one in run("auto"):
            found[key] = one
            if len(found) == 5:
                cluster.remove_node(lost, allow_graceful=False)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert found == expected


def test_a_result_of_another_experiment_of_the_clone_is_taken_over(tmp_path: Path) -> None:
    Store(tmp_path / "a", tmp_path / "shared").write("abc", {"x": 1})
    other = Store(tmp_path / "b", tmp_path / "shared")
    assert (other.has("other"), other.has("abc"), other.read("abc")) == (False, True, {"x": 1})
    assert (tmp_path / "b/ab/abc.json").is_file()


def test_the_status_of_a_long_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ".cache/study.json"
    board = Board(path, [frozenset("a"), frozenset("b")], {"a": "first", "b": "second"})
    board.begin("a")
    board.end("a")
    board.begin("b")
    for minutes, silent in ((5, False), (11, True)):
        status, past = read_json(path), time.time() - 60 * minutes
        write_json(path, status | {"running": dict.fromkeys(status["running"], past), "written": past})
        run_status(tmp_path, as_json=False)
        shown = capsys.readouterr().out
        assert re.search(rf"second +running for {6 * minutes}\d s", shown), shown
        assert ("no update" in shown) == silent


def test_a_ratio_and_a_number_of_rows_that_are_the_same_mix_are_one_point(tmp_path: Path) -> None:
    grid = [replace(one, seed=seed) for one in (CELL, replace(CELL, ratio=0.0, rows=24)) for seed in (1, 2)]
    table = pd.DataFrame([asdict(cell) for cell in (*grid, *(cell.twin for cell in grid[:2]))])
    table["synthetic"] = 24 * (table["llm"] != "")
    table["ratio"] = table["synthetic"] / 48
    table["entropy_key"] = table["llm"] + "-" + table["seed"].astype(str)
    table = table.assign(experiments="size", fault="", contrast_key="", guard_helps=1.0)
    write_rows(tmp_path / CELL.data / "test.csv", DATA.test)
    store = Store(tmp_path / "a", tmp_path / "b")
    for key in table["entropy_key"]:
        store.write(key, {"probabilities": np.random.default_rng(1).random((len(DATA.test), 2)).tolist()})
    (point,) = list_points(table, tmp_path, store, {"toy": list(LABELS)})
    assert (point.x, len(point.auc.points), len(point.twin.points)) == (0.5, 2, 2)


def make_point(experiment: Any, x: Any, auc: float, spread: float = 0.002, task: str = "t") -> Point:
    """Make a point of three seeds, with human rows alone at 0.8; test rows hardly matter."""
    draw = np.random.default_rng(round(auc * 1000))

    def estimate(value: float, between: float) -> Estimate:
        points = value + np.array([-between, 0.0, between])
        return Estimate(points, points + draw.normal(0, 0.001, (200, 1)), 500, (0.0, 1.0))

    return Point(experiment, task, "", x, estimate(auc, spread), estimate(0.8, spread / 2), 1.0)


def test_findings_say_what_holds_what_does_not_and_what_cannot_be_told() -> None:
    points = [
        *(make_point("size", ratio, auc) for ratio, auc in ((0.2, 0.82), (0.8, 0.9))),
        *(make_point("variety", temperature, auc) for temperature, auc in ((0.3, 0.8), (0.9, 0.85))),
        *(make_point("consistency", name, auc) for name, auc in (("none", 0.85), ("judge", 0.84))),
        *(make_point("scarcity", rows, auc, spread) for rows, auc, spread in ((10, 0.85, 0.09), (500, 0.83, -0.09))),
    ]
    found = {finding.experiment: finding for finding in list_findings(points, 0.95)}
    verdicts = {"size": "holds here", "variety": "does not hold here"}
    verdicts |= {"consistency": "holds here", "scarcity": "inconclusive"}
    assert {name: finding.verdict for name, finding in found.items()} == verdicts
    assert found["size"].value == pytest.approx(0.1)
    words = "80 % synthetic rows give a higher AUC than human rows alone: holds here (+0.100"
    assert str(found["size"]).startswith(words)
    # Over several tasks a finding is about their mean.
    points = [make_point("size", 0.8, auc, task=task) for task, auc in (("a", 0.9), ("b", 0.7), ("c", 0.82))]
    (several,) = list_findings(points, 0.95)
    assert (several.tasks, several.verdict, several.value) == (3, "inconclusive", pytest.approx(0.02 / 3))
    # A task counts once: its lines are averaged, and of two shares near 80 % the nearer one is taken.
    second = [replace(make_point("size", x, auc, task="a"), series="b") for x, auc in ((0.8, 0.96), (0.797, 0.7))]
    (several,) = list_findings([*points, *second], 0.95)
    assert (several.tasks, several.value) == (3, pytest.approx(0.05 / 3))


def test_a_table_of_points_has_corrected_differences_and_who_wins() -> None:
    points = [make_point("size", ratio, auc) for ratio, auc in ((0.2, 0.82), (0.8, 0.9), (1.0, 0.7))]
    table = tabulate_points(points, 0.95)
    assert list(table["gain"]) == pytest.approx([0.02, 0.1, -0.1], abs=1e-4)
    assert list(table["wins"]) == [0, 1, 0]
    assert (table["p_corrected"] >= table["p"]).all()
    assert (table["gain_low"] < table["gain"]).all()
    # Each number of human rows has its own twin, and all are rivals; on other test rows, nothing is the best.
    line = [make_point("scarcity", 10, 0.75), replace(make_point("scarcity", 200, 0.86), twin=points[1].auc)]
    assert list(tabulate_points(line, 0.95)["wins"]) == [0, 0]
    assert tabulate_points([make_point("time", name, 0.9) for name in ("random", "time")], 0.95)["wins"].isna().all()
