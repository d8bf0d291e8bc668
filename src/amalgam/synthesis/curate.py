"""Curation: which responses of the LLM become synthetic rows, and for what reason the others do not.

It goes over the responses twice, so that it need not hold them: `survey_responses` finds out which of them have
a text near them, then `curate_responses` decides on each in order.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from amalgam.errors import DataError
from amalgam.synthesis.neighbours import Grams, NearIndex, NearStream, Sketcher, cut_grams, number_repeated
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
_CHUNK = 2000  # responses that are surveyed, or scored by a classifier, at once

Response = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of all usable responses before the first is decided on; a row is the number of one of them.

    Attributes:
        repeated: whether the text of a row, folded, occurs more than once.
        near: finds what is near among the rows that were kept.
    """

    repeated: npt.NDArray[np.bool_]
    near: NearStream


def survey_responses(responses: Iterable[Response], threshold: float) -> Survey:
    """Find the responses that may equal another one, or nearly so.

    Args:
        responses: as `iterate_responses` yields them.
        threshold: Jaccard similarity of character 5-grams from which two texts count as one.
    """
    sketcher = Sketcher(threshold)
    folded = array("Q")
    bands = []
    texts = (response["text"] for response in responses if not response["fault"])
    while chunk := list(islice(texts, _CHUNK)):
        folded.extend(map(_hash_folded, chunk))
        bands.append(sketcher.hash_bands(chunk))
    return Survey(number_repeated(np.array(folded, dtype=np.uint64)) >= 0, NearStream(threshold, bands))


def join_judgements(responses: Iterable[Response], judgements: Iterable[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield responses with the grader's label in `judged`, "" where a response was not graded.

    Args:
        responses: as `iterate_responses` yields them.
        judgements: rows of `data/judgements/` (id, judged), in the order of the responses.

    Raises:
        DataError: there is a judgement of no response, or one in another order.
    """
    rows = iter(judgements)
    judgement = next(rows, None)
    for response in responses:
        judged = ""
        if judgement is not None and judgement["id"] == response["id"]:
            judged = judgement["judged"]
            judgement = next(rows, None)
        yield {**response, "judged": judged}
    if judgement is not None:
        raise DataError(
            f"data/judgements/judgements.csv grades {judgement['id']}, but data/completions/ holds no such response: "
            "run `dvc repro judge`"
        )


def confirm_labels(
    responses: Iterable[Response], predict: Callable[[pd.DataFrame], npt.NDArray[np.float64]], labels: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield responses and in `confirmed` whether their label is the most likely one.

    Args:
        responses: with text, question and label.
        predict: gives probabilities [rows, labels] of a table of responses; called with some thousand at a time.
        labels: of the probabilities' columns.
    """
    stream = iter(responses)
    while chunk := list(islice(stream, _CHUNK)):
        for response, number in zip(chunk, predict(pd.DataFrame(chunk)).argmax(axis=1), strict=True):
            yield {**response, "confirmed": labels[number] == response["label"]}


def curate_responses(
    responses: Iterable[Response], survey: Survey, *, shots: pd.DataFrame, held_out: pd.DataFrame, threshold: float
) -> Iterator[dict[str, Any]]:
    """Decide on every response, in order, and yield it with `reason` and `detail`.

    The reason is "" for what is kept, else one of `REASONS`; the detail is the id of the row that a response
    equals. The first of several near-equal responses is kept.

    Args:
        responses: the surveyed ones, and in each `confirmed`: whether the consistency check has nothing against it;
            `graded` is False where that is so because the judge's grade could not be read.
        survey: what `survey_responses` found at the same threshold.
        shots: human-coded train rows (id, text), of which no copy is wanted.
        held_out: validation and test rows (id, text), from which training rows must keep their distance.
        threshold: Jaccard similarity of character 5-grams from which two texts count as one.
    """
    human = {
        "copies_shot": NearIndex(threshold, shots["id"], shots["text"]),
        "near_validation_or_test": NearIndex(threshold, held_out["id"], held_out["text"]),
    }
    seen: dict[str, str] = {}
    row = -1
    for response in responses:
        reason, detail = response["fault"], ""
        if not reason:
            row += 1
            text = response["text"]
            folded = fold_text(text) if survey.repeated[row] else ""
            if folded in seen:
                reason, detail = "exact_duplicate", seen[folded]
            else:
                reason, detail = _find_neighbour(cut_grams(text), row, human, survey.near)
            if not reason and not response["confirmed"]:
                reason = "inconsistent" if response.get("graded", True) else "ungraded"
            if not reason:
                survey.near.keep(row, response["id"], text)
                if folded:
                    seen[folded] = response["id"]
        yield {**response, "reason": reason, "detail": detail}


def summarise_curation(counts: Mapping[tuple[str, str], int], totals: Mapping[str, Any]) -> dict[str, Any]:
    """Count what was kept and what was not, by reason and by label, and what all of it took.

    Args:
        counts: responses by label and reason.
        totals: the summary of `data/completions/`: answers, those asked again, tokens and cost.
    """
    reasons, kept = Counter[str](), Counter[str]()
    for (label, reason), count in counts.items():
        reasons[reason] += count
        kept[label] += 0 if reason else count
    return {
        "completions": totals["answers"],
        "asked_again": totals["asked_again"],
        "responses": reasons.total(),
        "kept": reasons[""],
        "rejected": {reason: reasons[reason] for reason in REASONS},
        "kept_by_label": dict(sorted(kept.items())),
        **{name: totals[name] for name in ("prompt_tokens", "completion_tokens", "cost_usd")},
    }


def _find_neighbour(grams: Grams, row: int, human: Mapping[str, NearIndex], near: NearStream) -> tuple[str, str]:
    for reason, index in human.items():
        if name := index.find(grams):
            return reason, name
    name = near.find(row, grams)
    return ("near_duplicate" if name else ""), name


def _hash_folded(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(fold_text(text).encode(), digest_size=8).digest())
