import random

from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam.synthesis.neighbours import References, Stream, cut_grams

TEXT = st.text("ab c", max_size=40)
THRESHOLD = st.sampled_from([0.3, 0.5, 0.8, 1.0])
LEXICON = (
    "bread coffee window queue music table staff oven price corner waiter cake spoon garden street morning sugar "
    "chair light noise menu plate cup door bill toast honey butter juice lemon"
)
WORDS = LEXICON.split()


def compare(one: str, other: str) -> float:
    grams, others = cut_grams(one), cut_grams(other)
    return len(grams & others) / len(grams | others)


def find(threshold: float, texts: list[str], text: str) -> str:
    names = [f"{number:02d}" for number in range(len(texts))]
    return References(threshold, names, texts).find([cut_grams(text)])[0]


def keep_first(texts: list[str], threshold: float, chunk: int = 1000) -> list[str]:
    """Return for each text the number of the kept one that it is near to, "" where it is kept itself."""
    stream = Stream(threshold)
    for start in range(0, len(texts), chunk):
        stream.add([cut_grams(text) for text in texts[start : start + chunk]])
    found = []
    for row, text in enumerate(texts):
        found.append(stream.find(row, text))
        if not found[-1]:
            stream.keep(row, str(row), text)
    return found


def change_words(text: str, count: int, seed: int) -> str:
    draw, words = random.Random(seed), text.split()
    for place in draw.sample(range(len(words)), count):
        words[place] = draw.choice(WORDS)
    return " ".join(words)


@settings(max_examples=60)
@given(st.lists(TEXT, min_size=1, max_size=6), TEXT, THRESHOLD)
def test_the_nearest_reference_is_found_exactly(texts: list[str], text: str, threshold: float) -> None:
    similarities = [compare(text, other) for other in texts]
    nearest = f"{similarities.index(max(similarities)):02d}" if max(similarities) >= threshold else ""
    assert find(threshold, texts, text) == nearest


@settings(max_examples=30)
@given(st.lists(TEXT, min_size=1, max_size=12), THRESHOLD, st.integers(1, 5))
def test_what_a_stream_finds_is_near_and_what_is_very_near_is_found(
    texts: list[str], threshold: float, chunk: int
) -> None:
    found = keep_first(texts, threshold, chunk)
    assert found == keep_first(texts, threshold)  # however the texts are handed over
    for row, name in enumerate(found):
        kept = {str(other): compare(texts[row], texts[other]) for other in range(row) if not found[other]}
        if name:
            assert kept[name] >= threshold
        # MinHash may miss a pair near the threshold, hardly one far above it.
        if max(kept.values(), default=0.0) >= min(1.0, threshold + 0.2):
            assert name


def test_most_near_pairs_among_many_texts_are_found() -> None:
    draw = random.Random(5)
    texts = [" ".join(draw.choices(WORDS, k=20)) for _ in range(300)]
    near = [change_words(text, 1, seed) for seed, text in enumerate(texts)]
    found = keep_first([*texts, *near], 0.8)
    assert found[:300] == [""] * 300
    hits = {0: [], 1: []}  # by whether the pair is near
    for row, (text, other) in enumerate(zip(texts, near, strict=True)):
        hits[compare(text, other) >= 0.8].append(found[300 + row] == str(row))
    assert not any(hits[False])
    assert len(hits[True]) > 100
    assert sum(hits[True]) / len(hits[True]) > 0.85


def test_near_texts_are_found_where_all_texts_are_alike() -> None:
    # Each differs from each other by some words of 24, so all are candidates for all and many are kept. To compare
    # with every one of them would take much longer, so only some are; the very near ones must be among those.
    crowd = [change_words(" ".join(WORDS[:24]), 3, seed) for seed in range(700)]
    kept = [text for text, name in zip(crowd, keep_first(crowd, 0.8), strict=True) if not name]
    assert len(kept) > 500
    found = keep_first([*crowd, *(f"{text} x" for text in kept[:100])], 0.8)[len(crowd) :]
    assert sum(map(bool, found)) > 97


def test_short_texts_are_near_only_if_equal() -> None:
    assert [find(0.8, ["ok"], text) for text in (" OK ", "oh")] == ["00", ""]
    assert keep_first(["ok", " OK ", "oh"], 0.8) == ["", "0", ""]
    assert find(0.8, [], "ok") == ""
