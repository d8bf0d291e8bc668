"""What cells mean: clean texts, texts that count as equal, their language, rows that depend on each other, times."""

import html
import json
import math
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from amalgam.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# A word, or two characters of a script without blanks between words: Chinese, Japanese, Thai, Lao.
WORD = r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]{1,2}|[^\s\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+"
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))  # zero-width marks that carry no meaning

# Ways to write the same character: full width, dashes and quotation marks; invisible marks are dropped.
_SAME: dict[int, str | int] = {
    **{wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63"), "-"),
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2039\u203a\u00b4"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u00ab\u00bb\u300c\u300d\u300e\u300f"), '"'),
    **dict.fromkeys(map(ord, "\u00ad\u200e\u200f\u202a\u202b\u202c\u202d\u202e\ufe0e\ufe0f"), ""),
}
# Sentence punctuation. It has no meaning at the end of a word, before one or between two, but it does elsewhere:
# in "3.5", "x != 2", "5!", "y' = 1" or ":)". A word has two letters or more; a single letter may be a variable.
_ENDS = r".,;?\u2026\u060c\u061b\u061f\u06d4\u0964\u0965\u0589\u1362\u104b\u17d4\u3001\u3002"
_MARKS = rf"{_ENDS}:!'\"\u00bf\u00a1"
_LETTER = r"[^\W\d_\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u209f\u2150-\u218f\u2460-\u24ff]"
_WORD = rf"{_LETTER}{_LETTER}"
# Each alternative begins with the characters that it is about, which makes it fast.
_PUNCTUATION = re.compile(
    rf"[{_MARKS}](?<!\d .)(?:(?<=[{_ENDS}])|(?<=\D:)|(?<=[^\d)\]}}!'\"][!'\"])(?<!\W[a-z\u03b1-\u03c9].))"
    rf"[{_MARKS}]*(?= )"
    rf"|['\"\u00bf\u00a1](?<=[ (\[{{].)['\"\u00bf\u00a1]*(?={_LETTER})"
    rf"|[{_ENDS}:!](?<={_WORD}.)[{_ENDS}:!]*(?={_WORD})"
    rf"|,(?:(?<= ,)|(?<={_LETTER},))(?={_LETTER})"
)
_HYPHEN = re.compile(rf"(?<={_WORD}) ?-+ ?(?={_WORD})")
# Blanks next to these have no meaning: "x=-3" is "x = - 3". Between two operators they may: "i++ + j" is not "i + ++j".
_OPERATORS = r"#$%&*+/<=>@\\^|~\u00b1\u00d7\u00f7\u2248\u2260\u2264\u2265\u20ac\u00a3\-"
_BRACKETS = r"()\[\]{}"
_BLANK = re.compile(
    rf" (?:(?<=[{_OPERATORS}{_BRACKETS}] )(?=[\w{_BRACKETS}])|(?<=[\w{_BRACKETS}] )(?=[{_OPERATORS}{_BRACKETS}])"
    r"|(?<== )(?=[-+]))"
)
_SYMBOL = re.compile(rf"[{_OPERATORS}{_BRACKETS}]")

# The characters that stand for the bytes 0x80 to 0xBF where UTF-8 was read as Latin-1 or as Windows-1252.
_WINDOWS = {character: byte for byte in range(0x80, 0xA0) if (character := bytes([byte]).decode("cp1252", "ignore"))}
_NEXT = f"[\x80-\xbf{''.join(_WINDOWS)}]"
_DOUBLE_ENCODED = re.compile(f"[\xc2-\xdf]{_NEXT}|[\xe0-\xef]{_NEXT}{{2}}|[\xf0-\xf4]{_NEXT}{{3}}")

# A zone after a time. pandas reads "GMT-4" as four hours ahead of Greenwich, but "-04:00" as people mean both.
_ZONE = re.compile(r"(?:GMT|UTC) ?([+-])(\d\d?):?(\d\d)?\b")
_LOCAL = re.compile(r"(?<=[\dM]) (?!AM|PM|UTC|GMT)[A-Z]{2,5}$")  # such as EST, which pandas does not read
_YEAR = r"\d{4}|\d[./]\d\d\b|\d[ -][A-Za-z]+[ -]\d\d(?![:\d])"  # pandas adds one if there is none

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


def clean_text(text: str, *, mojibake: bool = False) -> str:
    """Resolve HTML entities, compose Unicode (NFC), drop control characters and collapse runs of blanks to one.

    With `mojibake`, characters that were encoded twice ("Ã©" for "é") are fixed first.
    """
    if mojibake:
        text = _DOUBLE_ENCODED.sub(_decode_again, text)
    for _ in range(2):  # because text that went through two web pages has "&amp;amp;"
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
    visible = (mark for mark in text if mark.isspace() or unicodedata.category(mark) != "Cc")
    return " ".join("".join(visible).split())


def fold_text(text: str) -> str:
    """Return the form in which texts are compared: no case, single blanks, no sentence punctuation.

    Everything else counts: letters with their marks, digits, signs, operators and other symbols. A text of only
    punctuation, such as "?", stays as it is.
    """
    # The lower case of the Turkish capital I with a dot has the dot twice.
    plain = text if text.isascii() else text.translate(_SAME)
    written = " ".join(plain.casefold().replace("i\u0307", "i").split())
    folded = " ".join(_PUNCTUATION.sub(" ", f" {written} ").split())
    if _SYMBOL.search(folded):
        folded = _BLANK.sub("", _HYPHEN.sub(" ", folded))
    return folded or written


