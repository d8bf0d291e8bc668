"""Guess the language of texts, by frequent words and by their script."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

_STOP_WORDS = {
    "English": "the of and to is that it was for are with this because",
    "German": "der die das und nicht ein eine zu mit auf weil sich",
    "French": "le les des et est que pas une dans pour qui sur du",
    "Spanish": "el los las que es por con una para del porque y lo",
    "Italian": "il di che per una con non sono gli della perché è lo",
    "Portuguese": "o os que não uma com para por mais como porque e em",
    "Dutch": "de het een van en dat niet zijn op voor omdat met",
}
_SCRIPTS = ("CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "CJK", "HIRAGANA", "HANGUL", "THAI")


def guess_languages(texts: Sequence[str]) -> Counter[str]:
    """Count texts by language, as stop words and scripts tell; a text that does not tell counts as unknown."""
    words = {language: frozenset(stop.split()) for language, stop in _STOP_WORDS.items()}
    found: Counter[str] = Counter()
    for text in texts:
        letter = next((each for each in text if each > "\u036f" and each.isalpha()), "")
        script = unicodedata.name(letter, "").partition(" ")[0] if letter else ""
        said = Counter({language: len(stop & set(text.casefold().split())) for language, stop in words.items()})
        (best, hits), (_, next_hits) = said.most_common(2)
        found[script.capitalize() if script in _SCRIPTS else best if hits > next_hits else "unknown"] += 1
    return found
