"""How alike texts are: Jaccard similarity of their character 5-grams, all pairs at once."""

from collections.abc import Sequence

import numpy as np

from amalgam.evaluation.metrics import Floats
from amalgam.synthesis.neighbours import cut_grams


def measure_likeness(texts: Sequence[str], others: Sequence[str]) -> Floats:
    """Return the similarity of each text and each other one [texts, others]; 0 to 1."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(analyzer=cut_grams, binary=True, dtype=np.int32)
    grams = vectorizer.fit_transform([*texts, *others])
    first, second = grams[: len(texts)], grams[len(texts) :]
    shared = (first @ second.T).toarray()
    sizes = np.asarray(first.sum(axis=1)) + np.asarray(second.sum(axis=1)).T
    return np.asarray(shared / (sizes - shared))


def measure_similarity(texts: Sequence[str], labels: Sequence[str]) -> float:
    """Return the mean similarity over all pairs of texts with the same label; 0 to 1."""
    groups = [[text for text, one in zip(texts, labels, strict=True) if one == label] for label in sorted(set(labels))]
    pairs = [measure_likeness(group, group)[np.triu_indices(len(group), 1)] for group in groups]
    found = np.concatenate(pairs) if pairs else np.zeros(0)
    return float(found.mean()) if len(found) else 0.0


def find_nearest(texts: Sequence[str], others: Sequence[str]) -> Floats:
    """Return the similarity of each text to the nearest of the others [texts]."""
    return np.asarray(measure_likeness(texts, others).max(axis=1, initial=0.0))


def find_nearest_other(texts: Sequence[str]) -> Floats:
    """Return the similarity of each text to the nearest one but itself [texts]."""
    likeness = measure_likeness(texts, texts)
    np.fill_diagonal(likeness, 0.0)
    return np.asarray(likeness.max(axis=1, initial=0.0))