def _decode_again(match: re.Match[str]) -> str:
    try:
        return bytes(_WINDOWS.get(character, ord(character)) for character in match[0]).decode("utf-8")
    except UnicodeDecodeError:
        return match[0]


def guess_languages(texts: Sequence[str]) -> Counter[str]:
    """Count texts by language, judged by stop words and scripts; a text that shows none counts as unknown."""
    words = {language: frozenset(stop.split()) for language, stop in _STOP_WORDS.items()}
    found: Counter[str] = Counter()
    for text in texts:
        letter = next((each for each in text if each > "\u036f" and each.isalpha()), " ")
        script = unicodedata.name(letter, "").partition(" ")[0]
        said = Counter({language: len(stop & set(text.casefold().split())) for language, stop in words.items()})
        (best, hits), (_, next_hits) = said.most_common(2)
        found[script.capitalize() if script in _SCRIPTS else best if hits > next_hits else "unknown"] += 1
    return found


def write_text(value: object) -> str | None:
    """Return text as it is, None for None and non-finite numbers, dates as they are written, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value := blank_numbers(value), (bool, int, float, list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if value is None else str(value)


def blank_numbers(value: object) -> object:
    """Replace NaN and the infinities, which JSON does not have and Parquet may hold, with None."""
    if isinstance(value, dict):
        return {name: blank_numbers(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [blank_numbers(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def name_units(rows: "pd.DataFrame") -> "pd.Series[str]":
    """Name the unit of each row: rows of one group depend on each other, and so do rows of one text without a group."""
    texts = "text:" + rows["text"].map(fold_text)
    if "group" not in rows:
        return texts
    groups = rows["group"].fillna("")
    return ("group:" + groups).where(groups != "", texts)


def find_units(rows: "pd.DataFrame") -> NDArray[np.int64]:
    """Number the units of rows [n], as in `name_units`."""
    return np.asarray(name_units(rows).factorize()[0], dtype=np.int64)


def find_texts(rows: "pd.DataFrame") -> NDArray[np.int64]:
    """Number the texts of rows [n]; equal ones, even of different groups, have one number."""
    return np.asarray(rows["text"].map(fold_text).factorize()[0], dtype=np.int64)


def count_independent(units: NDArray[np.int64]) -> float:
    """Return how many rows count as independent, if those of one unit [n] depend on each other (Kish, 1965)."""
    return len(units) ** 2 / float((np.bincount(units) ** 2).sum())


def parse_times(rows: "pd.DataFrame") -> "pd.Series[pd.Timestamp]":
    """Read the column `time` of rows as points in time (UTC where a zone is named); an empty cell gives NaT.

    Besides ISO 8601, any date with a year that pandas reads, and Unix seconds or milliseconds are accepted. The column
    as a whole decides whether the day or the month comes first, or else a DataError says that it cannot be told.
    """
    import pandas as pd

    cells = rows["time"].str.strip().where(rows["time"] != "")
    cells = cells.str.replace(_ZONE, lambda zone: f"{zone[1]}{zone[2]:0>2}:{zone[3] or '00'}", regex=True)
    cells = cells.str.replace(_LOCAL, "", regex=True)
    times = pd.to_datetime(cells, format="ISO8601", utc=True, errors="coerce")
    if not (cells.notna() & times.isna()).any():
        return times
    for digits, seconds in (("9,10", 1.0), ("12,13", 0.001)):
        if cells.str.fullmatch(rf"\d{{{digits}}}(\.\d+)?", na=True).all():
            return pd.to_datetime(cells.astype(float) * seconds, unit="s", utc=True)
    parts = cells.str.extract(r"^(?:\D*\d?\d:\d\d\S* )?(\d\d?)([./-])(\d\d?)[./-](\d{1,4})").dropna()
    first, second, third = (parts[place].astype(int) for place in (0, 2, 3))
    day_first = bool((first > 12).any() or (len(parts) and (parts[1] == ".").all()))
    doubt = "month" if day_first == (second > 12).any() else ""
    if (first > 12).all() and third.between(1, 31).all():  # 24/05/31 may be in 2024 or in 2031
        doubt = "year"
    if (first != second).any() and doubt:
        example = cells[parts.index[first != second][0]][:60]
        raise DataError(
            f"the day cannot be told from the {doubt} in dates such as '{example}': "
            "write them as 2024-05-31, or remove `columns.time` from task.yaml"
        )
    dated = cells.where(cells.str.contains(_YEAR, na=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns if it swaps day and month, which cannot happen here
        read = pd.to_datetime(dated, format="mixed", dayfirst=day_first, utc=True, errors="coerce")
    times = times.fillna(read)
    if (wrong := cells.notna() & times.isna()).any():
        name, cell = rows.loc[wrong, ["id", "time"]].iloc[0]
        raise DataError(
            f"the row {name} has the time '{cell[:60]}', which is not a date such as 2024-05-31 or 2024-05-31T14:00: "
            "correct it, or remove `columns.time` from task.yaml"
        )
    return times


def write_times(rows: "pd.DataFrame") -> "pd.Series[str]":
    """Return the column `time` in ISO 8601 form; see `parse_times`."""
    import pandas as pd

    times, cells = parse_times(rows), rows["time"]
    kept = (cells == "") | pd.to_datetime(cells, format="ISO8601", utc=True, errors="coerce").notna()
    return cells.where(kept, times.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
