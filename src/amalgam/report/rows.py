"""Show the rows: synthetic ones next to human ones, and the test rows that the student gets wrong."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from numpy.typing import NDArray

from amalgam.evaluation.predictions import MODEL_NAMES
from amalgam.report.charts import BLUE, GREY, ORANGE, Look, Looks, Spec, build_figure, draw_points
from amalgam.report.content import Browser, Cell, Content, Figure, Numbers, Table, format_count, format_number

POOL_BYTES, MISTAKE_BYTES = 2_000_000, 1_000_000  # of the page, which stays below 5 MB
LONGEST_TEXT = 5000  # characters
MOST_MISTAKES = 1000
REASON_NAMES = {
    "thinking": "Only thinking",
    "announcement": "Announced, but not written",
    "empty": "Empty",
    "malformed": "Not in the requested format",
    "cut_off": "Cut off at the token limit",
    "refusal": "Refusal",
    "error": "Endpoint error",
    "exact_duplicate": "Identical to another row",
    "near_duplicate": "Nearly identical to another row",
    "copies_shot": "Nearly identical to a human training row",
    "near_validation_or_test": "Nearly identical to a validation or test row",
    "inconsistent": "Label not confirmed",
    "ungraded": "The judge's grade could not be read",
}
# Keys of `synthetic` in metrics/synthetic.json; the human value has the same name with the prefix `human_`.
SHARE_NAMES = {
    "distinct_1": "Distinct words",
    "distinct_2": "Distinct word pairs",
    "distinct_3": "Distinct word triples",
    "self_similarity": "Similarity of two rows",
    "nearest_human": "Nearest human row",
    "out_of_vocabulary": "Words that no human used",
    "copied_rate": "Copies of a human row",
}
_SOURCES = {"Human rows": Look(BLUE), "Synthetic rows": Look(ORANGE, shape="square")}
_DISTANCES = {"measured": Look(ORANGE, shape="square"), "chance limit": Look(GREY, shape="diamond")}


def build_synthetic(content: Content) -> dict[str, Any]:
    """Draw how synthetic rows differ from human ones, and collect the rows to browse."""
    statistics = content.metrics["synthetic"].get("synthetic", {})
    rejected = sorted(content.metrics["synthetic"]["synthesis"]["rejected"].items(), key=lambda item: -item[1])
    return {
        "rejected": {REASON_NAMES.get(why, why): count for why, count in rejected if count},
        "statistics": statistics,
        "figures": _draw_drift(content, statistics),
        "browser": browse_pool(content),
    }


def build_mistakes(content: Content) -> dict[str, Any] | None:
    """Collect the confusion matrices and the test rows that the student gets wrong."""
    predictions = content.plots["confusion"]
    confusions = {
        name: {label: Counter(lines["predicted"][lines["actual"] == label]) for label in content.labels}
        for model, name in MODEL_NAMES.items()
        if len(lines := predictions[predictions["model"] == model])
    }
    browser = browse_mistakes(content)
    predicted = [f"predicted {label}" for label in content.labels]
    return {"confusions": confusions, "predicted": predicted, "browser": browser} if confusions or browser else None


def pick_rows(rows: pd.DataFrame, column: str, limit: int) -> pd.DataFrame:
    """Pick up to `limit` rows, taking the values of `column` in turn; they keep their order."""
    turns = rows.groupby(column).cumcount().sort_values(kind="stable")
    return rows.loc[turns.index[:limit].sort_values()]


def thin_rows(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Cut long texts, then leave out rows at even steps until the rest takes at most `limit` bytes in the page."""
    longer = rows["text"].str.len() - LONGEST_TEXT
    cut = rows["text"].str[:LONGEST_TEXT] + " … [" + longer.astype(str) + " more characters]"
    rows = rows.assign(text=rows["text"].where(longer <= 0, cut))
    sizes = np.array([len(htmlsafe_json_dumps(row)) for row in rows.to_dict("records")])
    stride = next((stride for stride in range(1, len(rows) + 1) if sizes[::stride].sum() <= limit), None)
    return rows.iloc[::stride] if stride else rows.iloc[:0]


def list_mistakes(rows: pd.DataFrame, stacks: Mapping[str, NDArray[np.float64]], labels: Sequence[str]) -> pd.DataFrame:
    """List the test rows whose label the student gets wrong, the most confident first.

    `stacks` are probabilities [s seeds, n rows, k labels] by model. Besides text, question and label, the list has:
    predicted (by the mean over seeds), probability (of that label), wrong (how many seeds are), raters (their labels,
    if any), and the labels of the teacher and its twin.
    """
    names, actual, student = np.array(labels, dtype=object), rows["label"].to_numpy(), stacks["student"]
    labelled = {model: names[stack.mean(axis=0).argmax(axis=1)] for model, stack in stacks.items()}
    found = rows[["text", "question", "label"]].assign(
        predicted=labelled["student"],
        probability=student.mean(axis=0).max(axis=1),
        wrong=(names[student.argmax(axis=2)] != actual).sum(axis=0),
        raters=[", ".join(filter(None, given)) for given in rows.filter(regex="^rater").to_numpy().tolist()],
        **{model: labelled[model] for model in ("teacher", "human_only") if model in labelled},
    )
    wrong = found[found["predicted"] != found["label"]]
    return wrong.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def browse_pool(content: Content, limit: int = POOL_BYTES) -> Browser | None:
    """Put synthetic rows, kept and rejected, into a table to browse."""
    rows = thin_rows(content.pool, limit)
    if rows.empty:
        return None
    total = content.metrics["synthetic"]["synthesis"]["responses"]
    temperature = content.params["synthesis"]["temperature"]
    shown = "All" if len(rows) == total else format_count(len(rows))
    caption = f"{shown} of the {format_count(total)} responses of the LLM, sampled at temperature {temperature:g}"
    kept, graded = rows["reason"] == "", rows["judged"] != ""
    outcomes = rows["reason"].map(REASON_NAMES).fillna(rows["reason"])
    columns: dict[str, Any] = {
        "Response": zip(rows["text"], rows["question"], strict=True),
        "Requested label": rows["label"],
        **({"Judge's label": rows["judged"].where(graded, "not judged")} if graded.any() else {}),
        "Outcome": zip(outcomes.mask(kept, "Kept"), rows["detail"], strict=True),
    }
    agrees = np.where(rows["judged"] == rows["label"], "agrees", "disagrees")
    facets = {
        "Label": rows["label"],
        "Judge": np.where(graded, agrees, "did not judge"),
        "Outcome": np.where(kept, "Kept", "Rejected"),
        "Why rejected": outcomes.mask(kept, "(kept)"),
    }
    return _build_browser("pool", caption, columns, facets)


