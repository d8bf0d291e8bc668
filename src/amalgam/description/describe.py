"""The statistics of metrics/synthetic.json: synthetic rows beside the human ones."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from amalgam.description.distance import measure_distance
from amalgam.description.likeness import find_nearest, find_nearest_other, measure_similarity
from amalgam.description.telling import measure_telling
from amalgam.description.words import measure_distinct, measure_foreign, measure_own, split_words
from amalgam.evaluation.metrics import Floats
from amalgam.params import Evaluation

MOST = 1000  # rows of each kind that are compared; the work grows with the square
COPIED = 0.5  # similarity of character 5-grams from which a text counts as copied in large part
_SHUFFLES = 500
_FEWEST = 2  # rows between which there is a distance

Row = Mapping[str, str]


def sample_rows(rows: Iterable[Row], size: int, seed: int) -> tuple[pd.DataFrame, int]:
    """Draw rows from a stream, each as likely as any other (reservoir sampling: Vitter, 1985), and count all.

    Returns:
        id, text, question and label of at most `size` rows, in the order of the stream; the number of all rows.
    """
    rng = np.random.default_rng(seed)
    kept: dict[int, tuple[int, Row]] = {}
    count = 0
    for row in rows:
        place = count if count < size else int(rng.integers(0, count + 1))
        if place < size:
            kept[place] = (count, row)
        count += 1
    chosen = [row for _, row in sorted(kept.values(), key=lambda pair: pair[0])]
    columns = ["id", "text", "question", "label"]
    return pd.DataFrame([{name: row.get(name, "") for name in columns} for row in chosen], columns=columns), count


def describe_texts(synthetic: pd.DataFrame, human: pd.DataFrame) -> dict[str, float]:
    """Compare the texts of synthetic rows with those of human ones: lengths, words and likeness.

    Whatever depends on the number of rows or words is measured for as many human ones, beside it as `human_…`.

    Args:
        synthetic: rows with text and label, at least 1.
        human: likewise, the label empty where nobody coded the row; at least 1.
    """
    texts, others = list(synthetic["text"]), list(human["text"])
    lengths, other_lengths = ([len(split_words(text)) for text in part] for part in (texts, others))
    words = min(sum(lengths), sum(other_lengths))
    coded = human[human["label"] != ""]
    nearest, other_nearest = find_nearest(texts, others), find_nearest_other(others)
    values = {
        "words": np.mean(lengths),
        "words_sd": np.std(lengths),
        "human_words": np.mean(other_lengths),
        "human_words_sd": np.std(other_lengths),
        **{f"distinct_{size}": measure_distinct(texts, size, most=words) for size in (1, 2, 3)},
        **{f"human_distinct_{size}": measure_distinct(others, size, most=words) for size in (1, 2, 3)},
        "self_similarity": measure_similarity(texts, list(synthetic["label"])),
        "human_self_similarity": measure_similarity(list(coded["text"]), list(coded["label"])),
        "out_of_vocabulary": measure_foreign(texts, others),
        "human_out_of_vocabulary": measure_own(others),
        "nearest_human": nearest.mean(),
        "human_nearest_human": other_nearest.mean(),
        "copied_rate": (nearest >= COPIED).mean(),
        "human_copied_rate": (other_nearest >= COPIED).mean(),
    }
    return {name: round(float(value), 4) for name, value in values.items()}


def compare_embeddings(
    synthetic: Floats, human: Floats, labels: list[str], human_labels: list[str], params: Evaluation
) -> dict[str, Any]:
    """Compare the embeddings of synthetic and human rows: two-sample AUC, and the distance in all and by label.

    All rows together differ in their share of labels as well; within a label only coded human rows count, which may
    be few, so that only a large distance shows.

    Args:
        synthetic: vectors [n, width].
        human: vectors [m, width].
        labels: of the synthetic rows [n].
        human_labels: of the human rows [m], empty where nobody coded the row.
        params: seed, resamples and confidence.

    Returns:
        `two_sample_auc` with its interval, and `mmd` by label and for `all`.
    """
    told = {f"two_sample_{name}": value for name, value in measure_telling(synthetic, human, params).items()}
    sets = {"all": (synthetic, human)}
    for label in sorted(set(labels)):
        chosen, others = (np.array(part) == label for part in (labels, human_labels))
        sets[label] = (synthetic[chosen], human[others])
    return {
        **told,
        "mmd": {name: _compare(*pair, params) for name, pair in sets.items() if min(map(len, pair)) >= _FEWEST},
    }


def _compare(first: Floats, second: Floats, params: Evaluation) -> dict[str, float]:
    rng = np.random.default_rng(params.seed)
    found = measure_distance(first, second, shuffles=_SHUFFLES, confidence=params.confidence, rng=rng)
    values = {"mmd2": found.mmd2, "mmd2_chance": found.chance, "mmd2_p": found.p}
    return {name: round(value, 4) for name, value in values.items()} | {"rows": len(first), "human_rows": len(second)}
