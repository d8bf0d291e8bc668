"""The values of params.yaml that fit a new task, and what they are good for."""

import math
import re
from typing import Any

from amalgam.cli.forecast import estimate_training
from amalgam.errors import ParamsError
from amalgam.params import Params
from amalgam.tasks.columns import TaskRows
from amalgam.tasks.split import choose_sizes

_AUC = 0.85  # for which the width of an interval is said
_LEAST_TOKENS = 128  # of an answer: with 64, small models had every second one cut off, and a run may end for that
_WIDE = 0.1  # half a width from which one test set says little
_FEW = 50  # texts that nobody coded, with which a small student may lose what its teacher knows (docs/findings.md)
_UNCODED = "more of them would teach the student"
_AGAIN = "`dvc exp run --queue -S split.seed=1,2,3,4`, then `dvc queue start`,"


def choose_params(params: Params, rows: TaskRows, name: str) -> tuple[dict[str, Any], list[str]]:
    """Choose the sizes of the sets and the ratio, and say why."""
    test, human, validation = choose_sizes(rows.main, seed=params.split.seed)
    synthetic = 0.85 * params.synthesis.rows * rows.main["label"].nunique()  # what curation keeps of them, about
    ratio = min(0.8, math.floor(100 * synthetic / (synthetic + human)) / 100)
    words = float(rows.main["text"].str.count(r"\S+").quantile(0.9))
    tokens = min(max(math.ceil(words * 4 / 3 / 16) * 16, _LEAST_TOKENS), 512)
    values = {"task": name, "ratio": ratio, "human_rows": human, "split.test": test, "split.validation": validation}
    values |= {"synthesis.max_tokens": tokens, **({} if "time" in rows.main else {"split.by": "random"})}
    rarest = max(round(min(rows.main["label"].value_counts(normalize=True)) * test), 1)
    width = measure_width(rarest, test - rarest)
    uncoded = max(len({*rows.main["text"], *rows.unlabelled["text"]}) - test - human, 0)
    trained = params.model_copy(update={"human_rows": human})
    dials = {quality: trained.model_copy(update={"quality": quality}) for quality in (params.quality, "fast")}
    minutes = {quality: estimate_training(dial, rows.main, uncoded) for quality, dial in dials.items()}
    times = [f"{count} min with `quality: {quality}`" for quality, count in minutes.items()]
    return values, [
        f"human_rows {human}, split.test {test}: of {len(rows.main)} coded rows, three in ten test, at most 500",
        f"with them an AUC of {_AUC} has a 95 % interval of about ±{width:.2f}; only more coded rows make it narrower",
        *([f"{_AGAIN} tests on other rows too"] if width > _WIDE else []),
        f"ratio {ratio:g}: what `synthesis.rows: {params.synthesis.rows}` a label brings beside them",
        *([f"{uncoded} uncoded responses: {_UNCODED}"] if uncoded < _FEW else []),
        f"synthesis.max_tokens {tokens}: room for nine responses in ten, and {_LEAST_TOKENS} at least",
        f"training takes about {' and '.join(times)}, on two cores with bfloat16",
    ]


def measure_width(positive: int, negative: int) -> float:
    """Return half the width of the 95 % interval of an AUC of 0.85 (Hanley and McNeil, 1982)."""
    one, two = _AUC / (2 - _AUC) - _AUC**2, 2 * _AUC**2 / (1 + _AUC) - _AUC**2
    variance = _AUC * (1 - _AUC) + (positive - 1) * one + (negative - 1) * two
    return 1.96 * math.sqrt(variance / (positive * max(negative, 1)))


def edit_params(text: str, values: dict[str, Any]) -> str:
    """Set values in the text of params.yaml; comments and all other lines stay."""
    for key, value in values.items():
        section, _, leaf = key.rpartition(".")
        start = text.index(f"\n{section}:\n") if section else 0
        pattern = re.compile(rf"^({'  ' if section else ''}{leaf}: )([^#\n]*?)( *)(#.*)?$", re.MULTILINE)
        if (match := pattern.search(text, start)) is None:
            raise ParamsError(f"params.yaml has no line `{key}: …`: add it")
        comment = f"{' ' * max(len(match[2] + match[3]) - len(str(value)), 2)}{match[4]}" if match[4] else ""
        text = f"{text[: match.start()]}{match[1]}{value}{comment}{text[match.end() :]}"
    return text
