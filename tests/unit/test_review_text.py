"""Reviews as Markdown and on a terminal, with texts that try to break out."""

import io
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from amalgam.review.changes import Change, StageChange
from amalgam.review.paired import Comparison, Difference, Flip
from amalgam.review.text import clean_text, print_review, quote_code, write_markdown, write_value
from amalgam.review.verdict import Review, Verdict

HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "@admin @org/team see #12 and GH-3",
    "[click](javascript:alert(1)) http://evil.example www.evil.example ![x](http://evil.example/pixel)",
    "a | b | c\n| --- | --- |\n\n# heading",
    "``` `x` ```` ` \\` \\| </details>",
    "=HYPERLINK('http://evil.example') {} {0} {name}",
    "\x1b[31mred\x1b]8;;http://evil.example\x07\u202eetirw\x00",
    "[bold red]markup[/bold red] [link=http://evil.example]x[/link]",
]


def make_review(text: str = "fine", sentence: str = "Better: by a lot.", flips: int = 1) -> Review:
    usage = {"work": "writing responses", "requests": 1200, "prompt_tokens": 10, "completion_tokens": 5}
    differences = [
        Difference("student.auc", 3, "better", 0.8, 0.85, 0.05, 0.01, 0.09, 0.0004, 0.0004),
        Difference("teacher.brier", 3, "unclear", 0.2, 0.1, -0.1, -0.2, 0.0, 0.04, 0.0555),
    ]
    flip = Flip(text, text, text, "yes", "yes", "no", 0.75, 0.25)
    return Review(
        old=text,
        new="workspace",
        old_commit="0123456789",
        new_commit="",
        verdict=Verdict("better", sentence),
        confidence=0.95,
        params=[Change(text, text, 0.5, "changed"), Change("b", None, None, "added")],
        stages=[StageChange(text, [text], [], [])],
        comparison=Comparison(100, 120, 100, differences, ["tfidf_lr"], ["llm_grader"], [flip] * flips),
        metrics=[Change(text, 1, 2, "changed")] * 50,
        old_usage=[usage | {"cost_usd": 0.5}],
        new_usage=[usage | {"requests": 1300, "cost_usd": None}],
    )


def render(markdown: str) -> tuple[list[Any], list[str]]:
    """Return the parts of inline content, and the names of all block parts, as a Markdown parser with tables sees."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [child for token in tokens for child in token.children or []], [token.type for token in tokens]


def print_text(review: Review, width: int = 200) -> str:
    stream = io.StringIO()
    print_review(review, Console(file=stream, width=width, force_terminal=True, color_system="standard"))
    return stream.getvalue()


@given(st.text())
@example("`")
@example("``a")
@example(" ` ")
def test_a_code_span_holds_the_text_and_nothing_else(text: str) -> None:
    inline, blocks = render(f"- x {quote_code(text)} y")
    assert blocks.count("inline") == 1
    assert [part.type for part in inline] == ["text", "code_inline", "text"]
    assert inline[1].content.strip(" ") == clean_text(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_neither_change_the_form_nor_become_markup(text: str) -> None:
    plain_inline, plain_blocks = render(write_markdown(make_review()))
    inline, blocks = render(write_markdown(make_review(text)))
    assert blocks == plain_blocks
    assert [part.type for part in inline] == [part.type for part in plain_inline]
    outside = " ".join(part.content for part in inline if part.type != "code_inline")
    assert not any(sign in outside.replace("< 0.001", "") for sign in "@<[#|=")


def test_a_sentence_with_a_strange_name_becomes_code() -> None:
    for text in ("@admin has not run", "see www.evil.example", "x <b>", "see http://evil.example", "[a](b)"):
        inline, _ = render(write_markdown(make_review(sentence=f"Cannot be said: {text}")).split("\n\n")[1])
        assert [part.type for part in inline if part.content] == ["text", "text", "code_inline"], text
    harmless = "stage mix of feature/low has not run with its ratio: `dvc repro`. It is \N{MINUS SIGN}0.5 (95\u00a0%)."
    assert f"**Cannot be said**: {harmless}" in write_markdown(make_review(sentence=f"Cannot be said: {harmless}"))


def test_markdown_says_everything() -> None:
    text = write_markdown(make_review(flips=12))
    assert text.startswith("### `fine (0123456)` → `workspace`\n\n**Better**: by a lot.\n\n")
    for part in (
        "| **student.auc** | **0.800** | **0.850** | **+0.050** | **+0.010 to +0.090** | **< 0.001** |",
        "| teacher.brier | 0.200 | 0.100 | \N{MINUS SIGN}0.100 | \N{MINUS SIGN}0.200 to +0.000 | 0.056 |",
        "100 test rows that both have, of 120 and 100",
        "The p-values of the other measures (1) are corrected by Holm's method.",
        "The predictions of tfidf_lr are the same. Only one revision has llm_grader.",
        "**Params that changed: 2**\n\n- `fine`: `fine` → `0.5`\n- `b`: `(none)` → `null`",
        "**Stages that ran: 1**\n\n- `fine`: `fine`",
        "| writing responses | 1\u202f200 → 1\u202f300 | 10 | 5 | 0.50 → unknown |",
        "<summary>Test rows that became wrong: 10 of 12</summary>",
        "<summary>Other numbers that changed: 20 of 50</summary>",
    ):
        assert part in text, part
    assert text.count("- `fine` is `yes` (`0.75 → 0.25`): `yes` → `no`. `fine / fine`") == 10


def test_a_comment_stays_below_the_limit_of_hosts() -> None:
    assert len(write_markdown(make_review("x | ` & <" * 500, flips=500)).encode()) < 50_000


@pytest.mark.parametrize("text", HOSTILE)
def test_the_terminal_shows_texts_as_they_are_and_obeys_none(text: str) -> None:
    shown = print_text(make_review(text, sentence=f"Better: {text}"), width=400)
    assert not any(code in shown for code in ("\x1b[31mred", "\x1b]8", "\u202e", "\x00"))
    assert clean_text(text) in shown


def test_the_terminal_says_the_same_as_markdown() -> None:
    shown = print_text(make_review(flips=12))
    for part in (
        "Better: by a lot.",
        "student.auc",
        "+0.010 to +0.090",
        "< 0.001",
        "0.50 → unknown",
        "Stages that ran",
    ):
        assert part in shown, part
    assert "Test rows that became wrong: 10 of 12" in shown


def test_values_are_written_as_in_yaml() -> None:
    written = [write_value(value) for value in (None, True, 0.1 + 0.2, 3, [1, 2], "a\nb", 1e-05)]
    assert written == ["null", "true", "0.3", "3", "[1, 2]", "a b", "1e-05"]
