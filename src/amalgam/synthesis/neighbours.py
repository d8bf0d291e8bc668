"""Near-duplicate search that does not compare every text with every other one."""

from collections.abc import Iterable

from datasketch import MinHash, MinHashLSH

_GRAM = 5  # characters; long enough to be typical of a phrase, short enough to survive a changed word
_PERMUTATIONS = 128
_SEED = 1


class NearIndex:
    """Texts to which new ones are compared.

    MinHash with locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive
    Datasets, chapter 3) proposes candidates; the exact Jaccard similarity of character 5-grams decides.
    """

    def __init__(self, threshold: float) -> None:
        """Make an empty index for the Jaccard similarity `threshold`, above 0 and at most 1."""
        self._threshold = threshold
        # A lower threshold for candidates loses fewer true pairs; the exact check takes the others out.
        self._lsh = MinHashLSH(threshold=max(0.9 * threshold, 0.05), num_perm=_PERMUTATIONS)
        self._grams: dict[str, frozenset[str]] = {}

    def add(self, name: str, text: str) -> None:
        """Put a text into the index."""
        grams = cut_grams(text)
        self._grams[name] = grams
        self._lsh.insert(name, _sketch(grams))

    def add_all(self, names: Iterable[str], texts: Iterable[str]) -> None:
        """Put several texts into the index."""
        for name, text in zip(names, texts, strict=True):
            self.add(name, text)

    def find(self, text: str) -> str:
        """Return the name of the most similar text at or above the threshold, or ""."""
        grams = cut_grams(text)
        candidates = sorted(str(name) for name in self._lsh.query(_sketch(grams)))
        similar = [(_compare(grams, self._grams[name]), name) for name in candidates]
        similarity, name = max(similar, default=(0.0, ""))
        return name if similarity >= self._threshold else ""


def cut_grams(text: str) -> frozenset[str]:
    """Cut a text into its character 5-grams, case and blanks folded; a shorter text is one gram."""
    folded = " ".join(text.casefold().split())
    return frozenset(folded[start : start + _GRAM] for start in range(max(len(folded) - _GRAM + 1, 1)))


def _compare(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def _sketch(grams: frozenset[str]) -> MinHash:
    sketch = MinHash(num_perm=_PERMUTATIONS, seed=_SEED)
    sketch.update_batch([gram.encode() for gram in sorted(grams)])
    return sketch
