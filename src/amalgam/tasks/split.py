"""Dividing a task's rows into train, validation, test and unlabelled.

Rows are drawn in the order of a hash of their ids, so the split depends on the ids, never on the order of a file.
The test set is drawn first and depends on `test`, `by` and `seed` alone. Human rows are drawn one after the other by
rules that look back but never ahead: a larger `human_rows` only adds rows to the same train and validation sets.

A split by time tests on the future: the test rows are the last ones, and nothing that was written at or after the
first of them is in any other set.
"""

import hashlib
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice

import pandas as pd

from amalgam.errors import DataError
from amalgam.tasks.texts import fold_text, parse_times

MIN_TRAIN, MIN_VALIDATION = 2, 1  # rows of each label, without which nothing can be learnt or chosen
TRAIN, VALIDATION = "train", "validation"
_KEYS = ["_text", "_unit"]
_LEAST = MIN_TRAIN + MIN_VALIDATION
_LEAST_TEST = 10  # rows, which params.yaml allows


class _LackError(DataError):
    """The rows do not suffice; with another number of test rows they may."""


def split_rows(
    rows: pd.DataFrame,
    *,
    human_rows: int,
    test: int,
    validation: float,
    unlabelled: int,
    seed: int,
    by: str = "random",
    texts: pd.DataFrame | None = None,
) -> dict[str, pd.DataFrame]:
    """Divide coded rows, stratified by label; equal texts and rows of one group stay on one side.

    Args:
        rows: id, text, question, label, and group where the task has one; ids differ.
        human_rows: rows of train and validation together.
        test: rows of the test set, but never more than half of all.
        validation: share of `human_rows` that becomes the validation set.
        unlabelled: most rows of the unlabelled set, which takes what remains.
        seed: draws the order.
        by: `random`, or `time` for a test set of the last rows by their column `time`.
        texts: more texts for the unlabelled set: id, text, question, and group where known. In a split by time they
            are left out, as nothing says when they were written.

    Returns:
        `train`, `validation` and `test` with the columns of `rows`, `unlabelled` with id, text and question; each
        in the order drawn. What remains of a group is unlabelled if the group is in train, else it is not used.

    Raises:
        DataError: if the rows do not suffice, or have no time where the split is by time; it names the key to change.
    """
    keyed = _add_keys(rows)
    draw = partial(_draw_sets, keyed, human_rows=human_rows, validation=validation, seed=seed, by=by)
    size = min(test, len(rows) // 2)
    try:
        tested, pool, trained, validated = draw(size)
    except _LackError as error:
        raise DataError(f"{error}{_advise_test(draw, size, len(rows) // 2)}") from None
    rest = pool.drop([*trained.index, *validated.index])
    if texts is not None and len(texts) and by == "random":
        rest = pd.concat([rest, _take_apart(_add_keys(texts), tested)], ignore_index=True)
        rest = _sort(rest, keys="id", salt=f"{seed}/human")
    free = _take_apart(rest, validated)
    free = free[~free["_text"].isin(trained["_text"]) & ~free["_text"].duplicated()].head(unlabelled)
    tables = {TRAIN: trained, VALIDATION: validated, "test": tested}
    cut = {name: table[list(rows)].reset_index(drop=True) for name, table in tables.items()}
    return {**cut, "unlabelled": free[["id", "text", "question"]].reset_index(drop=True)}


def keep_apart(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that share neither text nor group with any of the others."""
    return _take_apart(_add_keys(rows), _add_keys(others)).drop(columns=_KEYS)


def allot(counts: dict[str, int], least: int) -> Iterator[str]:
    """Yield labels without end, so that every prefix has them in the proportion of `counts`.

    Each first comes `least` times; then the divisor method of Webster and Sainte-Laguë decides, in which
    a longer prefix never takes a place away from a label.
    """
    given = dict.fromkeys(counts, 0)
    while True:
        label = min(given, key=lambda name: (given[name] >= least, (2 * given[name] + 1) / counts[name]))
        given[label] += 1
        yield label


def _add_keys(rows: pd.DataFrame) -> pd.DataFrame:
    texts = rows["text"].map(fold_text)
    groups = rows["group"] if "group" in rows else pd.Series("", index=rows.index)
    # A row without a group makes one with the rows of the same text.
    units = ("group:" + groups).where(groups != "", "text:" + texts)
    return rows.assign(_text=texts, _unit=units).reset_index(drop=True)


def _take_apart(keyed: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    return keyed[~keyed["_text"].isin(others["_text"]) & ~keyed["_unit"].isin(others["_unit"])]


def _sort(rows: pd.DataFrame, keys: str, salt: str) -> pd.DataFrame:
    hashes = rows[keys].map(lambda key: hashlib.sha256(f"{salt}/{key}".encode()).hexdigest())
    return rows.loc[hashes.sort_values(kind="stable").index]


def _part_times(keyed: pd.DataFrame, size: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows before some point in time, and those from then on, which are at least `size`."""
    if "time" not in keyed:
        raise DataError(
            "`split.by` is time, but the task has no `columns.time`: add it to task.yaml, or set it to random"
        )
    times = parse_times(keyed)
    if times.isna().any():
        name = keyed["id"][times.isna()].iloc[0]
        raise DataError(f"`split.by` is time, but the row {name} has none: fill it in, or set `split.by` to random")
    future = times >= times.sort_values().iloc[-size]
    missing = sorted(set(keyed["label"]) - set(keyed["label"][future]))
    if missing:
        raise _LackError(
            f"`split.by` is time, but none of the last {int(future.sum())} rows is coded '{missing[0]}': "
            "set `split.by` to random"
        )
    return keyed[~future], keyed[future]


def _draw_sets(
    keyed: pd.DataFrame, size: int, *, human_rows: int, validation: float, seed: int, by: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the test rows, what others may be drawn from, and of these the train and the validation rows."""
    past, future = _part_times(keyed, size) if by == "time" else (keyed, keyed)
    tested = _draw_test(future, size, seed)
    pool = _sort(_take_apart(past, tested), keys="id", salt=f"{seed}/human")
    every, left = Counter(keyed["label"]), Counter(pool["label"])
    counts = {label: left[label] for label in sorted(every)}
    _check_budget(counts, dict(every), human_rows, size)
    return tested, pool, *_draw_human(pool, counts, human_rows, validation)


def _draw_test(keyed: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    salt = f"{seed}/test"
    counts = dict(sorted(Counter(keyed["label"]).items()))
    wanted = Counter(islice(allot(counts, 1), size))
    grouped = keyed["_unit"].str.startswith("group:")
    by_id = _sort(keyed.assign(_draw=keyed["_unit"].where(grouped, keyed["id"])), keys="id", salt=salt)
    places: list[int] = []
    # Whole groups one after the other, so that as few as possible are lost to the other sets.
    for _, unit in _sort(by_id, keys="_draw", salt=salt).groupby("_unit", sort=False):
        for place, label in zip(unit.index.tolist(), unit["label"], strict=True):
            if wanted[label]:
                wanted[label] -= 1
                places.append(place)
        if not wanted.total():
            break
    return keyed.loc[places]


def _draw_human(
    pool: pd.DataFrame, counts: dict[str, int], size: int, validation: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    draw = _Draw(pool, list(counts))
    for label in allot(counts, _LEAST):
        if len(draw.sides) == size or not draw.open_labels:
            break
        total = draw.taken[label, TRAIN] + draw.taken[label, VALIDATION] + 1
        wanted = VALIDATION if draw.taken[label, VALIDATION] < _count_validation(total, validation) else TRAIN
        if not (draw.take(label, wanted) or draw.take(label, TRAIN if wanted == VALIDATION else VALIDATION)):
            draw.open_labels.discard(label)
    for label in counts:
        trained, validated = draw.taken[label, TRAIN], draw.taken[label, VALIDATION]
        if trained < MIN_TRAIN or validated < MIN_VALIDATION:
            raise _LackError(
                f"`human_rows` gives the label '{label}' {trained} train and {validated} validation rows, but it needs "
                f"{MIN_TRAIN} and {MIN_VALIDATION}, of different groups and texts: add such rows"
            )
    if len(draw.sides) < size:
        raise _LackError(
            f"`human_rows` is {size}, but only {len(draw.sides)} rows can be had beside the test set: "
            f"lower it to at most {len(draw.sides)}"
        )
    return pool.loc[draw.list_places(TRAIN)], pool.loc[draw.list_places(VALIDATION)]


class _Draw:
    """Rows drawn so far, and the side that each text and group is bound to by them."""

    def __init__(self, pool: pd.DataFrame, labels: list[str]) -> None:
        self.sides: dict[int, str] = {}  # by place, in the order drawn
        self.taken: Counter[tuple[str, str]] = Counter()
        self.open_labels = set(labels)
        self._bound: dict[tuple[int, str], str] = {}
        self._keys = {place: tuple(enumerate(keys)) for place, *keys in pool[_KEYS].itertuples(name=None)}
        places = {label: pool.index[pool["label"] == label] for label in labels}
        self._queues = {(label, side): deque(places[label]) for label in labels for side in (TRAIN, VALIDATION)}

    def take(self, label: str, side: str) -> bool:
        """Draw the next row of a label whose text and group are not bound to the other side; False if none is left."""
        queue = self._queues[label, side]
        while queue:
            place = queue.popleft()  # for good: a row that is taken or bound elsewhere stays so
            keys = self._keys[place]
            if place not in self.sides and all(self._bound.get(key, side) == side for key in keys):
                self.sides[place] = side
                self._bound |= dict.fromkeys(keys, side)
                self.taken[label, side] += 1
                return True
        return False

    def list_places(self, side: str) -> list[int]:
        return [place for place, drawn in self.sides.items() if drawn == side]


def _count_validation(rows: int, share: float) -> int:
    """Return how many of the first rows of a label validate; never falls, nor rises by more than one a row."""
    return max(MIN_VALIDATION, min(math.floor(share * rows + 0.5), rows - MIN_TRAIN))


def _check_budget(pool: dict[str, int], counts: dict[str, int], size: int, test: int) -> None:
    need = f"{MIN_TRAIN} train rows and {MIN_VALIDATION} validation row"
    if size < _LEAST * len(pool):
        raise DataError(
            f"`human_rows` is {size}, but must be at least {_LEAST * len(pool)}: "
            f"each of the {len(pool)} labels needs {need}"
        )
    for label, count in pool.items():
        if count < _LEAST:
            more = _count_missing(counts, label, test)
            wanted = f"at least {more} more rows so" if more else "more rows so, of other groups, texts or times"
            raise _LackError(
                f"`human_rows` cannot be met: outside the test set the label '{label}' has {count} rows, but needs "
                f"{need}; code {wanted}"
            )


def _count_missing(counts: dict[str, int], label: str, test: int) -> int:
    """Count the rows that a label lacks; 0 where there are enough, but their groups, texts or times are in the way."""
    more = 0
    while True:
        grown = dict(sorted({**counts, label: counts[label] + more}.items()))
        drawn = Counter(islice(allot(grown, 1), min(test, sum(grown.values()) // 2)))
        if grown[label] - drawn[label] >= _LEAST:
            return more
        more += 1


def _advise_test(draw: Callable[[int], object], size: int, most: int) -> str:
    """Name a number of test rows with which the draw succeeds, the nearest of some; nothing where there is none."""
    fewer = [max(_LEAST_TEST, size * tenths // 10) for tenths in range(9, 0, -1)]
    more = [size + (most - size) * tenths // 10 for tenths in range(1, 11)]
    for other in dict.fromkeys([*fewer, *more]):
        with suppress(_LackError):
            draw(min(other, most))
            return f", or set `split.test` to {other}"
    return ""
