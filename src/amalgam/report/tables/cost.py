"""Tables of what the run took: requests, scoring."""

from amalgam.report.phrases import MODEL_NAMES, Numbers, format_count, format_number
from amalgam.report.tables.table import Cell, Table

_PURPOSES = {
    "synthesis": "Writing responses",
    "judge": "Judging them",
    "grader": "Grading human rows, a baseline",
    "llm": "All",
}


def tabulate_requests(cost: Numbers) -> Table:
    """Count requests to the LLM, their tokens and price."""
    rows = [
        (
            Cell(purpose),
            [
                *(Cell(format_count(cost[work][name])) for name in ("requests", "prompt_tokens", "completion_tokens")),
                Cell(format_number(cost[work]["cost_usd"], 2) if "cost_usd" in cost[work] else "unknown"),
            ],
        )
        for work, purpose in _PURPOSES.items()
        if work in cost
    ]
    return Table("Requests to the LLM", "For", ["Requests", "Prompt tokens", "Written tokens", "US dollars"], rows)


def tabulate_speed(speed: Numbers) -> Table:
    """Put scoring rate and size of each model into a table."""
    columns = {
        "rows_per_second": "Rows scored a second",
        "megabytes": "Megabytes",
    }
    found = {name: title for name, title in columns.items() if any(key.endswith(f"_{name}") for key in speed)}
    rows = [
        (Cell(name), [Cell(f"{speed[key]:g}" if (key := f"{model}_{column}") in speed else "") for column in found])
        for model, name in MODEL_NAMES.items()
        if any(f"{model}_{column}" in speed for column in found)
    ]
    return Table("Time and size", "Model", list(found.values()), rows)


def tabulate_training_runs(training: Numbers) -> Table:
    """List the training runs of all models and seeds."""
    rows = [
        (
            Cell(MODEL_NAMES.get(model, model)),
            [
                Cell(seed.removeprefix("seed_")),
                Cell(format_count(run["train_rows"])),
                Cell(format_count(run["steps"])),
                Cell(format_count(run["best_step"])),
                Cell("" if run.get("validation_loss") is None else format_number(run["validation_loss"])),
            ],
        )
        for model, runs in training["training"].items()
        for seed, run in runs.items()
    ]
    return Table("Training runs", "Model", ["Seed", "Rows", "Steps", "Kept step", "Validation loss"], rows)
