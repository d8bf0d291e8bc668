"""Curation: which responses of the LLM become synthetic rows, and for what reason the others do not."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from amalgam.synthesis.neighbours import CHUNK, References, Stream, cut_grams
from amalgam.tasks.texts import fold_text

REASONS = (
    "error",
    "refusal",
    "cut_off",
    "thinking",
    "announcement",
    "empty",
    "malformed",
    "exact_duplicate",
    "copies_shot",
    "near_validation_or_test",
    "near_duplicate",
    "inconsistent",
    "ungraded",
)


def find_rejects(
    responses: pd.DataFrame, doubts: pd.Series, *, shots: pd.DataFrame, held_out: pd.DataFrame, threshold: float
) -> pd.DataFrame:
    """Decide on every response: `reason` is "" for what is kept, else one of `REASONS`; `detail` is the row it equals.

    The first of several equal or near-equal responses is kept.

    Args:
        responses: as `read_responses` gives them (id, text, fault).
        doubts: the reason of the consistency check against each response, "" where there is none.
        shots: human-coded train rows (id, text), of which no copy is wanted.
        held_out: validation and test rows (id, text), from which training rows must keep their distance.
        threshold: Jaccard similarity of character 5-grams from which two texts count as one.
    """
    usable = responses.index[responses["fault"] == ""]
    texts = responses["text"][usable].tolist()
    references = [References(threshold, rows["id"], rows["text"]) for rows in (shots, held_out)]
    stream = Stream(threshold)
    copies: list[tuple[str, str]] = []  # of each text: the names of the near shot and of the near held-out row
    for start in range(0, len(texts), CHUNK):
        grams = [cut_grams(text) for text in texts[start : start + CHUNK]]
        stream.add(grams)
        copies += zip(*(reference.find(grams) for reference in references), strict=True)
    found = pd.DataFrame({"reason": responses["fault"], "detail": ""}, index=responses.index, dtype=object)
    verdicts: list[tuple[str, str]] = []
    seen: dict[str, str] = {}  # by folded text: the id of the response that is kept
    for row, (name, text, doubt) in enumerate(zip(responses["id"][usable], texts, doubts[usable], strict=True)):
        folded, (shot, held) = fold_text(text), copies[row]
        verdict = (doubt, "")
        if folded in seen:
            verdict = "exact_duplicate", seen[folded]
        elif shot or held:
            verdict = ("copies_shot", shot) if shot else ("near_validation_or_test", held)
        elif near := stream.find(row, text):
            verdict = "near_duplicate", near
        elif not doubt:
            seen[folded] = name
            stream.keep(row, name, text)
        verdicts.append(verdict)
    found.loc[usable] = pd.DataFrame(verdicts, usable, found.columns, dtype=object)
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
