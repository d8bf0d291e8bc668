"""Curation: which answers of the LLM become synthetic rows, and for what reason the others do not."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from amalgam.synthesis.neighbours import NearIndex
from amalgam.tasks.texts import clean_text, fold_text

REASONS = (
    "error",
    "refusal",
    "cut_off",
    "empty",
    "exact_duplicate",
    "copies_shot",
    "near_validation_or_test",
    "near_duplicate",
    "inconsistent",
)
# Narrow on purpose: a response may well begin with "I'm sorry, but I can't recommend it" or "I can't help but wonder".
_SORRY = r"((i.?m |i am )?(very |so )?sorry|i apologi[sz]e|my apologies)[,.;:]?( but)? "
_CANNOT = r"i( am|.?m)? (can.?t|cannot|can not|unable to|not able to|won.?t) "
_WORK = r"(write|provide|create|generate|produce) (that|this|(\w+ ){0,4}(comment|content|response|review|text)s?)\b"
_REFUSAL = re.compile(
    rf"({_SORRY})?{_CANNOT}(assist|comply|fulfil|help (you )?with|{_WORK})|as an? (ai|artificial|language model)\b",
    re.IGNORECASE,
)
_PARAGRAPHS = re.compile(r"\n\s*\n")
_QUOTES = "\"'`*\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What curation says of one answer: the text, and the reason against it ("" where it is kept)."""

    text: str
    reason: str
    detail: str


def curate_completions(
    completions: list[dict[str, Any]],
    *,
    confirmed: dict[str, bool] | None,
    shots: pd.DataFrame,
    held_out: pd.DataFrame,
    threshold: float,
) -> list[Verdict]:
    """Judge every answer, in order; the first of several near-equal ones is kept.

    Args:
        completions: lines of `data/completions/`.
        confirmed: by completion id, whether the consistency check confirmed the label; None for no check.
        shots: human-coded train rows (id, text), of which no copy is wanted.
        held_out: validation and test rows (id, text), from which training rows must keep their distance.
        threshold: Jaccard similarity of character 5-grams from which two texts count as one.
    """
    kept, near_shots, near_held_out = (NearIndex(threshold) for _ in range(3))
    near_shots.add_all(shots["id"], shots["text"])
    near_held_out.add_all(held_out["id"], held_out["text"])
    seen: dict[str, str] = {}
    verdicts = []
    for line in completions:
        text = extract_response(line["text"])
        reason = find_fault(text, line["finish_reason"])
        detail = ""
        if not reason:
            reason, detail = _find_neighbour(text, seen, near_shots, near_held_out, kept)
        if not reason and confirmed is not None and not confirmed[line["id"]]:
            reason = "inconsistent"
        if not reason:
            seen[fold_text(text)] = line["id"]
            kept.add(line["id"], text)
        verdicts.append(Verdict(text, reason, detail))
    return verdicts


def extract_response(raw: str) -> str:
    """Take the response out of an answer: its first paragraph, cleaned, without quotation marks around it."""
    text = clean_text(next((part for part in _PARAGRAPHS.split(raw) if part.strip()), ""))
    quoted = len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES
    return text.strip(_QUOTES).strip() if quoted else text


def find_fault(text: str, finish_reason: str) -> str:
    """Return the reason for which an answer can be no row whatever the others are, or ""."""
    if finish_reason == "error":
        return "error"
    if finish_reason in ("refusal", "content_filter") or _REFUSAL.match(text):
        return "refusal"
    if finish_reason == "length":
        return "cut_off"
    return "" if fold_text(text) else "empty"


def select_gradable(completions: list[dict[str, Any]]) -> pd.DataFrame:
    """Keep the answers that hold a response at all (id, text, question, label); to grade others would cost in vain."""
    texts = [extract_response(line["text"]) for line in completions]
    rows = [
        {"id": line["id"], "text": text, "question": line["question"], "label": line["label"]}
        for line, text in zip(completions, texts, strict=True)
        if not find_fault(text, line["finish_reason"])
    ]
    return pd.DataFrame(rows, columns=["id", "text", "question", "label"])


def summarise_curation(completions: list[dict[str, Any]], verdicts: list[Verdict]) -> dict[str, Any]:
    """Count what was kept and what was not, by reason and by label, and the tokens that all of it took."""
    reasons = Counter(verdict.reason for verdict in verdicts)
    by_label = Counter(line["label"] for line, verdict in zip(completions, verdicts, strict=True) if not verdict.reason)
    return {
        "completions": len(completions),
        "kept": reasons[""],
        "rejected": {reason: reasons[reason] for reason in REASONS},
        "kept_by_label": {label: by_label[label] for label in sorted({line["label"] for line in completions})},
        "prompt_tokens": sum(line["prompt_tokens"] for line in completions),
        "completion_tokens": sum(line["completion_tokens"] for line in completions),
    }


def _find_neighbour(
    text: str, seen: dict[str, str], near_shots: NearIndex, near_held_out: NearIndex, kept: NearIndex
) -> tuple[str, str]:
    if twin := seen.get(fold_text(text)):
        return "exact_duplicate", twin
    for reason, index in (
        ("copies_shot", near_shots),
        ("near_validation_or_test", near_held_out),
        ("near_duplicate", kept),
    ):
        if neighbour := index.find(text):
            return reason, neighbour
    return "", ""
