"""The run at a glance: the few numbers of metrics/summary.json, which `dvc metrics diff` and `dvc exp show` list."""

from collections.abc import Mapping
from typing import Any

Parts = Mapping[str, Mapping[str, Any]]
_INTERVAL = ("", "_low", "_high")


def name_shipped(precision: str) -> str:
    """Return the name, in the other metric files, of the student whose file ships."""
    return "student_int8" if precision == "int8" else "student"


def summarise_run(files: Mapping[str, Parts], precision: str) -> dict[str, dict[str, float]]:
    """Pick the numbers by which a change is judged; one that the run does not have is left out.

    All but the last two sections are measured on the test rows. `_low` and `_high` are the ends of an interval.

    `student`, which is the file that ships:
        `auc`: area under the ROC curve, with its interval.
        `kappa`: Cohen's kappa with the coders, by squared distance where the labels have an order.
        `retention`: the share that it keeps of the teacher's AUC above chance.
        `coverage`: the share of the rows that need no human.
        `agreement`: the share of these in which the coders agree with it.
        `rows_per_second`: the rate of scoring, on the machine that measured it.
        `megabytes`: the size of its weights.
        `bits`: what a weight takes, 8 or 32.
    `teacher`, `human_only`:
        `auc`: as above; the teacher, and its twin that saw no synthetic row.
    `gain`, of the teacher's AUC, paired by row and seed:
        `over_human_only`: with its interval; the report's verdict rests on it.
        `over_best_baseline`: over the best of the twin and all baselines.
    `llm`:
        `requests`: what was asked in all, also where the answer was there already.
        `usd`: what they cost in US dollars.
    `learned`:
        `human`, `synthetic`: how many rows of each origin the teacher learned.

    Args:
        files: the contents of models, comparisons, selective, speed, cost and data.json in metrics/, by these names.
        precision: of the file that ships, `int8` or `float32`.
    """
    models, gains, shipped = files["models"], files["comparisons"], name_shipped(precision)
    student, gain = models[shipped], gains["gain_over_human_only"]
    alone, llm = files["selective"].get("selective", {}), files["cost"].get("llm", {})
    summary = {
        "student": {
            **_pick_auc(student),
            "kappa": student.get("quadratic_kappa", student.get("kappa")),
            "retention": gains.get("retention", {}).get("auc_above_chance"),
            "coverage": alone.get("coverage"),
            "agreement": alone.get("agreement"),
            "rows_per_second": files["speed"].get(f"{shipped}_rows_per_second"),
            "megabytes": files["speed"].get(f"{shipped}_megabytes"),
            "bits": 8 if precision == "int8" else 32,
        },
        "teacher": _pick_auc(models["teacher"]),
        "human_only": _pick_auc(models["human_only"]),
        "gain": {
            **{f"over_human_only{end}": gain.get(f"auc{end}") for end in _INTERVAL},
            "over_best_baseline": gains["gain_over_best_baseline"].get("auc"),
        },
        "llm": {"requests": llm.get("requests"), "usd": llm.get("cost_usd")},
        "learned": {origin: files["data"]["learned"].get(origin) for origin in ("human", "synthetic")},
    }
    return {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in summary.items()
    }


def _pick_auc(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"auc{end}": values.get(f"auc{end}") for end in _INTERVAL}
