"""The run in numbers: what earlier stages counted, and the few numbers by which a change is judged."""

from collections.abc import Mapping
from typing import Any

Parts = Mapping[str, Mapping[str, Any]]
_ENDS = ("", "_low", "_high")
_REQUESTS = ("completions", "requests", "rows")  # what summaries call the number of their requests
_COSTS = ("requests", "prompt_tokens", "completion_tokens", "cost_usd")


def gather_counts(summaries: Mapping[str, Any], mixed: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Return what metrics/data.json, metrics/cost.json and metrics/training.json hold, by their names.

    Args:
        summaries: the summary of `prepared`, `synthesis`, `judge`, `baselines`, `teacher` and `student`.
        mixed: rows of the training set by origin.
    """
    baselines, teacher, student = (summaries[name] for name in ("baselines", "teacher", "student"))
    grader = baselines.get("llm_grader")
    runs = {
        "teacher": teacher["seeds"],
        "student": student["seeds"],
        "student_undistilled": student.get("undistilled"),
        "human_only": baselines["human_only"]["seeds"],
    }
    found = {
        "data": summaries["prepared"]
        | {
            "mixed": dict(sorted(mixed.items())),
            "learned": teacher["learned"],
            "held_out": teacher["held_out"],
            "grader": grader and {"rows": grader["requests"], "unparsed": grader["unparsed"]},
        },
        "cost": sum_costs({"synthesis": summaries["synthesis"], "judge": summaries["judge"], "grader": grader}),
        "training": {
            "training": {
                model: {f"seed_{seed}": run for seed, run in of_seeds.items()}
                for model, of_seeds in runs.items()
                if of_seeds
            },
            "guard": teacher.get("guard"),
        },
    }
    return {name: _drop_nulls(part) for name, part in found.items()}


def sum_costs(summaries: Mapping[str, Mapping[str, Any] | None]) -> dict[str, dict[str, float]]:
    """Return requests, tokens and cost in US dollars of each kind of work, and of all together as `llm`.

    All that the run rests on counts, also what came from the journal or the cache and so cost nothing this time. An
    unknown cost is left out, and then also that of all. None stands for work that was not done.
    """
    costs: dict[str, dict[str, float]] = {}
    for work, summary in summaries.items():
        if summary is not None:
            requests = next((summary[name] for name in _REQUESTS if name in summary), None)
            costs[work] = _drop_nulls({name: summary.get(name) for name in _COSTS} | {"requests": requests})
    known = [name for name in _COSTS if all(name in cost for cost in costs.values())]
    return costs | {"llm": {name: round(sum(cost[name] for cost in costs.values()), 6) for name in known}}


def name_shipped(precision: str) -> str:
    """Return the name, in the other metric files, of the student whose file ships."""
    return "student_int8" if precision == "int8" else "student"


def summarise_run(files: Mapping[str, Parts], precision: str) -> dict[str, dict[str, float]]:
    """Pick the numbers of metrics/summary.json; one that the run does not have is left out.

    `student`, the file that ships: AUC with its interval, Cohen's kappa with the coders (by squared distance where
    labels have an order), the share that it keeps of the teacher's AUC above chance, the share of the rows that need
    no human and the coders' agreement there, rows a second, megabytes, and bits a weight. `teacher` and `human_only`:
    AUC. `gain`: of the teacher's AUC, paired by row and seed. `llm`: what was asked in all, and its cost. `learned`:
    rows that the teacher learned.

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
            **{f"over_human_only{end}": gain.get(f"auc{end}") for end in _ENDS},
            "over_best_baseline": gains["gain_over_best_baseline"].get("auc"),
        },
        "llm": {"requests": llm.get("requests"), "usd": llm.get("cost_usd")},
        "learned": {origin: files["data"]["learned"].get(origin) for origin in ("human", "synthetic")},
    }
    return _drop_nulls(summary)


def _pick_auc(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"auc{end}": values.get(f"auc{end}") for end in _ENDS}


def _drop_nulls(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys without a value, at every depth: DVC compares numbers only."""
    return {
        name: _drop_nulls(part) if isinstance(part, dict) else part for name, part in values.items() if part is not None
    }
