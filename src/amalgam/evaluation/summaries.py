"""What earlier stages counted, in the form of the metrics files: nested, no nulls, no name twice."""

from typing import Any

_TOKENS = ("prompt_tokens", "completion_tokens")


def summarise_data(prepared: dict[str, Any], mixed: dict[str, int]) -> dict[str, Any]:
    """Join the counts of the human rows with those of the mix (rows by origin), as metrics/data.json holds them."""
    summary: dict[str, Any] = drop_nulls({**prepared, "mixed": {name: mixed[name] for name in sorted(mixed)}})
    return summary


def summarise_synthesis(curated: dict[str, Any], judged: dict[str, Any], baselines: dict[str, Any]) -> dict[str, Any]:
    """Join what curation, judge and grader counted, as metrics/synthetic.json holds it."""
    tokens = {
        f"{stage}_{name}": summary[name]
        for stage, summary in (("synthesis", curated), ("judge", judged))
        for name in _TOKENS
        if name in summary
    }
    summary: dict[str, Any] = {
        "curation": {name: value for name, value in curated.items() if name not in _TOKENS},
        "judge": {name: value for name, value in judged.items() if name not in _TOKENS},
        "tokens": tokens,
    }
    if "llm_grader" in baselines:
        summary["grader"] = baselines["llm_grader"]
    joined: dict[str, Any] = drop_nulls(summary)
    return joined


def summarise_training(summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Join the training summaries of several models, as metrics/training.json holds them."""
    runs = {
        model: {f"seed_{seed}": run for seed, run in summary["seeds"].items()} for model, summary in summaries.items()
    }
    joined: dict[str, Any] = drop_nulls({"training": runs})
    return joined


def drop_nulls(value: Any) -> Any:
    """Leave out keys without a value, at every depth: DVC compares numbers only."""
    if isinstance(value, dict):
        return {name: drop_nulls(part) for name, part in value.items() if part is not None}
    return value
