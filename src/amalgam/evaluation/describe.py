"""What the synthetic rows are like compared with human ones: lengths, words, similarity and embeddings."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import SEED, draw_resamples, estimate_metrics, summarise_estimates
from amalgam.evaluation.metrics import Floats
from amalgam.synthesis.curate import cut_grams

COPIED = 0.5  # similarity of character 5-grams at which a text counts as largely copied
_FOLDS = 5  # of the classifier two-sample test
_SHUFFLES = 500
_WORD = re.compile(r"\w+")


def describe_texts(synthetic: pd.DataFrame, human: pd.DataFrame) -> dict[str, float]:
    """Compare the texts of synthetic rows with those of human rows, at least one each.

    The label of an uncoded human row is empty. Each measure is also taken of the human rows, as `human_…`.
    """
    texts = [list(rows["text"]) for rows in (synthetic, human)]
    lengths = [[len(split_words(text)) for text in part] for part in texts]
    most, first = min(map(sum, lengths)), len(synthetic)
    likeness = measure_likeness([*texts[0], *texts[1]])
    np.fill_diagonal(likeness, 0.0)  # a human text is compared with all texts but itself
    sides = (("", slice(first), synthetic, texts[1]), ("human_", slice(first, None), human, None))
    found: dict[str, float] = {}
    for side, (prefix, own, rows, others) in enumerate(sides):
        nearest = likeness[own, first:].max(axis=1)
        values = {
            "words": np.mean(lengths[side]),
            "words_sd": np.std(lengths[side]),
            **{f"distinct_{size}": measure_distinct(texts[side], size, most=most) for size in (1, 2, 3)},
            "self_similarity": average_similarity(likeness[own, own], list(rows["label"])),
            "out_of_vocabulary": measure_foreign(texts[side], others),
            "nearest_human": nearest.mean(),
            "copied_rate": (nearest >= COPIED).mean(),
        }
        found |= {f"{prefix}{name}": round(float(value), 4) for name, value in values.items()}
    return found


def compare_embeddings(
    synthetic: Floats, human: Floats, labels: Iterable[str], human_labels: Iterable[str], confidence: float
) -> dict[str, Any]:
    """Compare embeddings [n, width] and [m, width]: the two-sample test, and `mmd` by label and for `all`.

    All rows together also differ in their shares of labels. Within a label, only coded human rows count. A label that
    is itself named `all` is left out.
    """
    own, others = (np.array(list(names)) for names in (labels, human_labels))
    sets = {"all": (synthetic, human)} | {
        label: (synthetic[own == label], human[others == label]) for label in np.unique(own).tolist() if label != "all"
    }
    return {
        **{f"two_sample_{name}": value for name, value in run_two_sample_test(synthetic, human, confidence).items()},
        "mmd": {
            name: measure_distance(first, second, confidence) | {"rows": len(first), "human_rows": len(second)}
            for name, (first, second) in sets.items()
            if min(len(first), len(second)) > 1
        },
    }


def run_two_sample_test(first: Floats, second: Floats, confidence: float) -> dict[str, float]:
    """Return `auc`, `auc_low` and `auc_high` of a logistic regression that tells the first set from the second.

    Each row is scored by a classifier that has not seen it (Lopez-Paz and Oquab, 2017, arXiv 1610.06545). Empty if a
    set has fewer rows than there are folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if min(len(first), len(second)) < _FOLDS:
        return {}
    sides = np.repeat([1, 0], [len(first), len(second)])
    # Balanced weights: the intercept of a fold would otherwise follow its shares, which then rank rows across folds.
    classifier = LogisticRegression(class_weight="balanced", max_iter=2000)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=SEED)
    vectors = np.concatenate([first, second])
    scores = cross_val_predict(classifier, vectors, sides, cv=folds, method="predict_proba")
    auc = estimate_metrics(sides, scores[None], draw_resamples(sides, None), ordinal=False, names=["auc"])
    return summarise_estimates(auc, confidence)


def measure_distance(first: Floats, second: Floats, confidence: float) -> dict[str, float]:
    """Measure the maximum mean discrepancy, and test it by permutation (Gretton et al., 2012, JMLR 13).

    The kernel is Gaussian; its width is the median distance of all pairs. `mmd2` is the unbiased estimate of the
    square, which may fall below 0, and `mmd2_chance` is the value that it stays below by chance, at the confidence.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    squares = euclidean_distances(np.concatenate([first, second]), squared=True)
    median = float(np.median(squares[np.triu_indices(len(squares), 1)]))
    kernel = np.exp(-squares / (2 * median)) if median else np.ones_like(squares)
    np.fill_diagonal(kernel, 0.0)
    sides = np.arange(len(kernel)) < len(first)
    shuffled = np.random.default_rng(SEED).permuted(np.tile(sides, (_SHUFFLES, 1)), axis=1)
    own = np.concatenate([sides[None], shuffled]).astype(np.float64)
    reached, n, m = own @ kernel, len(first), len(second)
    within, across = (reached * own).sum(axis=1), (reached * (1 - own)).sum(axis=1)
    others = kernel.sum() - within - 2 * across
    distances = within / (n * (n - 1)) + others / (m * (m - 1)) - 2 * across / (n * m)
    p = (distances >= distances[0]).sum() / (1 + _SHUFFLES)
    values = {"mmd2": distances[0], "mmd2_chance": np.quantile(distances[1:], confidence), "mmd2_p": p}
    return {name: round(float(value), 4) for name, value in values.items()}


def split_words(text: str) -> list[str]:
    """Split a text into its words, case-folded."""
    return _WORD.findall(text.casefold())


def measure_distinct(texts: Iterable[str], size: int, *, most: int | None = None) -> float:
    """Return distinct-n: the share of distinct runs among all runs of `size` words (Li et al., 2016); 0 to 1.

    It falls as texts are added, so only measures over equally many words can be compared: `most` words are read.
    """
    runs: list[tuple[str, ...]] = []
    for words in map(split_words, texts):
        runs += zip(*(words[:most][start:] for start in range(size)), strict=False)
        most = None if most is None else max(0, most - len(words))
    return len(set(runs)) / len(runs) if runs else 0.0


def measure_foreign(texts: Sequence[str], others: Sequence[str] | None = None) -> float:
    """Return the share of the texts' words that occur in none of the others; without others, in no other text."""
    holders = Counter(word for text in (texts if others is None else others) for word in set(split_words(text)))
    words = [word for text in texts for word in split_words(text)]
    return sum(holders[word] <= (others is None) for word in words) / len(words) if words else 0.0


def measure_likeness(texts: Sequence[str]) -> Floats:
    """Return the Jaccard similarity of the character 5-grams of every two texts [texts, texts]."""
    from sklearn.feature_extraction.text import CountVectorizer

    grams = CountVectorizer(analyzer=cut_grams, binary=True, dtype=np.int32).fit_transform(texts)
    shared, sizes = (grams @ grams.T).toarray(), np.asarray(grams.sum(axis=1))
    return np.asarray(shared / (sizes + sizes.T - shared))


def average_similarity(likeness: Floats, labels: Sequence[str]) -> float:
    """Return the mean similarity over all pairs of texts with the same label ("" is none); 0 without a pair."""
    names = np.array(labels, dtype=object)
    pairs = likeness[np.triu((names[:, None] == names) & (names != ""), 1)]
    return float(pairs.mean()) if pairs.size else 0.0
