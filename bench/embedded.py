"""Rows and tokens a second of the embedded LLM on the default task, and what the rows are worth.

Run `python -m bench.embedded` in the project's folder after `dvc repro prepare`, with nothing else on the cores. It
writes the same number of rows in several ways, each from an empty journal, and prints Markdown tables: requests with
separate shots, and requests that share shots, one after the other in the slot that has them cached. `--rows 4` is a
quick try. `--only 0 2 --seeds 3` writes the rows of two ways three times, each time from other prompts, so that the
intervals of the AUC also cover the variation in what the LLM writes.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import (
    encode_groups,
    encode_labels,
    estimate_models,
    subtract_estimates,
    summarise_estimates,
)
from amalgam.evaluation.describe import average_similarity, measure_distinct, measure_likeness
from amalgam.files import read_json, read_rows
from amalgam.llm.answering import choose_slots, cut_groups, serve_model
from amalgam.llm.journal import open_journal
from amalgam.llm.request import FREE, Answer, Endpoint, Limits, Request, bound_context
from amalgam.llm.sending import send_requests
from amalgam.params import Params, load_params
from amalgam.synthesis import prompts as drawing
from amalgam.synthesis.answers import parse_answer
from amalgam.synthesis.asking import Rounds
from amalgam.synthesis.prompts import load_template
from amalgam.tasks.schema import load_task
from amalgam.training.embeddings import embed_rows

PREPARED, LLM, ENCODER = Path("data/prepared"), Path("models/base/llm"), Path("models/base/encoder")

_STRENGTH = 10.0  # inverse regularisation, the same for all, so that only the rows differ

Groups = list[list[Request]]
Answers = list[Answer]


@dataclass(frozen=True)
class Way:
    """A way to get the rows: how many samples share the shots and the last shot, and server slots."""

    samples: int
    last: int
    slots: int

    @property
    def name(self) -> str:
        """Return the way's name in the tables."""
        if self.samples == 1:
            return "separate shots"
        if self.last == self.samples:
            return f"all shared by {self.samples}"
        return f"shared by {self.samples}, the last by {self.last}"


@dataclass(frozen=True)
class Outcome:
    """What a way took, and the rows that it wrote."""

    way: Way
    seconds: float
    tokens: int
    asked: int
    rows: list[pd.DataFrame]  # by prompt seed

    @property
    def usable(self) -> int:
        """Count the usable rows."""
        return sum(map(len, self.rows))


def list_ways(slots: int, last: int) -> list[Way]:
    """List the ways; `slots` and `last` are the defaults on this machine."""
    return [
        Way(1, 1, 16),
        Way(1, 1, slots),
        Way(16, last, slots),
        Way(16, last, 2 * slots),
        Way(16, 8, slots),
        Way(16, 16, slots),
    ]


def send(endpoint: Endpoint, groups: Groups, journal_path: Path) -> Answers:
    """Send through the pipeline's own client, into an empty journal."""
    with open_journal(journal_path) as journal:
        total = sum(map(len, groups))
        limits = Limits(price=FREE)
        send_requests(groups, endpoint, journal, lambda _: None, limits=limits, notify=_write_notice, total=total)
        found = journal.find([request.key for group in groups for request in group])
    return [found[request.key] for group in groups for request in group]


def measure_way(way: Way, params: Params, rows: int, seeds: list[int]) -> Outcome:
    """Write `rows` responses a label in one way for each prompt seed; the time is for sending, without loading."""
    model = read_json(LLM / "identity.json")["model"]
    seconds, tokens, asked = 0.0, 0, 0
    tables = []
    for seed in seeds:
        prompts = make_prompts(params, way, rows, seed)
        requests = list(Rounds(prompts, model, params.synthesis).build_requests())
        groups = list(cut_groups(requests))
        taken, answers, counted = _time_sending(way, groups)
        seconds, tokens, asked = seconds + taken, tokens + counted, asked + len(requests)
        by_id = {prompt["id"]: prompt for prompt in prompts}
        order = [by_id[request.id] for group in groups for request in group]
        found = [
            {"label": prompt["label"], "question": prompt["question"], "text": text}
            for prompt, answer in zip(order, answers, strict=True)
            for text in parse_answer(
                answer.text, answer.finish_reason, prompt["format"], prompt["responses"], prompt["label"]
            )[0]
        ]
        tables.append(pd.DataFrame(found))
    return Outcome(way, seconds, tokens, asked, tables)


