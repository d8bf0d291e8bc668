import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amalgam.synthesis.neighbours import NearIndex, cut_grams

TEXT = st.text("ab c", max_size=40)


def compare(one: str, other: str) -> float:
    grams, others = cut_grams(one), cut_grams(other)
    return len(grams & others) / len(grams | others)


@settings(max_examples=60)
@given(st.lists(TEXT, min_size=1, max_size=6), TEXT, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_what_is_found_is_near_and_what_is_very_near_is_found(texts: list[str], text: str, threshold: float) -> None:
    index = NearIndex(threshold)
    index.add_all([str(number) for number in range(len(texts))], texts)
    similarities = {str(number): compare(text, other) for number, other in enumerate(texts)}
    if found := index.find(text):
        assert similarities[found] >= threshold
    # MinHash may miss a pair near the threshold, hardly one far above it.
    if max(similarities.values()) >= min(1.0, threshold + 0.2):
        assert similarities[found] >= threshold


@settings(max_examples=30)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=80, max_size=200),
    st.text(max_size=4),
    st.integers(0, 80),
)
@example("x" * 80, "", 0)
def test_a_long_text_with_a_changed_word_is_found(text: str, insert: str, place: int) -> None:
    changed = text[:place] + insert + text[place:]
    index = NearIndex(0.5)
    index.add("a", text)
    if compare(text, changed) >= 0.7:
        assert index.find(changed) == "a"


@pytest.mark.parametrize(("threshold", "found"), [(0.72, True), (0.88, False)])
def test_the_threshold_is_exact(threshold: float, found: bool) -> None:
    text = "we came for the bread and stayed for the coffee, which was strong and not dear at all"
    for number in range(10, 40):
        near = f"{text} for {number} times now"
        assert compare(text, near) == pytest.approx(0.824, abs=1e-3)
        index = NearIndex(threshold)
        index.add("a", near)
        assert index.find(text) == ("a" if found else "")


def test_the_most_similar_text_is_named() -> None:
    index = NearIndex(0.5)
    index.add_all(["a", "b", "c"], ["the bread was good", "the bread was good today", "a cold coffee"])
    assert index.find("The  bread was GOOD today!") == "b"
    assert index.find("the bread was good") == "a"
    assert index.find("something else") == ""


@pytest.mark.parametrize(
    ("text", "grams"), [("", {""}), ("Ab", {"ab"}), ("abcdeF", {"abcde", "bcdef"}), (" a \n b ", {"a b"})]
)
def test_grams_are_five_characters_long(text: str, grams: set[str]) -> None:
    assert cut_grams(text) == grams


def test_short_texts_are_near_only_if_equal() -> None:
    index = NearIndex(0.8)
    index.add("a", "ok")
    assert index.find(" OK ") == "a"
    assert index.find("oh") == ""
