"""Mix human-coded and synthetic rows at a ratio."""

import pandas as pd

from amalgam.errors import DataError

COLUMNS = ["id", "text", "question", "label", "group", "origin", "shots"]

_ALIKE = "rejected as copies", "raise `synthesis.temperature`, or make the prompts differ more (more `human_rows`)"
# If most responses are rejected for one of these reasons, more responses bring more of the same. Faults of answers are
# not among the reasons: faulty answers were asked for again until there were enough.
_HELP = {
    "ungraded": ("could not read the judge's grades of", "use another model, or set `curation.consistency: none`"),
    "inconsistent": (
        "could not confirm the label of",
        "define the labels in `task.yaml` more clearly, use another model, or set `curation.consistency: none`",
    ),
    **dict.fromkeys(("exact_duplicate", "near_duplicate", "copies_shot", "near_validation_or_test"), _ALIKE),
}


def count_synthetic(ratio: float, human: int) -> int:
    """Return how many synthetic rows added to `human` rows make up the share `ratio`, which is below 1."""
    return round(ratio / (1 - ratio) * human)


def mix_rows(
    human: pd.DataFrame,
    pool: pd.DataFrame,
    rejects: pd.DataFrame,
    ratio: float,
    labels: list[str],
    labelled: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Mix rows at the synthetic share `ratio`, 0 to 1, with the human rows held fixed (arXiv 2501.09126).

    Synthetic rows are taken in turn from each label, in the order of the pool, so that the rows of a smaller
    ratio are among those of a larger one. Ratio 0 is the human rows alone, ratio 1 the whole pool alone. `origin` is
    `human` or `synthetic`, and `shots` are the ids of the human rows that the LLM saw. `labelled`, real texts with the
    LLM's labels, come before the curated `pool`; if there are any, the column `soft` has their distributions, and ""
    for other rows. `rejects` (label, reason) show what helps if rows are missing.
    """
    human = human.assign(group=human.get("group", ""), origin="human", shots="")[COLUMNS]
    pool = pool.assign(group="", origin="synthetic")[COLUMNS]
    texts = pool.head(0) if labelled is None else labelled.assign(group="", origin="synthetic", shots="")
    if ratio == 1:
        needed = dict.fromkeys(labels if texts.empty else (), 1)
        _check_enough(pool, rejects, needed, ratio, len(human), len(texts))
        return _join(texts, pool)
    wanted = count_synthetic(ratio, len(human))
    texts = texts.head(wanted)
    wanted -= len(texts)
    needed = {label: -(-(wanted - place) // len(labels)) for place, label in enumerate(labels)}
    _check_enough(pool, rejects, needed, ratio, len(human), len(texts))
    # A label that is not in the task gets no turn.
    places = pool["label"].map({label: place for place, label in enumerate(labels)}).astype(float)
    turns = (pool.groupby("label").cumcount() * len(labels) + places).sort_values()
    return _join(human, texts, pool.loc[turns.index[turns < wanted]])


def _join(*parts: pd.DataFrame) -> pd.DataFrame:
    """Concatenate rows; if any has a distribution, those without one get "" in `soft`."""
    columns = COLUMNS + ["soft"] * any("soft" in part and len(part) for part in parts)
    return pd.concat([part.reindex(columns=columns, fill_value="") for part in parts], ignore_index=True)


def _check_enough(
    pool: pd.DataFrame, rejects: pd.DataFrame, needed: dict[str, int], ratio: float, human: int, texts: int
) -> None:
    """Refuse a ratio for which a label has too few rows, and name a possible ratio."""
    counts = {label: int((pool["label"] == label).sum()) for label in needed}
    for label, kept in counts.items():
        if kept >= needed[label]:
            continue
        there = texts + len(counts) * min(counts.values())
        lower = f"or lower `ratio` to {100 * there // max(there + human, 1) / 100:g}"
        few = f"`ratio: {ratio:g}` needs {needed[label]} synthetic rows of label {label!r}, but curation kept {kept}"
        reasons = rejects["reason"][(rejects["label"] == label) & rejects["reason"].isin(_HELP)]
        usable = kept + len(reasons)
        for reason, rejected in reasons.value_counts().items():
            if 2 * rejected > usable:
                what, helps = _HELP[str(reason)]
                raise DataError(f"{few}, and {what} {rejected} of {usable} responses: {helps}, {lower}")
        raise DataError(f"{few}: raise `synthesis.rows`, {lower}")
