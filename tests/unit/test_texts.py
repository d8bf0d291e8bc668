import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.errors import DataError
from amalgam.tasks.texts import clean_text, fold_text, write_times

SIGNS = "+*/=<>%$\u20ac\u00b1#&|~^()[]35\u00bd\u00b2\U0001f600"
MIXED = st.text(f"{SIGNS}abAB xX.,;:!?'\"-\u2013\u201c\u00bf\u2026 \u00df\u0130\u0915\u093f\u093e", max_size=16)


@given(st.text(max_size=40) | MIXED)
@settings(max_examples=500)
def test_clean_texts_are_on_one_line_and_folding_is_stable(text: str) -> None:
    clean = clean_text(text)
    assert clean == " ".join(clean.split())
    assert fold_text(fold_text(clean)) == fold_text(clean)


@given(MIXED)
@settings(max_examples=500)
def test_folding_ignores_case_and_blanks_and_loses_no_digit_sign_or_letter(text: str) -> None:
    folded = fold_text(text)
    assert fold_text(text.lower()) == fold_text("\t" + text.replace(" ", "  ") + "\n") == folded
    for sign in SIGNS + "abx\u0915\u093f\u093e":
        assert folded.count(sign) == text.lower().count(sign)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It's GREAT!!", "it\u2019s great"),
        ("good \u2013 but", "Good but"),
        ("good.It was", "good. It was"),
        ("\u201cYes\u201d, she said", '"yes" she said'),
        ("x=-3", "X = \u2212 3"),
        ("\uff21\uff11", "A1"),
        ("\u0130Y\u0130", "iyi"),
        ("\u0928\u0939\u0940\u0902\u0964", "\u0928\u0939\u0940\u0902!"),
        ("co\u00adop", "coop"),
    ],
)
def test_texts_that_only_look_different_are_equal(one: str, other: str) -> None:
    assert fold_text(one) == fold_text(other)


@pytest.mark.parametrize(
    "texts",
    [
        ["x = 3", "x = -3", "x != 3", "x > 3", "x >= 3", "x = .3", "x = 3!", "x = 3%"],
        ["C", "C++", "C#", "C'"],
        ["3.5", "35", "3 5", "3,5", "3:5", "3 - 5", "3/5", "3 : 5"],
        ["a-b", "a b", "a+b", "-a b", "a_b", "a^b"],
        ["x\u00b2 - y\u00b2", "x\u00b2 y\u00b2", "x2 - y2"],
        [":)", ":(", ":/"],
        ["\u00bd", "1", "2", "1/2"],
        ["\u0915\u093f\u0924", "\u0915\u0924", "\u0915\u0941\u0924"],  # vowel signs of Devanagari
    ],
)
def test_different_answers_stay_different(texts: list[str]) -> None:
    assert len({fold_text(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "expected", "mojibake"),
    [
        ("  two\n\nlines\tand\u00a0more ", "two lines and more", False),
        ("AT&amp;T &#38; S&amp;amp;P &lt;3", "AT&T & S&P <3", False),
        ("a\u0000b\u200bc\u0007", "abc", False),
        ("M\u00c3\u00ad\u00c5\u00a1a", "M\u00c3\u00ad\u00c5\u00a1a", False),
        ("M\u00c3\u00ad\u00c5\u00a1a", "M\u00ed\u0161a", True),
        ("\u00e2\u20ac\u0153Hi\u00e2\u20ac\u009d", "\u201cHi\u201d", True),
    ],
)
def test_texts_are_cleaned_and_double_encoding_is_mended(text: str, expected: str, mojibake: bool) -> None:
    assert clean_text(text, mojibake=mojibake) == expected


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2024/05/31 9:00:00 PM GMT-4"], ["2024-06-01T01:00:00Z"]),  # as Google Forms writes it
        (["2024/05/31 9:00:00 PM GMT+5:30", ""], ["2024-05-31T15:30:00Z", ""]),
        (["Fri May 31 2024 21:00:00 GMT-0400 (EDT)"], ["2024-06-01T01:00:00Z"]),
        (["2024/05/31 9:00:00 PM EST", "2024/12/31 9:00:00 AM EDT"], ["2024-05-31T21:00:00Z", "2024-12-31T09:00:00Z"]),
        (["31-May-24", "2-Jun-24"], ["2024-05-31T00:00:00Z", "2024-06-02T00:00:00Z"]),
        (["31/05/24", "02/06/24"], ["2024-05-31T00:00:00Z", "2024-06-02T00:00:00Z"]),
        (["", ""], ["", ""]),
    ],
)
def test_times_are_written_in_utc(cells: list[str], expected: list[str]) -> None:
    assert [*write_times(pd.DataFrame({"id": "x", "time": cells}))] == expected


def test_dates_that_may_begin_with_the_year_are_refused() -> None:
    with pytest.raises(DataError, match="the day cannot be told from the year in dates such as '24/05/31'"):
        write_times(pd.DataFrame({"id": "x", "time": ["24/05/31", "25/06/02", "23/01/09"]}))
