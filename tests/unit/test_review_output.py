"""Reviews as Markdown and on a terminal, with texts that try to break out."""

import io

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from amalgam.review.changes import Change, StageChange, Usage
from amalgam.review.flips import Flip
from amalgam.review.markdown import quote_code, write_markdown
from amalgam.review.paired import Comparison, Difference
from amalgam.review.review import Review
from amalgam.review.terminal import print_review
from amalgam.review.verdict import Verdict
from amalgam.review.wording import clean_text, write_value

HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "@admin @org/team see #12 and GH-3",
    "[click](javascript:alert(1)) http://evil.example www.evil.example ![x](http://evil.example/pixel)",
    "a | b | c\n| --- | --- |\n\n# heading",
    "``` `x` ```` ` \\` \\| </details>",
    "=HYPERLINK('http://evil.example')",
    "\x1b[31mred\x1b]8;;http://evil.example\x07\u202eetirw\x00",
    "[bold red]markup[/bold red] [link=http://evil.example]x[/link]",
]


def make_review(text="fine", sentence="Better: by a lot.", flips=1):
    flip = Flip(text, text, text, "yes", "yes", "no", 0.75, 0.25)
    difference = Difference("student.auc", 0.8, 0.85, 0.05, 0.01, 0.09, 0.0004, 0.0004, "better", 3)
    other = Difference("teacher.brier", 0.2, 0.1, -0.1, -0.2, 0.0, 0.04, 0.0555, "unclear", 3)
    return Review(
        old=text,
        new="workspace",
        old_commit="0123456789",
        new_commit="",
        verdict=Verdict("better", sentence),
        confidence=0.95,
        params=[Change(text, text, 0.5, "changed"), Change("b", None, None, "added")],
        stages=[StageChange(text, [text], [], [])],
        comparison=Comparison(100, 120, 100, [difference, other], ["tfidf_lr"], ["llm_grader"], [flip] * flips),
        metrics=[Change(text, 1, 2, "changed")] * 50,
        old_usage=[Usage("writing responses", 1200, 10, 5, 0.5)],
        new_usage=[Usage("writing responses", 1300, 10, 5, None)],
    )


def render(markdown):
    """Return the parts of inline content, and the names of all block parts, as a Markdown parser with tables sees."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [child for token in tokens for child in token.children or []], [token.type for token in tokens]


def print_text(review, width=200):
    stream = io.StringIO()
    print_review(review, Console(file=stream, width=width, force_terminal=True, color_system="standard"))
    return stream.getvalue()


@given(st.text())
@example("`")
@example("``a")
@example(" ` ")
def test_a_code_span_holds_the_text_and_nothing_else(text):
    inline, blocks = render(f"- x {quote_code(text)} y")
    assert blocks.count("inline") == 1
    assert [part.type for part in inline] == ["text", "code_inline", "text"]
    assert inline[1].content.strip(" ") == clean_text(text)


def test_hostile_texts_change_neither_the_form_nor_become_markup():
    plain_inline, plain_blocks = render(write_markdown(make_review()))
    for text in HOSTILE:
        inline, blocks = render(write_markdown(make_review(text)))
        assert blocks == plain_blocks, text
        assert [part.type for part in inline] == [part.type for part in plain_inline], text
        outside = " ".join(part.content for part in inline if part.type != "code_inline")
        assert not any(sign in outside.replace("< 0.001", "") for sign in "@<[#|="), text


def test_a_sentence_with_a_strange_name_becomes_code():
    for text in ("@admin has not run", "see www.evil.example", "x <b>", "see http://evil.example", "[a](b)"):
        inline, _ = render(write_markdown(make_review(sentence=f"Cannot be said: {text}")).split("\n\n")[1])
        assert [part.type for part in inline if part.content] == ["text", "text", "code_inline"], text
    harmless = "stage mix of feature/low has not run with its ratio: `dvc repro`. It is \N{MINUS SIGN}0.5 (95\u00a0%)."
    assert f"**Cannot be said**: {harmless}" in write_markdown(make_review(sentence=f"Cannot be said: {harmless}"))


def test_markdown_says_everything():
    text = write_markdown(make_review(flips=12))
    assert text.startswith("### `fine (0123456)` → `workspace`\n\n**Better**: by a lot.\n\n| measure | before |")
    assert "| **student.auc** | **0.800** | **0.850** | **+0.050** | **+0.010 to +0.090** | **< 0.001** |" in text
    assert "| teacher.brier | 0.200 | 0.100 | \N{MINUS SIGN}0.100 | \N{MINUS SIGN}0.200 to +0.000 | 0.056 |" in text
    assert "100 test rows that both have, of 120 and 100" in text
    assert "Those of the 1 other measures are corrected for their number by Holm's method." in text
    assert "The predictions of tfidf_lr are the same. Only one side has llm_grader." in text
    assert "- `fine`: `fine` → `0.5`\n- `b`: nothing → `null`" in text
    assert "| writing responses | 1\u202f200 → 1\u202f300 | 10 | 5 | 0.50 → unknown |" in text
    assert "0 became right, 12 became wrong" in text
    assert text.count("- `fine` is `yes` (0.75 → 0.25): `yes` → `no`. `fine / fine`") == 10
    assert "<summary>Became wrong: 10 of 12</summary>" in text
    assert "- and 10 more" in text


def test_a_comment_stays_below_the_limit_of_hosts():
    review = make_review("x | ` & <" * 500, flips=500)
    assert len(write_markdown(review).encode()) < 50_000


def test_the_terminal_shows_texts_as_they_are_and_obeys_none():
    for text in HOSTILE:
        shown = print_text(make_review(text, sentence=f"Better: {text}"))
        assert "\x1b[31mred" not in shown
        assert "\x1b]8" not in shown
        assert "\u202e" not in shown
        assert "\x00" not in shown
    assert "[bold red]markup[/bold red]" in print_text(make_review(HOSTILE[-1]), width=400)


def test_the_terminal_says_the_same_as_markdown():
    shown = print_text(make_review(flips=12))
    for part in ("Better: by a lot.", "student.auc", "+0.010 to +0.090", "< 0.001", "0.50 → unknown", "stage that ran"):
        assert part in shown, part
    assert "rows that became wrong: 10 of 12" in shown
    assert "other numbers: 20 of 50" in shown


def test_values_are_written_as_in_yaml():
    written = [write_value(value) for value in (None, True, 0.1 + 0.2, 3, [1, 2], "a\nb", 1e-05)]
    assert written == ["null", "true", "0.3", "3", "[1, 2]", "a b", "1e-05"]
