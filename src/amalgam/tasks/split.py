"""Divide a task's rows into train, validation, test and unlabelled.

Rows are drawn in the order of a hash of their ids, never in file order. The test set is drawn first and depends only
on `test`, `by` and `seed`. Human rows are drawn by rules that look back but never ahead: a larger `human_rows` only
adds rows to the same train and validation sets. A split by time tests on the last rows, and no row that was written at
or after the first of them is in any other set.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Literal

import pandas as pd

from amalgam.errors import DataError
from amalgam.params import Split
from amalgam.tasks.columns import TRANSFER, TaskRows
from amalgam.tasks.personal import PERSONAL
from amalgam.tasks.texts import fold_text, name_units, parse_times

TRAIN, VALIDATION = "train", "validation"
_MIN_TRAIN, _MIN_VALIDATION = 2, 1  # rows that each label needs for learning and for choosing
_LEAST = _MIN_TRAIN + _MIN_VALIDATION
_LEAST_TEST = 10  # rows, the fewest that params.yaml allows
_MOST_HUMAN = 1000  # rows that a new task trains on, because training time grows with them
_KEYS = ["_text", "_unit"]


class _BudgetError(DataError):
    """There are only `most` rows for train and validation."""

    def __init__(self, wanted: int, most: int) -> None:
        super().__init__(
            f"`human_rows` is {wanted}, but only {most} rows are available outside the test set: "
            f"lower it to at most {most}, or lower `split.test`"
        )
        self.most = most


def split_rows(
    rows: pd.DataFrame,
    human_rows: int,
    split: Split,
    texts: pd.DataFrame | None = None,
    codes: pd.DataFrame | None = None,
) -> dict[str, pd.DataFrame]:
    """Divide coded rows, stratified by label; equal texts and rows of one group stay on one side.

    The test set is never more than half of all rows. Other rows of a group are unlabelled if the group is in train, and
    unused otherwise. Each set is in the order drawn.

    Args:
        rows: id, text, question, label, and group where the task has one; ids differ.
        human_rows: rows of train and validation together.
        split: sizes, and how the rows are drawn.
        texts: more texts for the unlabelled set: id, text, question, and group where known. In a split by time they
            are left out, because it is unknown when they were written.
        codes: text, question and label of rows that were unlabelled and are now coded. They move no other row: they are
            added at the end of the train set, on top of `human_rows`, unless they are now in or near another set.
    """
    keyed = _add_keys(rows)
    tested, pool, trained, validated = _draw_sets(keyed, human_rows, split, min(split.test, len(rows) // 2))
    rest = pool.drop([*trained.index, *validated.index])
    if texts is not None and len(texts) and split.by == "random":
        rest = pd.concat([rest, _take_apart(_add_keys(texts), tested)], ignore_index=True)
        rest = _sort(rest, keys="id", salt=f"{split.seed}/human")
    free = _take_apart(rest, validated)
    free = free[~free["_text"].isin(trained["_text"])]
    if codes is not None and len(codes):
        trained = pd.concat([trained, _take_coded(free, codes)])
        free = free[~free["_text"].isin(trained["_text"])]
    free = free[~free["_text"].duplicated()].head(split.unlabelled)
    tables = {TRAIN: trained, VALIDATION: validated, "test": tested}
    cut = {name: table[list(rows)].fillna("").reset_index(drop=True) for name, table in tables.items()}
    columns = ["id", "text", "question", *([PERSONAL] if PERSONAL in free else [])]
    return {**cut, "unlabelled": free[columns].fillna("").reset_index(drop=True)}


def split_task(loaded: TaskRows, codes: pd.DataFrame, human_rows: int, split: Split) -> dict[str, pd.DataFrame]:
    """Divide all rows of a task as params.yaml says, and add `transfer_test` if the task has such unseen rows."""
    tables = split_rows(loaded.main, human_rows, split, keep_apart(loaded.unlabelled, loaded.transfer), codes)
    if len(loaded.transfer):  # as unseen as a test row, whatever `human_rows` is
        tables[TRANSFER] = keep_apart(loaded.transfer, keep_apart(loaded.main, tables["test"]))
    return {name: table for name, table in tables.items() if len(table) or name != TRANSFER}


def choose_sizes(rows: pd.DataFrame, seed: int, by: Literal["random", "time"]) -> tuple[int, int, float]:
    """Choose the number of test rows and of human rows, and the validation share.

    Three in ten rows are test rows, 500 at most; the others are human rows, 1,000 at most. Validation takes a fifth of
    those, and no more than 200.
    """
    keyed, test = _add_keys(rows), min(max(round(0.3 * len(rows)), _LEAST_TEST), 500)
    labels, human = rows["label"].nunique(), min(len(rows) - test, _MOST_HUMAN)
    if human < _LEAST * labels:
        raise DataError(
            f"{len(rows)} coded rows are too few for {labels} labels: code at least {_LEAST_TEST + 2 * _LEAST * labels}"
        )
    while True:
        validation = min(0.2, round(200 / max(human, 1), 2))
        split = Split(seed=seed, by=by, test=test, validation=validation, unlabelled=0)
        try:
            _draw_sets(keyed, human, split, test)
        except _BudgetError as error:
            human = error.most
        else:
            return test, human, validation


def keep_apart(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that share neither text nor group with any of the others."""
    return _take_apart(_add_keys(rows), _add_keys(others)).drop(columns=_KEYS)


