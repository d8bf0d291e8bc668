"""Experiments beside this run, as `dvc exp show --csv` lists them, that differ from it in one number alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from amalgam.report.phrases import MODEL_NAMES, Numbers
from amalgam.report.tables.run import flatten_values

_ENDS = ("auc", "auc_low", "auc_high")


def collect_sweeps(
    rows: Iterable[Mapping[str, str]], params: Numbers, models: Numbers
) -> dict[str, list[dict[str, Any]]]:
    """Find the experiments that tell what one param does.

    Args:
        rows: lines of `dvc exp show --csv`; it puts the file before a name that params and metrics share.
        params: of this run, nested; an experiment without one of them ran before there was such a param.
        models: metrics of this run, by model.

    Returns:
        By dotted key of a numeric param, points (model, x, auc, auc_low, auc_high) with x ascending, this run's among
        them. The last of several experiments at one value counts.
    """
    own = dict(flatten_values(params))
    found: dict[str, dict[float, dict[str, dict[str, float]]]] = defaultdict(dict)
    for row in rows:
        theirs = {key: value for key in own if (value := _read(row, "params.yaml", key)) is not None}
        changed = [key for key, value in theirs.items() if _fold(value) != _fold(own[key])]
        if len(changed) == 1 and _is_number(own[changed[0]]) and _is_number(theirs[changed[0]]):
            found[changed[0]][float(theirs[changed[0]])] = _read_models(row)
    return {
        key: [
            {"model": model, "x": x, **values}
            for x, at in sorted({**runs, float(own[key]): models}.items())
            for model in MODEL_NAMES
            if "auc_low" in (values := {name: at.get(model, {})[name] for name in _ENDS if name in at.get(model, {})})
        ]
        for key, runs in sorted(found.items())
    }


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
