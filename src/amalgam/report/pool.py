"""The synthetic rows, kept and rejected, to look through."""

from collections.abc import Mapping, Sequence
from typing import Any

from amalgam.report.browser import Browser, Cell, build_browser, cut_text, thin_rows
from amalgam.report.phrases import REASON_NAMES, format_count

_KEPT = "Kept"


def browse_pool(
    kept: Sequence[Mapping[str, Any]],
    rejected: Sequence[Mapping[str, Any]],
    *,
    total: int,
    temperature: float,
    size: int,
) -> Browser | None:
    """Put synthetic rows into a table to look through: at most `size` bytes.

    Args:
        kept: rows of data/curated/synthetic.csv (text, question, label, judged, perhaps temperature).
        rejected: rows of data/curated/rejects.csv, with reason and detail as well.
        total: rows that there are.
        temperature: of the rows that do not name theirs.
        size: bytes of the page that they may take.
    """
    rows = thin_rows([{**row, "text": cut_text(row["text"])} for row in (*kept, *rejected)], size)
    if not rows:
        return None
    outcomes = [REASON_NAMES.get(row["reason"], row["reason"]) if row.get("reason") else _KEPT for row in rows]
    temperatures = [row.get("temperature") or f"{temperature:g}" for row in rows]
    several = len(set(temperatures)) > 1
    cells: list[list[Cell]] = [
        [
            (row["text"], row["question"]),
            row["label"],
            *([degree] if several else []),
            row["judged"] or "not judged",
            (outcome, row.get("detail", "")),
        ]
        for row, outcome, degree in zip(rows, outcomes, temperatures, strict=True)
    ]
    shown = "all" if len(rows) == total else format_count(len(rows))
    caption = f"{shown.capitalize()} of the {format_count(total)} responses of the LLM"
    caption += "" if several else f", sampled at temperature {temperatures[0]}"
    facets = {
        "Label": [row["label"] for row in rows],
        "Temperature": temperatures,
        "Judge": [_compare_views(row) for row in rows],
        "Outcome": [_KEPT if outcome == _KEPT else "Rejected" for outcome in outcomes],
        "Why rejected": [outcome if outcome != _KEPT else "(kept)" for outcome in outcomes],
    }
    head = ["Response", "Label asked for", *(["Temperature"] if several else []), "Judge's label", "Outcome"]
    return build_browser("pool", caption, head, cells, facets)


def _compare_views(row: Mapping[str, Any]) -> str:
    if not row["judged"]:
        return "did not judge"
    return "agrees" if row["judged"] == row["label"] else "disagrees"
