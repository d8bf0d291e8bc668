"""Lengths and words of texts: how long, how varied, and how foreign to other texts."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

_WORD = re.compile(r"\w+")


def split_words(text: str) -> list[str]:
    """Split a text into its words, case folded."""
    return _WORD.findall(text.casefold())


def measure_distinct(texts: Iterable[str], size: int, *, most: int | None = None) -> float:
    """Return distinct-n: the share of different ones among all runs of `size` words (Li et al., 2016); 0 to 1.

    It falls as texts are added, so that only measures over as many words can be compared: `most` words are read.
    """
    runs = [
        tuple(row[start : start + size])
        for row in _take_words(map(split_words, texts), most)
        for start in range(len(row) - size + 1)
    ]
    return len(set(runs)) / len(runs) if runs else 0.0


def measure_foreign(texts: Sequence[str], others: Sequence[str]) -> float:
    """Return the out-of-vocabulary rate: the share of the texts' words that occur in none of the others; 0 to 1."""
    known = {word for text in others for word in split_words(text)}
    words = [word for text in texts for word in split_words(text)]
    return sum(word not in known for word in words) / len(words) if words else 0.0


def measure_own(texts: Sequence[str]) -> float:
    """Return the share of the words of each text that occur in none of the other ones; 0 to 1."""
    rows = [split_words(text) for text in texts]
    holders = Counter(word for row in rows for word in set(row))
    words = [word for row in rows for word in row]
    return sum(holders[word] == 1 for word in words) / len(words) if words else 0.0


def _take_words(rows: Iterable[list[str]], most: int | None) -> Iterator[list[str]]:
    left = most
    for row in rows:
        yield row if left is None else row[:left]
        if left is not None:
            left -= len(row)
            if left <= 0:
                return
