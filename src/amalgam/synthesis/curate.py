"""Curation: which of the LLM's responses become synthetic rows, and why the others do not.

The similarity of two texts is the Jaccard similarity of their character 5-grams. Every response near a human-coded row
is found. So are most near pairs among the responses, however many there are, without comparing each with every other.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from amalgam.tasks.texts import fold_text

_FAULTS = ("error", "refusal", "cut_off", "thinking", "announcement", "empty", "malformed")  # of answers
_REJECTS = ("exact_duplicate", "copies_shot", "near_validation_or_test", "near_duplicate", "inconsistent", "ungraded")
REASONS = _FAULTS + _REJECTS
CHUNK = 2000  # texts that are compared or sketched at once
_GRAM = 5  # characters; long enough to be typical of a phrase, short enough to survive a changed word
_PERMUTATIONS = 128
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, with random-looking bits: multiplying by it spreads values over 64 bits
# Many kept texts may be similar but not duplicates. These bounds keep the work proportional to the number of texts.
_MOST_IN_BAND = 100  # candidates from one band: the rows kept last
_MOST_COMPARED = 50  # candidates that are compared: those that share the most bands

Grams: TypeAlias = frozenset[str]
Bands: TypeAlias = NDArray[np.uint64]


def find_rejects(
    responses: pd.DataFrame, doubts: pd.Series, *, shots: pd.DataFrame, held_out: pd.DataFrame, threshold: float
) -> pd.DataFrame:
    """Decide on every response: `reason` is "" if it is kept, else one of `REASONS`; `detail` is the row it matches.

    The first of several equal or near-equal responses is kept. `doubts` are the consistency check's reasons against
    responses, "" if there are none. No kept response is near one of the rows `shots` or `held_out` (id, text).
    """
    usable = responses.index[responses["fault"] == ""]
    texts = responses["text"][usable].tolist()
    finders = [_prepare_finder(rows, threshold) for rows in (shots, held_out)]
    # A lower threshold for candidates loses fewer true pairs; the exact similarity removes the false ones.
    shape = MinHashLSH(threshold=max(0.9 * threshold, 0.05), num_perm=_PERMUTATIONS)
    bands = np.empty((len(texts), shape.b), dtype=np.uint64)
    copies: dict[int, tuple[str, str]] = {}  # the names of the near shot and the near held-out row, if any
    for start in range(0, len(texts), CHUNK):
        grams = [cut_grams(text) for text in texts[start : start + CHUNK]]
        bands[start : start + CHUNK] = _hash_bands(grams, shape.b, shape.r)
        pairs = enumerate(zip(*(find(grams) for find in finders), strict=True), start)
        copies |= {row: pair for row, pair in pairs if any(pair)}
    kept = _Kept(bands, texts, threshold)
    names, reasons, details = responses["id"][usable].tolist(), doubts[usable].tolist(), [""] * len(texts)
    seen: dict[bytes, int] = {}  # by a hash of the folded text: the row that is kept
    for row, text in enumerate(texts):
        folded = blake2b(fold_text(text).encode(), digest_size=16).digest()
        if folded in seen:
            reasons[row], details[row] = "exact_duplicate", names[seen[folded]]
        elif row in copies:
            shot, held = copies[row]
            reasons[row], details[row] = ("copies_shot", shot) if shot else ("near_validation_or_test", held)
        elif (near := kept.find(row)) is not None:
            reasons[row], details[row] = "near_duplicate", names[near]
        elif not reasons[row]:
            seen[folded] = row
            kept.add(row)
    found = pd.DataFrame({"reason": responses["fault"], "detail": ""}, dtype=object)
    found.loc[usable, "reason"], found.loc[usable, "detail"] = reasons, details
    return found


def summarise_curation(curated: pd.DataFrame, totals: Mapping[str, Any]) -> dict[str, Any]:
    """Count kept and rejected responses (label, reason); `totals` is the summary of `data/completions/`."""
    reasons = curated["reason"].value_counts()
    kept = (curated["reason"] == "").groupby(curated["label"]).sum()
    return {
        "completions": totals["answers"],
        "asked_again": totals["asked_again"],
        "responses": len(curated),
        "kept": int(reasons.get("", 0)),
        "rejected": {reason: int(reasons.get(reason, 0)) for reason in REASONS},
        "kept_by_label": {str(label): int(count) for label, count in kept.items()},
        **{name: totals[name] for name in ("prompt_tokens", "completion_tokens", "cost_usd")},
    }


def cut_grams(text: str) -> Grams:
    """Cut a text into its character 5-grams, case and blanks folded; a shorter text is one gram."""
    folded = " ".join(text.casefold().split())
    return frozenset(folded[start : start + _GRAM] for start in range(max(len(folded) - _GRAM + 1, 1)))


_cut_again = lru_cache(maxsize=1000)(cut_grams)  # similar texts are compared with the same texts again and again


def _prepare_finder(rows: pd.DataFrame, threshold: float) -> Callable[[Sequence[Grams]], list[str]]:
    """Return a function that finds the id of the row most similar to each text, or "" if none is near."""
    from sklearn.feature_extraction.text import CountVectorizer

    if rows.empty:
        return lambda texts: [""] * len(texts)
    names, known = zip(*sorted(zip(rows["id"], rows["text"], strict=True)), strict=True)
    vectorizer = CountVectorizer(analyzer=list, dtype=np.int32)
    counts = vectorizer.fit_transform([cut_grams(text) for text in known])
    sizes = np.asarray(counts.sum(axis=1)).ravel()

    def find(texts: Sequence[Grams]) -> list[str]:
        shared = (vectorizer.transform(texts) @ counts.T).toarray()
        similarities = shared / (np.array([[len(text)] for text in texts]) + sizes - shared)
        near = similarities.max(axis=1) >= threshold
        return [names[best] if is_near else "" for best, is_near in zip(similarities.argmax(1), near, strict=True)]

    return find


def _hash_bands(texts: Sequence[Grams], bands: int, length: int) -> Bands:
    """Sketch texts by MinHash (Broder 1997), and hash each band of `length` values of each sketch [texts, bands]."""
    empty = MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=crc32)
    digests = np.empty((len(texts), bands * length), dtype=np.uint64)
    for number, grams in enumerate(texts):
        sketch = empty.copy()
        sketch.update_batch([gram.encode() for gram in grams])
        digests[number] = sketch.hashvalues[: bands * length]
    hashes = np.tile(np.arange(bands, dtype=np.uint64), (len(texts), 1))
    for place in range(length):
        hashes = (hashes ^ digests[:, place::length]) * _MIX
    return hashes


class _Kept:
    """The kept texts by the bands that several texts share; a `MinHashLSH` would hold kilobytes per text."""

    def __init__(self, bands: Bands, texts: Sequence[str], threshold: float) -> None:
        self._bands, self._texts, self._threshold = bands, texts, threshold
        self._shared = np.stack([pd.Series(column).duplicated(keep=False) for column in bands.T], axis=1)
        self._rows: dict[int, list[int]] = {}  # by band: the rows kept last

    def find(self, row: int) -> int | None:
        """Return the row with the most similar text of those kept so far, or None if none reaches the threshold."""
        found = Counter(other for band in self._list_shared(row) for other in self._rows.get(band, ()))
        if not found:
            return None
        grams = cut_grams(self._texts[row])
        near = sorted(found, key=lambda other: (-found[other], other))[:_MOST_COMPARED]
        others = {other: _cut_again(self._texts[other]) for other in near}
        similarities = {other: len(grams & kept) / len(grams | kept) for other, kept in others.items()}
        best = max(similarities, key=similarities.__getitem__)
        return best if similarities[best] >= self._threshold else None

    def add(self, row: int) -> None:
        """Keep the text of a row, so that later texts are compared with it."""
        for band in self._list_shared(row):
            rows = self._rows.setdefault(band, [])
            rows.append(row)
            del rows[:-_MOST_IN_BAND]

    def _list_shared(self, row: int) -> list[int]:
        return [*map(int, self._bands[row, self._shared[row]])]
