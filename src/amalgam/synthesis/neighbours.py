"""Near-duplicate search that does not compare every text with every other one.

Two texts are as near as the Jaccard similarity of their character 5-grams. `References` finds every text that is near
one of some thousand; `Stream` finds most of what is near among any number of texts.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import TypeAlias
from zlib import crc32

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

CHUNK = 2000  # texts that are compared or sketched at once
_GRAM = 5  # characters; long enough to be typical of a phrase, short enough to survive a changed word
_PERMUTATIONS = 128
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits look random: multiplying by it spreads values over 64 bits
# Many kept texts may be alike without being duplicates. These bounds keep the work proportional to the texts.
_MOST_IN_BAND = 100  # candidates that one band proposes, the last ones kept
_MOST_COMPARED = 50  # candidates that are compared, those that share most bands

Grams: TypeAlias = frozenset[str]


def cut_grams(text: str) -> Grams:
    """Cut a text into its character 5-grams, case and blanks folded; a shorter text is one gram."""
    folded = " ".join(text.casefold().split())
    return frozenset(folded[start : start + _GRAM] for start in range(max(len(folded) - _GRAM + 1, 1)))


_cut_again = lru_cache(maxsize=1000)(cut_grams)  # similar texts are compared with the same ones again and again


class References:
    """Some thousand texts; every text near one of them is found, by the product of two sparse matrices."""

    def __init__(self, threshold: float, names: Iterable[str], texts: Iterable[str]) -> None:
        """Count the grams of the named texts; `threshold` is above 0 and at most 1."""
        from sklearn.feature_extraction.text import CountVectorizer

        self._threshold = threshold
        named = sorted(zip(names, texts, strict=True))
        self._names = [name for name, _ in named]
        self._vectorizer = CountVectorizer(analyzer=list, dtype=np.int32)
        if named:
            self._counts = self._vectorizer.fit_transform([cut_grams(text) for _, text in named])
            self._sizes = np.asarray(self._counts.sum(axis=1)).ravel()

    def find(self, grams: Sequence[Grams]) -> list[str]:
        """Return for each text the name of the most similar reference at or above the threshold, or ""."""
        if not self._names or not grams:
            return [""] * len(grams)
        shared = (self._vectorizer.transform(grams) @ self._counts.T).toarray()
        similarities = shared / (np.array([[len(text)] for text in grams]) + self._sizes - shared)
        best = similarities.argmax(axis=1)
        near = similarities.max(axis=1) >= self._threshold
        return [self._names[place] if is_near else "" for place, is_near in zip(best, near, strict=True)]


class Stream:
    """Texts in a known order, of which the first of several near ones is kept; all are added before one is looked up.

    MinHash with locality-sensitive hashing (Broder 1997) proposes candidates: texts whose sketches agree in a whole
    band. The exact similarity decides. A `MinHashLSH` would hold kilobytes a text, this only the bands that are shared.
    """

    def __init__(self, threshold: float) -> None:
        """Choose bands for the Jaccard similarity `threshold`, above 0 and at most 1."""
        self._threshold = threshold
        # A lower threshold for candidates loses fewer true pairs; the exact similarity takes the others out.
        chosen = MinHashLSH(threshold=max(0.9 * threshold, 0.05), num_perm=_PERMUTATIONS)
        self._shape = int(chosen.b), int(chosen.r)
        self._empty = MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=crc32)
        self._parts: list[NDArray[np.uint64]] = []
        self._rows: dict[int, list[int]] = {}  # by band: the rows kept last
        self._kept: dict[int, tuple[str, str]] = {}

    def add(self, texts: Sequence[Grams]) -> None:
        """Sketch texts, and hash each band of each sketch."""
        bands, length = self._shape
        digests = np.empty((len(texts), bands * length), dtype=np.uint64)
        for number, grams in enumerate(texts):
            sketch = self._empty.copy()
            sketch.update_batch([gram.encode() for gram in grams])
            digests[number] = sketch.hashvalues[: bands * length]
        hashes = np.tile(np.arange(bands, dtype=np.uint64), (len(texts), 1))
        for place in range(length):
            hashes = (hashes ^ digests[:, place::length]) * _MIX
        self._parts.append(hashes)

    def find(self, row: int, text: str) -> str:
        """Return the name of the most similar text kept so far, at or above the threshold, or ""."""
        found = Counter(other for band in self._list_shared(row) for other in self._rows.get(band, ()))
        if not found:
            return ""
        grams = cut_grams(text)
        near = sorted(found, key=lambda other: (-found[other], other))[:_MOST_COMPARED]
        others = {self._kept[other][0]: _cut_again(self._kept[other][1]) for other in near}
        similarities = {name: len(grams & kept) / len(grams | kept) for name, kept in others.items()}
        best = max(similarities, key=similarities.__getitem__)
        return best if similarities[best] >= self._threshold else ""

    def keep(self, row: int, name: str, text: str) -> None:
        """Keep the text of a row, so that later ones are compared with it."""
        for band in self._list_shared(row):
            rows = self._rows.setdefault(band, [])
            rows.append(row)
            del rows[:-_MOST_IN_BAND]
            self._kept[row] = (name, text)

    @cached_property
    def _bands(self) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Return all bands [texts, bands], and which of them several texts have."""
        bands = np.concatenate(self._parts)
        self._parts.clear()
        return bands, np.stack([pd.Series(column).duplicated(keep=False) for column in bands.T], axis=1)

    def _list_shared(self, row: int) -> list[int]:
        bands, shared = self._bands
        return [*map(int, bands[row, shared[row]])]
