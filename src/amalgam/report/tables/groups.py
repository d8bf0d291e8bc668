"""Tables of metrics by subgroup and by period."""

from amalgam.report.phrases import METRIC_NAMES, MODEL_NAMES, Numbers, format_count, format_number
from amalgam.report.tables.table import Cell, Table, write_estimate

_PERIOD_METRICS = ("auc", "accuracy", "kappa", "quadratic_kappa")


def tabulate_subgroups(subgroups: Numbers, column: str) -> Table:
    """Put a column's subgroups into a table, a line for each model."""
    rows = []
    for name, values in subgroups.items():
        count = format_count(values["rows"])
        models = [model for model in MODEL_NAMES if model in values]
        if not models:
            rows.append((Cell(name), [Cell(count), Cell("too few rows"), *(Cell("") for _ in range(6))]))
        rows += [
            (
                Cell(name),
                [
                    Cell(count),
                    Cell(MODEL_NAMES[model]),
                    write_estimate(values[model], "auc"),
                    write_estimate(values[model], "auc_minus_rest", signed=True),
                    write_estimate(values[model], "fpr"),
                    write_estimate(values[model], "fpr_minus_rest", signed=True),
                    _write_abroca(values[model]),
                    Cell(format_number(values[model]["abroca_p"]) if "abroca_p" in values[model] else ""),
                ],
            )
            for model in models
        ]
    head = ["Rows", "Model", "AUC", "AUC minus the rest", "False positive rate", "minus the rest", "ABROCA", "p"]
    return Table(f"Test rows by {column}", column, head, rows)


def tabulate_periods(periods: Numbers) -> Table:
    """Put the periods into a table, a line for each model."""
    found = [
        metric
        for metric in _PERIOD_METRICS
        if any(metric in values[model] for values in periods.values() for model in MODEL_NAMES if model in values)
    ]
    rows = []
    for name, values in periods.items():
        count = format_count(values["rows"])
        models = [model for model in MODEL_NAMES if model in values]
        if not models:
            rows.append((Cell(name), [Cell(count), Cell("too few rows"), *(Cell("") for _ in found)]))
        rows += [
            (
                Cell(name),
                [
                    Cell(count),
                    Cell(MODEL_NAMES[model]),
                    *(write_estimate(values[model], metric) for metric in found),
                ],
            )
            for model in models
        ]
    return Table("Test rows by period", "Period", ["Rows", "Model", *(METRIC_NAMES[metric] for metric in found)], rows)


def _write_abroca(values: Numbers) -> Cell:
    if "abroca" not in values:
        return Cell("")
    chance = f"chance gives up to {format_number(values['abroca_chance'])}" if "abroca_chance" in values else ""
    return Cell(format_number(values["abroca"]), chance)
