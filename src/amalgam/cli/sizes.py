"""The values of params.yaml that fit a new task, and the reasons for them."""

import math
import re
from typing import Any

import yaml

from amalgam.cli.forecast import estimate_training
from amalgam.errors import ParamsError
from amalgam.params import Params
from amalgam.tasks.columns import TaskRows
from amalgam.tasks.split import choose_sizes
from amalgam.tasks.texts import WORD

_AUC = 0.85  # for which the width of an interval is shown
_LEAST_TOKENS = 128  # of an answer: with 64, every second answer of small models was cut off, which may end a run
_WIDE = 0.1  # half the width of an interval; from there on, one test set says little
_FEW = 50  # uncoded texts; with fewer, a small student may not learn all that its teacher knows (docs/findings.md)
_UNCODED = "more would help to teach the student"
_AGAIN = "`dvc exp run --queue -S split.seed=1,2,3,4`, then `dvc queue start`,"


def choose_params(params: Params, rows: TaskRows, name: str) -> tuple[dict[str, Any], list[str]]:
    """Choose the sizes of the sets and the ratio, and give the reasons."""
    by = params.split.by if "time" in rows.main else "random"
    test, human, validation = choose_sizes(rows.main, params.split.seed, by)
    synthetic = 0.85 * params.synthesis.rows * rows.main["label"].nunique()  # about what curation keeps
    ratio = min(0.8, math.floor(100 * synthetic / (synthetic + human)) / 100)
    words = float(rows.main["text"].str.count(WORD).quantile(0.9))
    tokens = min(max(math.ceil(words * 4 / 3 / 16) * 16, _LEAST_TOKENS), 512)
    values = {"task": name, "ratio": ratio, "human_rows": human, "split.test": test, "split.validation": validation}
    values |= {"synthesis.max_tokens": tokens, "split.by": by}
    rarest = max(round(min(rows.main["label"].value_counts(normalize=True)) * test), 1)
    width = measure_width(rarest, test - rarest)
    uncoded = max(len({*rows.main["text"], *rows.unlabelled["text"]}) - test - human, 0)
    trained = params.model_copy(update={"human_rows": human})
    dials = {quality: trained.model_copy(update={"quality": quality}) for quality in (params.quality, "fast")}
    minutes = {quality: estimate_training(dial, rows.main, uncoded) for quality, dial in dials.items()}
    times = [f"{count} min with `quality: {quality}`" for quality, count in minutes.items()]
    return values, [
        f"human_rows {human}, split.test {test}: three in ten of {len(rows.main)} coded rows are the test, at most 500",
        f"an AUC of {_AUC} then has a 95 % interval of about ±{width:.2f}; only more coded rows make it narrower",
        *([f"{_AGAIN} test on other rows as well"] if width > _WIDE else []),
        f"ratio {ratio:g}: the share that `synthesis.rows: {params.synthesis.rows}` per label allows",
        *([f"{uncoded} uncoded responses: {_UNCODED}"] if uncoded < _FEW else []),
        f"synthesis.max_tokens {tokens}: room for nine responses in ten, and at least {_LEAST_TOKENS}",
        f"training takes about {' and '.join(times)}, on two cores with bfloat16",
    ]


def measure_width(positive: int, negative: int) -> float:
    """Return half the width of the 95 % interval of an AUC of 0.85 (Hanley and McNeil, 1982)."""
    one, two = _AUC / (2 - _AUC) - _AUC**2, 2 * _AUC**2 / (1 + _AUC) - _AUC**2
    variance = _AUC * (1 - _AUC) + (positive - 1) * one + (negative - 1) * two
    return 1.96 * math.sqrt(variance / (positive * max(negative, 1)))


def edit_params(text: str, values: dict[str, Any]) -> str:
    """Set values in the text of params.yaml; keep comments and all other lines."""
    for key, value in values.items():
        *section, leaf = key.split(".")
        above = rf"^{section[0]}:(?: *#.*)?\n(?:[ #].*\n|\n)*?  " if section else "^"
        if (match := re.search(rf"({above}{leaf}: )([^#\n]*?)( *)(#.*)?$", text, re.MULTILINE)) is None:
            raise ParamsError(f"params.yaml has no line `{key}: …`: add it")
        new = yaml.safe_dump(value).partition("\n")[0]
        comment = f"{' ' * max(len(match[2] + match[3]) - len(new), 2)}{match[4]}" if match[4] else ""
        text = f"{text[: match.start()]}{match[1]}{new}{comment}{text[match.end() :]}"
    return text
