"""The comparison itself: rows, seeds, differences, flips, the verdict, and how a review is written."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console
from rich.markdown import Markdown
from sklearn.metrics import roc_auc_score

from amalgam.cli.review import clean_text, quote_code, write_markdown
from amalgam.review import paired
from amalgam.review.paired import Comparison, Difference, Outputs, find_obstacle, pair_seeds
from amalgam.review.revisions import Change, StageChange
from amalgam.review.verdict import Review, Verdict, judge_comparison
from tests.unit.review_project import LABELS, make_outputs, make_rows

ROWS = make_rows(60)
FEW = ROWS[(ROWS["label"] == "no") | (ROWS["id"] < "r008")]


def compare(old: Outputs, new: Outputs) -> Comparison:
    return paired.compare_outputs(old, new, 0.95, ordinal=False)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (ROWS.replace("text of r003", "no"), "1 of 60 test rows with the same id have a different text"),
        (ROWS.assign(label=["yes", *ROWS["label"][1:]]), "1 of 60 test rows with the same id have a different label"),
        (ROWS.assign(id="x" + ROWS["id"]), "none of the 60 test rows was among the 60 before"),
        (FEW, "the 34 test rows that both have include fewer than 5 of a second label"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused_with_the_reason(changed: pd.DataFrame, reason: str) -> None:
    outputs = Outputs(LABELS, pd.DataFrame(), {"test": ROWS})
    assert find_obstacle(outputs, replace(outputs, rows={"test": changed})) == reason
    assert find_obstacle(outputs, replace(outputs, labels=["yes", "no"])) == "the labels are not the same"


def test_seeds_are_paired_with_themselves_first() -> None:
    assert pair_seeds([1, 2, 3], [3, 2, 1, 5]) == ([1, 2, 3], [1, 2, 3])
    assert pair_seeds([1, 2, 3], [2, 3, 4]) == ([2, 3, 1], [2, 3, 4])
    assert pair_seeds([7, 8], [1]) == ([7], [1])
    comparison = compare(make_outputs(ROWS, {"student": 1.0}), make_outputs(ROWS, {"student": 1.0}, (1, 2, 3, 4, 5)))
    assert (comparison.differences, comparison.unchanged, comparison.flips) == ([], ["student"], [])
    assert judge_comparison(comparison, 0.95).kind == "no change"


def test_differences_equal_scikit_learn_and_only_changed_models_count() -> None:
    rows = make_rows(120, groups=True)
    old = make_outputs(rows, {"teacher": 1.5, "student": 1.0, "tfidf_lr": 0.5, "llm_grader": 0.1})
    new = make_outputs(rows, {"teacher": 1.6, "student": 2.0, "tfidf_lr": 0.5, "human_only": 1.0})
    comparison = compare(old, new)
    assert (comparison.unchanged, comparison.left_out) == (["tfidf_lr"], ["human_only", "llm_grader"])
    first, *others = comparison.differences
    metrics = ["auc", "macro_f1", "accuracy", "kappa", "brier"]
    expected = {f"{model}.{metric}" for model in ("teacher", "student") for metric in metrics}
    assert {difference.measure for difference in comparison.differences} == expected
    for value, outputs in ((first.old, old), (first.new, new)):
        table = outputs.table[outputs.table["model"] == "student"]
        aucs = [roc_auc_score(rows["label"] == "yes", part["p_yes"]) for _, part in table.groupby("seed")]
        assert value == pytest.approx(np.mean(aucs), abs=1e-6)
    assert first.change == pytest.approx(first.new - first.old, abs=2e-6)
    assert first.low < first.change < first.high
    assert (first.measure, first.seeds, first.p) == ("student.auc", 3, first.corrected)
    assert min(one.corrected for one in others) == pytest.approx(min(9 * one.p for one in others), abs=1e-5)  # by Holm


def test_better_and_worse_follow_the_direction_of_the_measure() -> None:
    weak, strong = (make_outputs(make_rows(200), {"student": strength}) for strength in (0.5, 3.0))
    up, down = compare(weak, strong), compare(strong, weak)
    for better, worse in zip(up.differences, down.differences, strict=True):
        assert (better.outcome, worse.outcome) == ("better", "worse"), better.measure
        assert (better.change, better.low) == pytest.approx((-worse.change, -worse.high), abs=1e-5)
    assert next(one.change for one in up.differences if one.measure == "student.brier") < 0
    first, verdict = up.differences[0], judge_comparison(up, 0.95)
    assert (verdict.kind, judge_comparison(down, 0.95).kind) == ("better", "worse")
    assert f"from {first.old:.3f} to {first.new:.3f}, by +{first.change:.3f}" in verdict.sentence
    assert "excludes 0 (paired over 200 test rows and 3 seeds)." in verdict.sentence


def test_flips_are_those_of_the_majority() -> None:
    rows = make_rows(4).assign(label=["no", "no", "yes", "yes"], question=["q?", "", "", ""])
    actual = np.array([LABELS.index(label) for label in rows["label"]])
    # Probabilities of `no`, by seed and row.
    old = np.array([[0.9, 0.9, 0.4, 0.2], [0.8, 0.3, 0.6, 0.9], [0.7, 0.9, 0.4, 0.2]])
    new = np.array([[0.1, 0.9, 0.4, 0.9], [0.2, 0.9, 0.4, 0.8], [0.9, 0.9, 0.4, 0.2]])
    stacks = [np.stack([part, 1 - part], axis=2) for part in (old, new)]
    first, second = (list(flip.values()) for flip in paired.list_flips(rows, actual, *stacks, LABELS))
    assert first == ["r000", "text of r000", "q?", "no", "no", "yes", 0.8, 0.4]
    assert second[:6] == ["r003", "text of r003", "", "yes", "yes", "no"]


def make_review(text: str = "fine", sentence: str = "Better: by a lot.", flips: int = 1) -> Review:
    usage = {"work": "writing responses", "requests": 1200, "prompt_tokens": 10, "completion_tokens": 5}
    differences = [
        Difference("student.auc", 3, "better", 0.8, 0.85, 0.05, 0.01, 0.09, 0.0004, 0.0004),
        Difference("teacher.brier", 3, "unclear", 0.2, 0.1, -0.1, -0.2, 0.0, 0.04, 0.0555),
    ]
    flip = {"id": text, "text": text, "question": text, "label": "yes", "old": "yes", "new": "no"}
    flip |= {"old_probability": 0.75, "new_probability": 0.25}
    compared = Comparison(100, 120, 100, differences, [text], [text], [flip] * flips)
    params = [Change(text, text, 0.5, "changed"), Change("b", None, None, "added")]
    changes = params, [StageChange(text, [text], [], [])], compared, [Change(text, 1, 2, "changed")] * 50
    usages = [usage | {"cost_usd": 0.5}], [usage | {"requests": 1300, "cost_usd": None}]
    return Review(text, "workspace", "0123456789", "", Verdict("better", sentence), 0.95, *changes, *usages)


def render(markdown: str) -> tuple[list[Any], list[str]]:
    """Return the parts of inline content and the names of all block parts, as seen by a Markdown parser with tables."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [child for token in tokens for child in token.children or []], [token.type for token in tokens]


