"""What earlier stages counted, put together: rows, training runs, and what the LLM was asked and cost."""

from collections.abc import Mapping
from typing import Any

# By what summaries call the number of their requests.
_REQUESTS = ("completions", "requests", "rows")


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
    training = {
        model: {f"seed_{seed}": run for seed, run in of_seeds.items()} for model, of_seeds in runs.items() if of_seeds
    }
    counts = {
        "mixed": dict(sorted(mixed.items())),
        "learned": teacher["learned"],
        "held_out": teacher["held_out"],
        "grader": grader and {"rows": grader["requests"], "unparsed": grader["unparsed"]},
    }
    found = {
        "data": summaries["prepared"] | counts,
        "cost": sum_costs({"synthesis": summaries["synthesis"], "judge": summaries["judge"], "grader": grader}),
        "training": {"training": training, "guard": teacher.get("guard")},
    }
    return {name: _drop_nulls(part) for name, part in found.items()}


def sum_costs(summaries: Mapping[str, Mapping[str, Any] | None]) -> dict[str, dict[str, float]]:
    """Return requests, tokens and cost in US dollars of each kind of work, and of all together as `llm`.

    All that the run rests on counts, also what came from the journal or the cache and so cost nothing this time. A
    cost that is not known is left out, and then also that of all.

    Args:
        summaries: by kind of work, what the stage counted; None where the work was not done.
    """
    costs = {name: _read_cost(summary) for name, summary in summaries.items() if summary is not None}
    known = ("requests", "prompt_tokens", "completion_tokens", "cost_usd")
    total = {
        name: round(sum(cost[name] for cost in costs.values()), 6)
        for name in known
        if all(name in cost for cost in costs.values())
    }
    return {**costs, "llm": total}


def _read_cost(summary: Mapping[str, Any]) -> dict[str, float]:
    found = {"requests": next((summary[name] for name in _REQUESTS if name in summary), None)}
    found |= {name: summary.get(name) for name in ("prompt_tokens", "completion_tokens", "cost_usd")}
    return {name: value for name, value in found.items() if value is not None}


def _drop_nulls(value: Any) -> Any:
    """Leave out keys without a value, at every depth: DVC compares numbers only."""
    if isinstance(value, dict):
        return {name: _drop_nulls(part) for name, part in value.items() if part is not None}
    return value
