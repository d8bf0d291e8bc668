"""The report's tables, as text that a template only has to lay out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amalgam.report.phrases import (
    METRIC_NAMES,
    MODEL_NAMES,
    REASON_NAMES,
    Numbers,
    format_count,
    format_interval,
    format_number,
    format_share,
)

SET_NAMES = {
    "train": "Train",
    "validation": "Validation",
    "test": "Test",
    "transfer_test": "Transfer test",
    "unlabelled": "Unlabelled",
}
_SHADES = 10  # steps of the tint behind a confusion matrix


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, a smaller text under it, and the strength of the tint behind it (0 to 10)."""

    text: str
    small: str = ""
    shade: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names the rows; `corner` is the head of that column."""

    caption: str
    corner: str
    head: list[str]
    rows: list[tuple[Cell, list[Cell]]]


def tabulate_models(models: Numbers, caption: str) -> Table:
    """Put the metrics of all models, with their intervals, into a table."""
    shown = {name: models[name] for name in MODEL_NAMES if name in models}
    metrics = [metric for metric in METRIC_NAMES if any(metric in values for values in shown.values())]
    rows = [
        (
            Cell(MODEL_NAMES[name]),
            [
                Cell(format_number(values[metric]), format_interval(values, metric)) if metric in values else Cell("")
                for metric in metrics
            ],
        )
        for name, values in shown.items()
    ]
    return Table(caption, "Model", [METRIC_NAMES[metric] for metric in metrics], rows)


def tabulate_confusion(lines: Sequence[Mapping[str, str]], model: str, labels: list[str]) -> Table:
    """Count actual against predicted labels over all seeds; shares are of the actual label."""
    counts = Counter((line["actual"], line["predicted"]) for line in lines if line["model"] == model)
    rows = []
    for actual in labels:
        total = max(1, sum(counts[actual, predicted] for predicted in labels))
        shares = [counts[actual, predicted] / total for predicted in labels]
        rows.append(
            (
                Cell(actual),
                [
                    Cell(format_share(share, 1), format_count(counts[actual, predicted]), round(share * _SHADES))
                    for predicted, share in zip(labels, shares, strict=True)
                ],
            )
        )
    return Table(MODEL_NAMES[model], "Human label", [f"predicted {label}" for label in labels], rows)


def tabulate_human_rows(data: Numbers, labels: list[str]) -> Table:
    """Count the human rows by set and label."""
    rows = [
        (
            Cell(SET_NAMES.get(name, name)),
            [
                Cell(format_count(count)),
                *(Cell(format_count(data["labels"].get(name, {}).get(label, 0))) for label in labels),
            ]
            if name in data["labels"]
            else [Cell(format_count(count)), *(Cell("no labels") for _ in labels)],
        )
        for name, count in data["rows"].items()
    ]
    return Table("Human responses by set and label", "Set", ["Rows", *labels], rows)


def tabulate_curation(curation: Numbers) -> Table:
    """Count what curation kept and rejected, most frequent reason first."""
    rejected = sorted(curation["rejected"].items(), key=lambda item: -item[1])
    found = [
        ("Kept", curation["kept"]),
        *((REASON_NAMES.get(reason, reason), count) for reason, count in rejected if count),
    ]
    return _tabulate_shares("What became of the LLM's responses", "Outcome", found, curation["responses"])


def tabulate_kept(curation: Numbers) -> Table:
    """Count the kept synthetic rows by label."""
    found = list(curation["kept_by_label"].items())
    return _tabulate_shares("Synthetic rows that were kept, by label", "Label", found, curation["kept"])


def tabulate_cost(synthetic: Numbers, training: Numbers, speed: Numbers) -> list[Table]:
    """Put requests and tokens, training steps, and scoring rates and sizes into a table each."""
    purposes = {
        "synthesis": ("Writing responses", "completions"),
        "judge": ("Judging them", "rows"),
        "grader": ("Grading human rows, a baseline", "requests"),
    }
    requests = [
        (
            Cell(purpose),
            [
                Cell(format_count(synthetic[stage][name])) if name in synthetic[stage] else Cell("not counted")
                for name in (count, "prompt_tokens", "completion_tokens")
            ],
        )
        for stage, (purpose, count) in purposes.items()
        if stage in synthetic
    ]
    steps = [
        (
            Cell(MODEL_NAMES[model]),
            [
                Cell(seed.removeprefix("seed_")),
                Cell(format_count(run["train_rows"])),
                Cell(format_count(run["steps"])),
                Cell(format_count(run["best_step"])),
                Cell(format_number(run["validation_loss"])),
            ],
        )
        for model, runs in training["training"].items()
        for seed, run in runs.items()
    ]
    scoring = [
        (
            Cell(MODEL_NAMES[model]),
            [Cell(f"{speed[f'{model}_rows_per_second']:g}"), Cell(f"{speed[f'{model}_megabytes']:g}")],
        )
        for model in ("teacher", "student")
    ]
    return [
        Table("Requests to the LLM", "For", ["Requests", "Prompt tokens", "Written tokens"], requests),
        Table("Scoring", "Model", ["Rows a second", "Megabytes"], scoring),
        Table("Training runs", "Model", ["Seed", "Rows", "Steps", "Kept step", "Validation loss"], steps),
    ]


def tabulate_params(params: Numbers) -> Table:
    """Put all params into two columns, keys joined by dots as `dvc exp run -S` takes them."""
    rows = [(Cell(name), [Cell(value)]) for name, value in flatten_values(params)]
    return Table("Params that the results depend on", "Key", ["Value"], rows)


def flatten_values(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List the leaves of nested values as (dotted key, text)."""
    leaves: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            leaves += flatten_values(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            leaves.append((prefix + name, ", ".join(map(str, value))))
        else:
            leaves.append((prefix + name, str(value).lower() if isinstance(value, bool) else str(value)))
    return leaves


def _tabulate_shares(caption: str, corner: str, found: list[tuple[str, int]], total: int) -> Table:
    rows = [
        (Cell(name), [Cell(format_count(count)), Cell(format_share(count / max(1, total), 1))]) for name, count in found
    ]
    return Table(caption, corner, ["Rows", "Share"], rows)
