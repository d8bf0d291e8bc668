"""Tables of models: metrics, paired differences, confusions."""

from collections import Counter
from collections.abc import Mapping, Sequence

from amalgam.report.phrases import METRIC_NAMES, MODEL_NAMES, Numbers, format_count, format_share
from amalgam.report.tables.table import Cell, Table, write_estimate

_SHADES = 10  # steps of the tint behind a confusion matrix


def tabulate_models(models: Numbers, caption: str) -> Table:
    """Put the metrics of all models, with their intervals, into a table."""
    shown = {name: models[name] for name in MODEL_NAMES if name in models}
    metrics = [metric for metric in METRIC_NAMES if any(metric in values for values in shown.values())]
    rows = [
        (Cell(MODEL_NAMES[name]), [write_estimate(values, metric) for metric in metrics])
        for name, values in shown.items()
    ]
    return Table(caption, "Model", [METRIC_NAMES[metric] for metric in metrics], rows)


def tabulate_differences(comparisons: Numbers, names: Mapping[str, str]) -> Table:
    """Put the paired differences into a table; `names` says which, and how they are called."""
    metrics = [metric for metric in METRIC_NAMES if any(metric in comparisons[key] for key in names)]
    rows = [
        (Cell(name), [write_estimate(comparisons[key], metric, signed=True) for metric in metrics])
        for key, name in names.items()
    ]
    return Table("Paired differences", "Models", [METRIC_NAMES[metric] for metric in metrics], rows)


def tabulate_confusion(lines: Sequence[Mapping[str, str]], model: str, labels: Sequence[str]) -> Table:
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