def make_prompts(params: Params, way: Way, rows: int, seed: int) -> list[dict[str, Any]]:
    """Build the default task's prompts, sharing their shots as the way prescribes."""
    folder = Path("data/tasks") / params.task
    template = load_template(params.prompts.template, [folder / "templates", Path("data/templates")])
    drawing.SET, drawing.LAST = way.samples, way.last
    settings = params.prompts.model_copy(update={"seed": seed})
    return list(drawing.build_prompts(load_task(folder), read_rows(PREPARED / "train.csv"), template, settings, rows))


def format_speed(outcomes: list[Outcome]) -> Iterator[str]:
    """Format the speed of each way, relative to the first."""
    yield "| shots | slots | seconds | usable rows/s | times the first | tokens/s | usable answers |"
    yield "|---|---|---|---|---|---|---|"
    first = outcomes[0].usable / outcomes[0].seconds
    for outcome in outcomes:
        rate = outcome.usable / outcome.seconds
        yield (
            f"| {outcome.way.name} | {outcome.way.slots} | {outcome.seconds:.1f} | {rate:.2f} | {rate / first:.2f} "
            f"| {outcome.tokens / outcome.seconds:.1f} | {outcome.usable} of {outcome.asked} |"
        )


def format_quality(outcomes: list[Outcome], params: Params) -> Iterator[str]:
    """Format the variety of each way's rows, and the AUC of models trained on them."""
    task = load_task(Path("data/tasks") / params.task)
    human, test = (read_rows(PREPARED / f"{name}.csv") for name in ("train", "test"))
    tables = {f"{number}": outcome.rows for number, outcome in enumerate(outcomes)}
    if any(set(rows.get("label", ())) != set(task.label_names) for several in tables.values() for rows in several):
        yield "Too few rows to measure their quality: a label has none."
        return
    scores = measure_auc(tables, human, test, task.label_names, params.evaluation.confidence)
    yield (
        "| shots | slots | distinct-1 | distinct-2 | distinct-3 | self-similarity | AUC | difference from the first "
        "| AUC with human rows | difference from the first |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for outcome, score in zip(outcomes, scores.values(), strict=True):
        cells = [outcome.way.name, str(outcome.way.slots), *_format_variety(outcome.rows)]
        for kind in ("auc", "with_human"):
            interval = f"[{score[f'{kind}_low']:+.3f}, {score[f'{kind}_high']:+.3f}]"
            cells += [f"{score[kind]:.3f}", f"{score[f'{kind}_change']:+.3f} {interval}"]
        yield f"| {' | '.join(cells)} |"
    # The same number of human-coded rows, only to compare variety.
    as_many = pd.concat(rows.head(len(outcomes[0].rows[0]) // 2) for _, rows in test.groupby("label"))
    yield f"| the same number of human-coded rows | | {' | '.join(_format_variety([as_many]))} | | | | |"


def measure_auc(
    tables: dict[str, list[pd.DataFrame]],
    human: pd.DataFrame,
    test: pd.DataFrame,
    labels: list[str],
    confidence: float,
) -> dict[str, dict[str, float]]:
    """Train logistic regression on frozen embeddings of each table, alone and with the human rows; measure the AUC.

    `tables` has, by name, synthetic rows that were written one or more times, each table as often. Returns by name
    `auc`, `with_human`, and for both the paired difference from the first table with its interval.
    """
    from sklearn.linear_model import LogisticRegression

    written = [rows for several in tables.values() for rows in several]
    everything = pd.concat([human, test, *written], ignore_index=True)[["question", "text", "label"]]
    vectors = embed_rows(ENCODER, everything, max_length=128)
    cuts = np.cumsum([len(human), len(test), *map(len, written)])
    base, measured, *parts = np.split(np.arange(len(everything)), cuts[:-1])
    waiting = iter(parts)
    predictions = {}
    for name, several in tables.items():
        drawn = [next(waiting) for _ in several]
        for kind, before in (("auc", base[:0]), ("with_human", base)):
            probabilities = []
            for part in drawn:
                rows = np.concatenate([before, part])
                fit = LogisticRegression(C=_STRENGTH, max_iter=2000).fit(vectors[rows], everything["label"].iloc[rows])
                order = [list(fit.classes_).index(label) for label in labels]
                probabilities.append(fit.predict_proba(vectors[measured])[:, order])
            predictions[f"{name}/{kind}"] = np.stack(probabilities)
    actual = encode_labels(test, labels, "the test rows")
    estimates = estimate_models(actual, encode_groups(test), predictions, ordinal=False)
    found: dict[str, dict[str, float]] = {name: {} for name in tables}
    first = next(iter(tables))
    for name in tables:
        for kind in ("auc", "with_human"):
            one, other = estimates[f"{name}/{kind}"], estimates[f"{first}/{kind}"]
            change = summarise_estimates(subtract_estimates(one, other, ("auc",)), confidence)
            found[name] |= {kind: one["auc"].value, f"{kind}_change": change["auc"]}
            found[name] |= {f"{kind}_low": change["auc_low"], f"{kind}_high": change["auc_high"]}
    return found


def _time_sending(way: Way, groups: Groups) -> tuple[float, Answers, int]:
    """Return the seconds, the answers in the order of the groups, and the tokens that were generated."""
    requests = [request for group in groups for request in group]
    with tempfile.TemporaryDirectory() as folder:
        journal_path = Path(folder) / "journal.sqlite"
        context = max(map(bound_context, requests))
        with serve_model(LLM / "model.gguf", context=context, slots=way.slots) as endpoint:
            start = time.perf_counter()
            answers = send(endpoint, groups, journal_path)
            seconds = time.perf_counter() - start
            tokens = sum(answer.completion_tokens for answer in answers)
    return seconds, answers, tokens


def _format_variety(tables: list[pd.DataFrame]) -> list[str]:
    distinct = [fmean(measure_distinct(list(rows["text"]), size) for rows in tables) for size in (1, 2, 3)]
    similarity = fmean(average_similarity(measure_likeness(list(rows["text"])), list(rows["label"])) for rows in tables)
    return [*(f"{value:.3f}" for value in distinct), f"{similarity:.4f}"]


def _write_notice(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(rows: int, only: list[int], seeds: int) -> None:
    """Measure the ways, then print the tables."""
    params = load_params(Path("params.yaml"))
    outcomes = []
    for number, way in enumerate(list_ways(choose_slots(), drawing.LAST)):
        if not only or number in only:
            _write_notice(f"{number}: {way.name}, {way.slots} slots")
            outcomes.append(
                measure_way(way, params, rows, list(range(params.prompts.seed, params.prompts.seed + seeds)))
            )
            _write_notice(f"   {outcomes[-1].seconds:.1f} s")
    print("\n".join(format_speed(outcomes)))
    print()
    print("\n".join(format_quality(outcomes, params)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=112, help="rows a label")
    parser.add_argument("--only", type=int, nargs="*", default=[], help="numbers of the ways to measure")
    parser.add_argument("--seeds", type=int, default=1, help="times that each way is measured, from other prompts")
    args = parser.parse_args()
    main(args.rows, args.only, args.seeds)
