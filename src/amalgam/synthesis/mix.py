"""Mixing human-coded and synthetic rows at a ratio."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from amalgam.errors import DataError

COLUMNS = ["id", "text", "question", "label", "group", "origin", "shots"]

Row = Mapping[str, Any]
CountRejects = Callable[[str], Mapping[str, int]]  # of a label: how many responses were rejected for which reason

_ALIKE = (
    "rejected as alike",
    "raise `synthesis.temperature`, or let the prompts differ more (`prompts.samples_per_shots`, attributes)",
)
# Where most responses are rejected for one reason, more of them bring more of the same.
_HELP = {
    "ungraded": (
        "could not read the judge's grades of",
        "take another model, or set `curation.consistency` to `human_model` or `none`",
    ),
    "inconsistent": (
        "could not confirm the label of",
        "say the labels' definitions in the task's `task.yaml` more clearly, take another model, or set "
        "`curation.consistency: none`",
    ),
    **dict.fromkeys(("exact_duplicate", "near_duplicate"), _ALIKE),
    "copies_shot": ("rejected as copies of human rows", _ALIKE[1]),
    "near_validation_or_test": ("rejected as copies of human rows", _ALIKE[1]),
}


def count_synthetic(ratio: float, human: int) -> int:
    """Return how many synthetic rows make up the share `ratio` beside `human` rows; `ratio` is below 1."""
    return round(ratio / (1 - ratio) * human)


def mix_rows(
    human: Sequence[Row],
    synthetic: Iterable[Row],
    ratio: float,
    labels: list[str],
    count_rejects: CountRejects = lambda _label: {},
) -> Iterator[Row]:
    """Mix rows at the synthetic share `ratio`, the human rows held fixed (arXiv 2501.09126).

    Synthetic rows are taken in turn from each label, in the order of the pool, so that the rows of a smaller
    ratio are among those of a larger one. Ratio 0 is the human rows alone, ratio 1 the whole pool alone. No more
    of the pool is read than the ratio needs, and no more is held than one label is ahead of another.

    Args:
        human: human-coded rows that teach (id, text, question, label, and group where the task has one).
        synthetic: the curated pool (id, text, question, label, shots), in the order in which it was asked for.
        ratio: synthetic share, 0 to 1.
        labels: all labels of the task.
        count_rejects: returns, of a label, how many responses curation rejected for which reason; called where rows
            are missing, to say what helps.

    Yields:
        Rows with the columns `COLUMNS`; the origin is `human` or `synthetic`, and `shots` are the ids of the human
        rows that the LLM saw, none for a human row.

    Raises:
        DataError: the pool is too small for the ratio; seen when it has been read to its end.
    """
    if ratio == 1:
        chosen = _take_all(synthetic, labels, count_rejects)
    else:
        yield from (_mark_origin(row, "human") for row in human)
        chosen = _take_in_turn(synthetic, count_synthetic(ratio, len(human)), ratio, labels, count_rejects)
    yield from (_mark_origin(row, "synthetic") for row in chosen)


def _mark_origin(row: Row, origin: str) -> Row:
    kept = {name: row[name] for name in ("id", "text", "question", "label")}
    if origin == "synthetic":
        return {**kept, "group": "", "origin": origin, "shots": row["shots"]}
    return {**kept, "group": row.get("group", ""), "origin": origin, "shots": ""}


def _take_all(pool: Iterable[Row], labels: list[str], count_rejects: CountRejects) -> Iterator[Row]:
    found: Counter[str] = Counter()
    for row in pool:
        found[row["label"]] += 1
        yield row
    # What there is will do, but no model learns a label without a row.
    _check_enough(dict.fromkeys(labels, 1), found, 1, count_rejects)


def _take_in_turn(
    pool: Iterable[Row], wanted: int, ratio: float, labels: list[str], count_rejects: CountRejects
) -> Iterator[Row]:
    needed = {label: -(-(wanted - place) // len(labels)) for place, label in enumerate(labels)}
    found: Counter[str] = Counter()
    waiting: dict[str, deque[Row]] = {label: deque() for label in labels}
    rows = iter(pool)
    for turn in range(wanted):
        queue = waiting[labels[turn % len(labels)]]
        while not queue:
            row = next(rows, None)
            if row is None:
                _check_enough(needed, found, ratio, count_rejects)
            elif row["label"] in needed:
                found[row["label"]] += 1
                if found[row["label"]] <= needed[row["label"]]:
                    waiting[row["label"]].append(row)
        yield queue.popleft()


def _check_enough(
    needed: Mapping[str, int], found: Mapping[str, int], ratio: float, count_rejects: CountRejects
) -> None:
    for label, count in needed.items():
        kept = found.get(label, 0)
        if kept < count:
            # Not what was no response: that was asked again until there were enough.
            rejects = {reason: rows for reason, rows in count_rejects(label).items() if reason in _HELP}
            reason = max(rejects, key=rejects.__getitem__, default="")
            usable = kept + sum(rejects.values())
            few = f"`ratio: {ratio:g}` needs {count} synthetic rows of label {label!r}, but curation kept {kept}"
            if reason and 2 * rejects[reason] > usable:
                what, helps = _HELP[reason]
                raise DataError(f"{few}, and {what} {rejects[reason]} of {usable}: {helps}, or lower `ratio`")
            raise DataError(f"{few}: raise `synthesis.rows`, or lower `ratio`")