def browse_mistakes(content: Content, limit: int = MISTAKE_BYTES) -> Browser | None:
    """Put the student's mistakes into a table to browse."""
    rows = thin_rows(content.mistakes[:MOST_MISTAKES], limit)
    if rows.empty:
        return None
    count, tested, seeds = len(content.mistakes), content.metrics["data"]["rows"]["test"], len(content.params["seeds"])
    shown = "all of" if len(rows) == count else f"{format_count(len(rows))} of"
    wrong = f"The student gets {format_count(count)} of {format_count(tested)} test rows wrong"
    caption = f"{wrong}; {shown} them are listed, the most confident first"
    certainty = [
        f"p = {probability:.3f}{f'; {wrong} of {seeds} seeds' if seeds > 1 else ''}"
        for probability, wrong in zip(rows["probability"], rows["wrong"], strict=True)
    ]
    columns: dict[str, Any] = {
        "Response": zip(rows["text"], rows["question"], strict=True),
        "Human label": rows["label"],
        "Student": zip(rows["predicted"], certainty, strict=True),
        **({"Raters": rows["raters"]} if any(rows["raters"]) else {}),
        **{MODEL_NAMES[model]: rows[model] for model in ("teacher", "human_only") if model in rows},
    }
    facets = {
        "Human label": rows["label"],
        "Student's label": rows["predicted"],
        "Teacher": np.where(rows["teacher"] == rows["label"], "right", "wrong too"),
    }
    return _build_browser("errors", caption, columns, facets)


def _build_browser(key: str, caption: str, columns: Mapping[str, Iterable[Cell]], facets: Mapping[str, Any]) -> Browser:
    """Build a table to browse; `facets` gives, by name of a filter, what each row is."""
    found = {name: pd.factorize(np.asarray(values, dtype=object)) for name, values in facets.items()}
    several = {name: numbers for name, numbers in found.items() if len(numbers[1]) > 1}
    cells = list(zip(*columns.values(), strict=True))
    chosen = np.array([codes for codes, _ in several.values()], dtype=int).reshape(-1, len(cells)).T.tolist()
    options = {name: list(values) for name, (_, values) in several.items()}
    return Browser(key, caption, list(columns), options, list(zip(cells, chosen, strict=True)))


def _draw_drift(content: Content, statistics: Numbers) -> list[Figure]:
    """Draw shares of synthetic and human rows, and their distance (squared MMD) next to what chance would give."""
    figures = []
    there = {key: name for key, name in SHARE_NAMES.items() if {key, f"human_{key}"} <= statistics.keys()}
    if shares := {name: (statistics[f"human_{key}"], statistics[key]) for key, name in there.items()}:
        caption = "Synthetic and human rows compared; the longer the line, the more they differ."
        spec = _draw_pairs(shares, "Share or similarity, 0 to 1", _SOURCES, unit=True)
        figures.append(build_figure("drift", "Synthetic and human rows compared", caption, spec))
    found, pairs, rows = statistics.get("mmd", {}), {}, []
    for key in (key for key in dict.fromkeys(("all", *content.labels)) if key in found):
        name, p = "All rows" if key == "all" else key, found[key]["mmd2_p"]
        pairs[name] = (found[key]["mmd2"], found[key]["mmd2_chance"])
        numbers = [format_number(value, 4) for value in pairs[name]]
        rows.append([name, *numbers, format_number(p) if p >= 0.001 else "< 0.001"])
    if pairs:
        table = Table("Distance of the embeddings", ["Rows", "Squared MMD", "chance limit", "p"], rows)
        caption = "Distance between embeddings of synthetic and human rows. Above its limit, it is more than chance."
        spec = _draw_pairs(pairs, "Squared MMD of sentence embeddings", _DISTANCES)
        figures.append(build_figure("distances", "Distance of synthetic from human rows", caption, spec, table))
    return figures


def _draw_pairs(pairs: Mapping[str, tuple[float, float]], title: str, looks: Looks, *, unit: bool = False) -> Spec:
    points = [
        {"name": name, "series": series, "value": value, "low": pair[0], "high": pair[1]}
        for name, pair in pairs.items()
        for series, value in zip(looks, pair, strict=True)
    ]
    return draw_points(points, title, looks, joined=True, unit=unit)