@given(st.text())
@example("`")
@example("``a")
@example(" ` ")
def test_a_code_span_holds_the_text_and_nothing_else(text: str) -> None:
    inline, blocks = render(f"- x {quote_code(text)} y")
    assert blocks.count("inline") == 1
    assert [part.type for part in inline] == ["text", "code_inline", "text"]
    assert inline[1].content.strip(" ") == clean_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script><img src=x onerror=alert(1)> @admin @org/team see #12 and GH-3",
        "[click](javascript:alert(1)) www.evil.example ![x](http://evil.example/pixel) [bold red]markup[/bold red]",
        "a | b | c\n| --- | --- |\n\n# heading ``` `x` ```` ` \\` \\| </details> {} {0} {name}",
        "\x1b[31mred\x1b]8;;http://evil.example\x07\u202eetirw\x00",
    ],
)
def test_hostile_texts_become_no_markup_and_steer_no_terminal(text: str) -> None:
    plain_inline, plain_blocks = render(write_markdown(make_review()))
    inline, blocks = render(write_markdown(make_review(text)))
    assert blocks == plain_blocks
    assert [part.type for part in inline] == [part.type for part in plain_inline]

    stream = io.StringIO()
    console = Console(file=stream, width=400, force_terminal=True, color_system="standard")
    console.print(Markdown(write_markdown(make_review(text, sentence=f"Better: {text}"), folded=False)))
    assert not any(code in stream.getvalue() for code in ("\x1b[31mred", "\x1b]8", "\u202e", "\x00"))
    assert clean_text(text) in stream.getvalue()


def test_a_sentence_with_a_strange_name_becomes_code() -> None:
    for text in ("@admin has not run", "see www.evil.example", "x <b>", "see http://evil.example", "[a](b)"):
        assert f"**Cannot be said**: `{text}`\n" in write_markdown(make_review(sentence=f"Cannot be said: {text}"))
    harmless = "stage mix of feature/low has not run with its ratio: `dvc repro`. It is \N{MINUS SIGN}0.5 (95\u00a0%)."
    assert f"**Cannot be said**: {harmless}" in write_markdown(make_review(sentence=f"Cannot be said: {harmless}"))


def test_markdown_says_everything_and_stays_below_the_limit_of_hosts() -> None:
    text = write_markdown(make_review(flips=12))
    assert text.startswith("### `fine (0123456)` → `workspace`\n\n**Better**: by a lot.\n\n")
    for part in (
        "| **student.auc** | **0.800** | **0.850** | **+0.050** | **+0.010 to +0.090** | **< 0.001** |",
        "| teacher.brier | 0.200 | 0.100 | \N{MINUS SIGN}0.100 | \N{MINUS SIGN}0.200 to +0.000 | 0.056 |",
        "100 test rows that both have, out of 120 and 100",
        "The p-values of the other measures (1) are corrected by Holm's method.",
        "The predictions of `fine` are the same. Only one revision has `fine`.",
        "**Params that changed: 2**\n\n- `fine`: `fine` → `0.5`\n- `b`: `(none)` → `null`",
        "**Stages that ran: 1**\n\n- `fine`: `fine`",
        "| writing responses | 1\u202f200 → 1\u202f300 | 10 | 5 | 0.50 → unknown |",
        "<summary>Test rows that became wrong: 10 of 12</summary>",
        "<summary>Other numbers that changed: 20 of 50</summary>",
    ):
        assert part in text, part
    assert text.count("- `fine` is `yes` (`0.75 → 0.25`): `yes` → `no`. `fine / fine`") == 10
    assert len(write_markdown(make_review("x | ` & <" * 500, flips=500)).encode()) < 50_000
