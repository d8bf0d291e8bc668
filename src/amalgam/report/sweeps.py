"""What single params do, from experiments beside this run that differ from it in one number alone."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from amalgam.report.charts import build_figure, draw_sweep
from amalgam.report.content import Cell, Content, Table
from amalgam.report.phrases import MODEL_NAMES, flatten_values, format_interval, format_number

_FREE = "teacher.guard"  # may differ as well: a curve wants it off, and points where it left rows out are marked
_MODELS = ("teacher", "student", "human_only")
_TITLES = {
    "ratio": "Synthetic share of the training rows",
    "human_rows": "Human-coded rows",
    "synthesis.temperature": "Temperature",
}
# What the synthetic rows of an experiment are like, by the key in metrics/synthetic.json.
_STATISTICS = {
    "synthesis.kept": "Rows kept",
    "synthetic.words": "Words",
    "synthetic.distinct_2": "Distinct 2-grams",
    "synthetic.self_similarity": "Self-similarity",
    "synthetic.near_duplicate_rate": "Near-duplicates",
    "synthetic.nearest_human": "Nearest human row",
    "synthetic.two_sample_auc": "Classifier two-sample test, AUC",
    "synthetic.mmd.all.mmd2": "Distance (MMD²)",
    "judge.kappa": "Judge's kappa",
}


def build_sweeps(content: Content) -> dict[str, Any] | None:
    """Draw a chart for each param of which there are experiments, and list what it does to the synthetic rows."""
    files = {"params.yaml": content.params}
    files |= {f"metrics/{name}.json": content.metrics[name] for name in ("models", "training", "synthetic")}
    own = {f"{file}:{key}": text for file, values in files.items() for key, text in flatten_values(values)}
    figures, tables = [], []
    for number, (key, runs) in enumerate(find_sweeps(content.experiments, own).items()):
        points = read_points(runs)
        if len({point["x"] for point in points}) > 1:
            caption = f"AUC by {key}, with {content.confidence} intervals. All else is as in this run."
            if left_out := ", ".join(dict.fromkeys(f"{point['x']:g}" for point in points if point["left_out"])):
                caption += (
                    f" At {left_out} the guard left the synthetic rows out, so teacher and student were trained on the "
                    "human rows alone; `teacher.guard: false` shows what the rows would have done."
                )
            spec = draw_sweep(pd.DataFrame(points), _TITLES.get(key, key))
            numbers = _tabulate_points(points, key)
            figures.append(build_figure(f"sweep-{number}", f"AUC by {key}", caption, spec, numbers))
        if table := tabulate_statistics(runs, key):
            tables.append(table)
    return {"figures": figures, "tables": tables} if figures or tables else None


def find_sweeps(rows: Sequence[Mapping[str, str]], own: Mapping[str, str]) -> dict[str, dict[float, Mapping[str, str]]]:
    """Return by key of a param and by its value the experiments that differ from this run in that number alone.

    Rows are lines of `amalgam experiments`; their names may lack the file, which those of `own`, the line of this run,
    have. An experiment without a param ran before there was such a param. Of several at one value, the last counts.
    """
    params = {name.removeprefix("params.yaml:"): text for name, text in own.items() if name.startswith("params.yaml:")}
    found: dict[str, dict[float, Mapping[str, str]]] = defaultdict(dict)
    for row in rows:
        theirs = {key: text for key in params if key != _FREE and (text := _read(row, "params.yaml", key)) is not None}
        changed = [key for key, text in theirs.items() if _fold(text) != _fold(params[key])]
        if len(changed) == 1:
            value, here = _parse(theirs[changed[0]]), _parse(params[changed[0]])
            if value is not None and here is not None:
                found[changed[0]] |= {value: row, here: own}
    return {key: dict(sorted(runs.items())) for key, runs in sorted(found.items())}


def read_points(runs: Mapping[float, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Read points (model, x, left_out, auc, auc_low, auc_high) out of lines by x.

    `left_out` says whether the guard left the synthetic rows out.
    """
    points = []
    for x, row in runs.items():
        left_out = _parse(_read(row, "metrics/training.json", "guard.helps")) == 0
        for model in _MODELS:
            ends = ("auc", "auc_low", "auc_high")
            values = {end: _parse(_read(row, "metrics/models.json", f"{model}.{end}")) for end in ends}
            if None not in values.values():
                points.append({"model": model, "x": x, "left_out": left_out, **values})
    return points


def tabulate_statistics(runs: Mapping[float, Mapping[str, str]], key: str) -> Table | None:
    """List what the synthetic rows are like by the value of a param; None where it leaves the rows as they are."""
    read = {x: [_parse(_read(row, "metrics/synthetic.json", name)) for name in _STATISTICS] for x, row in runs.items()}
    table = pd.DataFrame(read, index=list(_STATISTICS.values()), dtype=float).T
    found = table.dropna(how="all").dropna(axis=1, how="all")
    if len(found.drop_duplicates()) < 2:
        return None
    texts = found.map(lambda value: "" if np.isnan(value) else f"{value:.4g}")
    rows = [[f"{x:g}", *values] for x, *values in texts.itertuples()]
    title = _TITLES.get(key, key)
    caption = f"What the synthetic rows are like, by {title[0].lower()}{title[1:]}"
    return Table(caption, [key, *found], rows)


def _tabulate_points(points: Sequence[Mapping[str, Any]], key: str) -> Table:
    rows: list[list[Cell]] = []
    for point in points:
        guarded = point["left_out"] and point["model"] != "human_only"
        name = MODEL_NAMES[point["model"]] + (", synthetic rows left out" if guarded else "")
        rows.append([f"{point['x']:g}", name, (format_number(point["auc"]), format_interval(point, "auc"))])
    return Table(f"AUC by {key}", [key, "Model", "AUC"], rows)


def _read(row: Mapping[str, str], file: str, key: str) -> str | None:
    return row.get(f"{file}:{key}", row.get(key))


def _parse(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _fold(text: str) -> str:
    """Write equal values alike: the listing and the page spell numbers, lists and nothing in their own ways."""
    if (number := _parse(text)) is not None:
        return repr(number)
    plain = text.strip("[]").replace(" ", "").lower()
    return "" if plain in ("none", "null") else plain
