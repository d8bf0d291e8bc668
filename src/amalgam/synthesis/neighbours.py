"""Near-duplicate search that does not compare every text with every other one.

Two texts are as near as the Jaccard similarity of their character 5-grams. `NearIndex` finds every text near one of
a few thousand; `NearStream` finds most of what is near among any number of texts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from math import ceil
from typing import TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

_GRAM = 5  # characters; long enough to be typical of a phrase, short enough to survive a changed word
_RAREST = 16  # rare grams that two long texts must share to be compared; fewer let many through that are far apart
_PERMUTATIONS = 128
_SEED = 1
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits look random: multiplying by it spreads values over 64 bits
# Where a great many kept texts are alike, but not alike enough to be duplicates, each new text would be compared with
# all of them. These bounds keep the work in proportion to the number of texts.
_MOST_IN_BAND = 100  # candidates that one band proposes, the last ones kept
_MOST_COMPARED = 50  # candidates that are compared, those that share most bands

Grams: TypeAlias = frozenset[str]
Bands: TypeAlias = npt.NDArray[np.uint64]  # [texts, bands]


class NearIndex:
    """A few thousand texts, to all of which others are compared: what is near one of them is always found.

    Two texts as near as the threshold have many grams in common, and the rarest ones of each cannot all be among the
    grams that they do not share (prefix filter: Bayardo, Ma and Srikant 2007, Scaling up all pairs similarity search;
    of several grams: Wang, Li and Feng 2012, Can we beat the prefix filtering?).
    """

    def __init__(self, threshold: float, names: Iterable[str], texts: Iterable[str]) -> None:
        """Take the texts and their names; `threshold` is above 0 and at most 1."""
        self._threshold = threshold
        self._grams = {name: cut_grams(text) for name, text in zip(names, texts, strict=True)}
        counts = Counter(chain.from_iterable(self._grams.values()))
        self._ranks = {gram: rank for rank, gram in enumerate(sorted(counts, key=lambda gram: (counts[gram], gram)))}
        self._least = {name: self._count_rarest(grams) for name, grams in self._grams.items()}
        self._names: dict[int, list[str]] = {}
        for name, grams in self._grams.items():
            for rank in self._list_rarest(grams):
                self._names.setdefault(rank, []).append(name)

    def find(self, grams: Grams) -> str:
        """Return the name of the most similar text at or above the threshold, or ""."""
        least = self._count_rarest(grams)
        found = Counter(chain.from_iterable(self._names.get(rank, ()) for rank in self._list_rarest(grams)))
        near = sorted(name for name, count in found.items() if count >= least or count >= self._least[name])
        return _find_nearest(grams, [(name, self._grams[name]) for name in near], self._threshold)

    def _list_rarest(self, grams: Grams) -> list[int]:
        """List as many of a text's rarest grams, by rank, as make sure that a near text shares `_count_rarest` of them.

        Rarest of all, and left out, are the grams that no text of the index has.
        """
        ranks = [self._ranks[gram] for gram in grams if gram in self._ranks]
        wanted = len(ranks) - self._count_shared(grams) + self._count_rarest(grams)
        return sorted(ranks)[:wanted] if wanted > 0 else []

    def _count_rarest(self, grams: Grams) -> int:
        return min(_RAREST, self._count_shared(grams))

    def _count_shared(self, grams: Grams) -> int:
        """Count the grams that a text shares, at least, with each that is near."""
        return ceil(self._threshold * len(grams) - 1e-9)


class NearStream:
    """Texts that come in a known order, of which the first of several near ones is kept.

    MinHash with locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
    chapter 3) proposes candidates: texts whose sketches agree in a whole band. The exact similarity decides. All
    bands must be known beforehand: most texts share none with any other, and of those nothing is held.
    """

    def __init__(self, threshold: float, bands: Sequence[Bands]) -> None:
        """Take the bands of all texts in order, in arrays of some texts each."""
        self._threshold = threshold
        columns = bands[0].shape[1] if bands else 0
        rows = sum(map(len, bands))
        # A group is the texts that share a band; -1 is none. `_last` is the text of a group that was kept last, and
        # `_before` leads from a kept text to the one kept before it: lists as Python has them would need gigabytes.
        self._groups = np.full((rows, columns), -1, dtype=np.int32)
        groups = 0
        for column in range(columns):
            numbers = number_repeated(np.concatenate([part[:, column] for part in bands]))
            self._groups[:, column] = np.where(numbers < 0, -1, numbers + groups)
            groups += int(numbers.max(initial=-1)) + 1
        self._last = np.full(groups, -1, dtype=np.int32)
        self._before = np.full((rows, columns), -1, dtype=np.int32)
        self._kept: dict[int, tuple[str, str]] = {}

    def find(self, row: int, grams: Grams) -> str:
        """Return the name of the most similar text among those kept so far, at or above the threshold, or ""."""
        shared: Counter[int] = Counter()
        for column, group in self._list_groups(row):
            shared.update(islice(self._walk(column, group), _MOST_IN_BAND))
        chosen = sorted(shared, key=lambda other: (-shared[other], other))[:_MOST_COMPARED]
        others = (self._kept[other] for other in chosen)
        return _find_nearest(grams, [(name, _cut_again(text)) for name, text in others], self._threshold)

    def keep(self, row: int, name: str, text: str) -> None:
        """Keep the text of a row, so that later ones are compared with it."""
        groups = self._list_groups(row)
        for column, group in groups:
            self._before[row, column] = self._last[group]
            self._last[group] = row
        if groups:
            self._kept[row] = (name, text)

    def _list_groups(self, row: int) -> list[tuple[int, int]]:
        return [(column, group) for column, group in enumerate(self._groups[row].tolist()) if group >= 0]

    def _walk(self, column: int, group: int) -> Iterator[int]:
        row = int(self._last[group])
        while row >= 0:
            yield row
            row = int(self._before[row, column])


class Sketcher:
    """Makes the bands by which a `NearStream` finds candidates."""

    def __init__(self, threshold: float) -> None:
        """Choose bands for the Jaccard similarity `threshold`, above 0 and at most 1."""
        # A lower threshold for candidates loses fewer true pairs; the exact check takes the others out.
        chosen = MinHashLSH(threshold=max(0.9 * threshold, 0.05), num_perm=_PERMUTATIONS)
        self._bands, self._rows = int(chosen.b), int(chosen.r)
        self._empty = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, hashfunc=crc32)

    def hash_bands(self, texts: Sequence[str]) -> Bands:
        """Return a hash of each band of each text's sketch."""
        digests = np.empty((len(texts), self._bands * self._rows), dtype=np.uint64)
        for number, text in enumerate(texts):
            sketch = self._empty.copy()
            sketch.update_batch([gram.encode() for gram in cut_grams(text)])
            digests[number] = sketch.hashvalues[: digests.shape[1]]
        parts = digests.reshape(len(texts), self._bands, self._rows)
        hashes = np.zeros((len(texts), self._bands), dtype=np.uint64)
        for row in range(self._rows):
            hashes = (hashes ^ parts[:, :, row]) * _MIX
        return hashes


def number_repeated(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """Give each value that occurs more than once a number, from 0 on; -1 stands for the others."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    repeated = counts > 1
    numbers = np.where(repeated, np.cumsum(repeated) - 1, -1).astype(np.int32)
    return numbers[places]


def cut_grams(text: str) -> Grams:
    """Cut a text into its character 5-grams, case and blanks folded; a shorter text is one gram."""
    folded = " ".join(text.casefold().split())
    return frozenset(folded[start : start + _GRAM] for start in range(max(len(folded) - _GRAM + 1, 1)))


# Texts that are alike are compared with the same ones again and again.
_cut_again = lru_cache(maxsize=1000)(cut_grams)


def _find_nearest(grams: Grams, others: Sequence[tuple[str, Grams]], threshold: float) -> str:
    """Return the name of the most similar other text, the first of several; "" where none reaches the threshold."""
    shared = [(len(grams & other), len(other)) for _, other in others]
    similarities = [both / (len(grams) + size - both) for both, size in shared]
    best = max(similarities, default=0.0)
    return others[similarities.index(best)][0] if best >= threshold else ""