def allot(counts: dict[str, int], least: int) -> Iterator[str]:
    """Yield labels without end, so that every prefix has them in proportion to `counts`.

    Each label first comes `least` times; then the divisor method of Webster and Sainte-Laguë decides, in which
    a longer prefix never takes a place away from a label.
    """
    given = dict.fromkeys(counts, 0)
    while True:
        label = min(given, key=lambda name: (given[name] >= least, (2 * given[name] + 1) / counts[name]))
        given[label] += 1
        yield label


def _add_keys(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(_text=rows["text"].map(fold_text), _unit=name_units(rows)).reset_index(drop=True)


def _take_apart(keyed: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    return keyed[~keyed["_text"].isin(others["_text"]) & ~keyed["_unit"].isin(others["_unit"])]


def _take_coded(free: pd.DataFrame, codes: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have a code, with that label, in the order of the codes."""
    keys = ["_text", "question"]
    coded = codes.assign(_text=codes["text"].map(fold_text))[[*keys, "label"]]
    return coded.merge(free.drop(columns="label", errors="ignore").drop_duplicates(keys), on=keys)


def _sort(rows: pd.DataFrame, keys: str, salt: str) -> pd.DataFrame:
    hashes = rows[keys].map(lambda key: hashlib.sha256(f"{salt}/{key}".encode()).hexdigest())
    return rows.loc[hashes.sort_values(kind="stable").index]


def _draw_sets(
    keyed: pd.DataFrame, human_rows: int, split: Split, size: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return `size` test rows, the pool for the other sets, and the train and validation rows from this pool."""
    past, future = _part_times(keyed, size) if split.by == "time" else (keyed, keyed)
    tested = _draw_test(future, size, split.seed)
    pool = _sort(_take_apart(past, tested), keys="id", salt=f"{split.seed}/human")
    counts = {label: int((pool["label"] == label).sum()) for label in sorted(set(keyed["label"]))}
    _check_budget(counts, human_rows)
    return tested, pool, *_draw_human(pool, counts, human_rows, split.validation)


def _part_times(keyed: pd.DataFrame, size: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows before some point in time, and the rows from then on, which are at least `size`."""
    if "time" not in keyed:
        raise DataError("`split.by` is time, but the task has no `columns.time`: add it, or set `split.by` to random")
    times = parse_times(keyed)
    if times.isna().any():
        name = keyed["id"][times.isna()].iloc[0]
        raise DataError(f"`split.by` is time, but the row {name} has no time: fill it in, or set `split.by` to random")
    future = times >= times.sort_values().iloc[-size]
    if missing := sorted(set(keyed["label"]) - set(keyed["label"][future])):
        raise DataError(
            f"`split.by` is time, but none of the last {int(future.sum())} rows is coded '{missing[0]}': "
            "raise `split.test`, or set `split.by` to random"
        )
    return keyed[~future], keyed[future]


def _draw_test(keyed: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    salt = f"{seed}/test"
    wanted = Counter(islice(allot(dict(sorted(Counter(keyed["label"]).items())), 1), size))
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
    keys = {place: tuple(enumerate(keys)) for place, *keys in pool[_KEYS].itertuples(name=None)}
    places = {label: pool.index[pool["label"] == label] for label in counts}
    # A row that is passed over stays taken or bound elsewhere, so no row is looked at twice.
    queues = {(label, side): iter(places[label]) for label in counts for side in (TRAIN, VALIDATION)}
    sides: dict[int, str] = {}  # by place, in the order drawn
    bound: dict[tuple[int, str], str] = {}  # the side of each text and group of a drawn row
    taken: Counter[tuple[str, str]] = Counter()

    def take(label: str, side: str) -> bool:
        """Draw the next row of a label whose text and group are not bound to the other side; False if none is left."""
        for place in queues[label, side]:
            if place not in sides and all(bound.get(key, side) == side for key in keys[place]):
                sides[place] = side
                bound.update(dict.fromkeys(keys[place], side))
                taken[label, side] += 1
                return True
        return False

    open_labels = set(counts)
    for label in allot(counts, _LEAST):
        if len(sides) == size or not open_labels:
            break
        total = taken[label, TRAIN] + taken[label, VALIDATION] + 1
        # Among the first `total` rows of a label; it never falls, and rises by at most one per row.
        validated = max(_MIN_VALIDATION, min(math.floor(validation * total + 0.5), total - _MIN_TRAIN))
        order = (VALIDATION, TRAIN) if taken[label, VALIDATION] < validated else (TRAIN, VALIDATION)
        if not any(take(label, side) for side in order):
            open_labels.discard(label)
    for label in counts:
        if taken[label, TRAIN] < _MIN_TRAIN or taken[label, VALIDATION] < _MIN_VALIDATION:
            raise DataError(
                f"`human_rows` gives the label '{label}' {taken[label, TRAIN]} train and {taken[label, VALIDATION]} "
                f"validation rows, but it needs {_MIN_TRAIN} and {_MIN_VALIDATION}, from different groups and texts: "
                "add such rows"
            )
    if len(sides) < size:
        raise _BudgetError(size, len(sides))
    trained, held = ([place for place in sides if sides[place] == side] for side in (TRAIN, VALIDATION))
    return pool.loc[trained], pool.loc[held]


def _check_budget(counts: dict[str, int], size: int) -> None:
    need = f"{_MIN_TRAIN} train rows and {_MIN_VALIDATION} validation row"
    if size < _LEAST * len(counts):
        raise DataError(
            f"`human_rows` is {size}, but must be at least {_LEAST * len(counts)}: "
            f"each of the {len(counts)} labels needs {need}"
        )
    for label, count in counts.items():
        if count < _LEAST:
            raise DataError(
                f"`human_rows` cannot be met: outside the test set the label '{label}' has {count} rows, but needs "
                f"{need}; code more such rows, of other groups, texts or times"
            )
