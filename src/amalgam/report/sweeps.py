"""Experiments beside this run, as `amalgam experiments` lists them, that differ from it in one number alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from amalgam.report.phrases import MODEL_NAMES, Numbers
from amalgam.report.tables.run import flatten_values

_ENDS = ("auc", "auc_low", "auc_high")
_GUARD = ("metrics/training.json", "guard.helps")
_FREE = ("teacher.guard",)  # may differ as well: a curve wants it off, and where it leaves rows out is marked
# What the synthetic rows of an experiment were like, by the metric's key in metrics/synthetic.json.
LIKENESS = {
    "synthesis.kept": "Rows kept",
    "synthetic.words": "Words",
    "synthetic.distinct_2": "Distinct 2-grams",
    "synthetic.self_similarity": "Self-similarity",
    "synthetic.near_duplicate_rate": "Near-duplicates",
    "synthetic.nearest_human": "Nearest human row",
    "synthetic.two_sample_auc": "Told from human rows, AUC",
    "synthetic.mmd.all.mmd2": "Distance (MMD²)",
    "judge.kappa": "Judge's kappa",
}


def collect_sweeps(
    rows: Iterable[Mapping[str, str]], params: Numbers, models: Numbers, guard: Numbers
) -> dict[str, list[dict[str, Any]]]:
    """Find the experiments that tell what one param does.

    Args:
        rows: lines of `amalgam experiments`; the file may stand before a name, for params and metrics share some.
        params: of this run, nested; an experiment without one of them ran before there was such a param.
        models: metrics of this run, by model.
        guard: what the guard of this run found, empty where it was not asked.

    Returns:
        By dotted key of a numeric param, points (model, x, left_out, auc, auc_low, auc_high) with x ascending, this
        run's among them; `left_out` says whether the guard left the synthetic rows out. The last of several experiments
        at one value counts.
    """
    own = dict(flatten_values(params))
    return {
        key: [
            {"model": model, "x": x, "left_out": left_out, **values}
            for x, (at, left_out) in sorted(
                {
                    **{x: (_read_models(row), _is_zero(_read(row, *_GUARD))) for x, row in runs.items()},
                    float(own[key]): (models, guard.get("helps") == 0),
                }.items()
            )
            for model in MODEL_NAMES
            if "auc_low" in (values := {name: at.get(model, {})[name] for name in _ENDS if name in at.get(model, {})})
        ]
        for key, runs in _find_sweeps(rows, own).items()
    }


def collect_likeness(
    rows: Iterable[Mapping[str, str]], params: Numbers, synthetic: Numbers
) -> dict[str, list[dict[str, float]]]:
    """Find the experiments that tell what one param, such as the temperature, does to the synthetic rows.

    Args:
        rows: lines of `amalgam experiments`.
        params: of this run, nested.
        synthetic: metrics/synthetic.json of this run.

    Returns:
        By dotted key of a numeric param, points with `x` ascending and the metrics that `LIKENESS` names, this run's
        among them. A param that leaves the rows as they are has none.
    """
    own = dict(flatten_values(params))
    measured = dict(flatten_values(synthetic))
    here = {name: float(measured[name]) for name in LIKENESS if name in measured}
    found = {}
    for key, runs in _find_sweeps(rows, own).items():
        points = {x: _read_likeness(row) for x, row in runs.items()}
        if any(values and values != here for values in points.values()):
            points[float(own[key])] = here
            found[key] = [{"x": x, **values} for x, values in sorted(points.items()) if values]
    return found


def _find_sweeps(
    rows: Iterable[Mapping[str, str]], own: Mapping[str, str]
) -> dict[str, dict[float, Mapping[str, str]]]:
    """Return by key of a param, and by its value, the last line that differs in that number alone."""
    found: dict[str, dict[float, Mapping[str, str]]] = defaultdict(dict)
    for row in rows:
        theirs = {
            key: value for key in own if key not in _FREE and (value := _read(row, "params.yaml", key)) is not None
        }
        changed = [key for key, value in theirs.items() if _fold(value) != _fold(own[key])]
        if len(changed) == 1 and _is_number(own[changed[0]]) and _is_number(theirs[changed[0]]):
            found[changed[0]][float(theirs[changed[0]])] = row
    return dict(sorted(found.items()))


def _read_likeness(row: Mapping[str, str]) -> dict[str, float]:
    values = {name: _read(row, "metrics/synthetic.json", name) for name in LIKENESS}
    return {name: float(value) for name, value in values.items() if value and _is_number(value)}


def _read_models(row: Mapping[str, str]) -> dict[str, dict[str, float]]:
    models: dict[str, dict[str, float]] = defaultdict(dict)
    for model in MODEL_NAMES:
        for name in _ENDS:
            value = _read(row, "metrics/models.json", f"{model}.{name}")
            if value and _is_number(value):
                models[model][name] = float(value)
    return models


def _read(row: Mapping[str, str], file: str, key: str) -> str | None:
    return row.get(f"{file}:{key}", row.get(key))


def _is_zero(text: str | None) -> bool:
    return text is not None and _is_number(text) and float(text) == 0


def _fold(text: str) -> str:
    """Write equal values alike: the listing and the page spell numbers, lists and nothing in their own ways."""
    if _is_number(text):
        return repr(float(text))
    plain = text.strip("[]").replace(" ", "").lower()
    return "" if plain in ("none", "null") else plain


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
