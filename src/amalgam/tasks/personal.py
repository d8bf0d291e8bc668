"""Personal data: which columns hold it, and which texts must not be shown to a language model."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from amalgam.tasks.texts import fold_text

if TYPE_CHECKING:
    import pandas as pd

PERSONAL = "personal"  # a column of prepared rows, filled where a text names a person on the task's roster
_EMAIL = r"[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}"
_PHONE = (
    r"(?<![\w.,:/+-])(?:(?:\+|00)[1-9]\d{0,2}[ ./-]?(?:\(\d{1,4}\)[ ./-]?)?\d(?:[ ./-]?\d){6,11}"  # +49 30 1234567
    r"|(?:1[ .-])?\(?[2-9]\d\d[ .)-]{1,2}[2-9]\d\d[ .-]\d{4}"  # (617) 555-0123, 1-617-555-0123
    r"|0\d(?:[ .-]\d\d){4}|0[1-9]\d{8,9}"  # 06 12 34 56 78, 01711234567
    r"|\(?0\d{2,4}\)?[ /-]{1,2}\d{3}(?:[ -]?\d){3,6})(?![\w/-]|[.,]\d)"  # 030/1234567, 020 7946 0958
)
_CONTACT = re.compile(f"{_EMAIL}|{_PHONE}")
_WORD = r"[^\W\d_a-z][^\W\d_]*(?:['\u2019.-][^\W\d_]*)*"  # begins with a capital letter, or has no case
_NAME = rf"{_WORD}(?:,? (?:(?:von|van|de|der|da|di|la|el|al|bin) )*{_WORD}){{1,3}}"
_CONTENTS = {  # kinds that the cells show without the column's name
    "e-mail address": _EMAIL,
    "phone number": _PHONE,
    "IP address": r"(?:\d{1,3}\.){3}\d{1,3}",
}
_HEADERS = {  # kinds that the cells show together with such a word in the column's name
    "name": (
        r"^name(?=\W*$)|vorname|nachname|nom|pr[ée]nom|apellidos?|(?:first|last|full|middle|sur|fore|given|family|nick|"
        r"user|display|your|student|pupil|learner|child|parent|teacher|tutor|author|writer|speaker|rater|coder|grader|"
        r"reviewer|recipient|respondent|participant|patient|client|customer|employee|guest|person)(?:\W?s)?\W?name",
        r"[^\d@]*[^\W\d_][^\d@]*",
    ),
    "phone number": (r"(?:tele)?phone|mobile|cell|telefon|handy|tel", r"[\d ()+./-]{7,}"),
    "student number": (
        r"students?|pupil|learner|candidate|matriculation|matrikel\w*|enrol\w*|sis|personal|employee",
        r"[A-Za-z]{0,3}-?\d{5,12}",
    ),
}
_MOST = 0.8  # share of cells that must match


def find_personal_columns(frame: "pd.DataFrame") -> dict[str, str]:
    """Return the columns that look like personal data, each with its kind in the singular."""
    found = {str(name): _find_kind(str(name), [str(cell).strip() for cell in frame[name].dropna()]) for name in frame}
    return {name: kind for name, kind in found.items() if kind}


def find_personal_rows(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """Mark the rows that hold an e-mail address, a phone number or, if the task has a roster, a name on it."""
    held = (rows["text"] + "\n" + rows["question"]).map(lambda text: _CONTACT.search(text) is not None).astype(bool)
    return held | (rows[PERSONAL] != "") if PERSONAL in rows else held


def select_examples(rows: "pd.DataFrame", count: int, *, send_personal: bool) -> "pd.DataFrame":
    """Select the first `count` rows of each label that may be shown; equal texts count as one example.

    If many coded rows were alike, such as "No response.", a small LLM would copy the text that all examples share.
    """
    shown = rows if send_personal else rows[~find_personal_rows(rows)]
    alike = shown["label"].str.cat(shown["text"].map(fold_text), sep="\n").duplicated()
    return shown[~alike].groupby("label", sort=False).head(count)


def find_names(texts: Iterable[str], roster: Iterable[str]) -> list[str]:
    """Return "name" for each text that holds a part of a name on the roster, else "".

    A part that is also a common word, such as "will", counts only with its capital letter. Rosters and texts may be in
    capitals.
    """
    texts = list(texts)
    words = [set(re.findall(r"[^\W\d_]+", text)) for text in texts]
    found_parts = {part for name in roster for part in re.findall(r"[^\W\d_]{2,}", name)}
    parts = {form for part in found_parts for form in (part, part.capitalize(), part.upper())}
    counts = Counter(word for found in words for word in found)
    parts |= {part.lower() for part in parts if counts[part.lower()] <= max(len(texts) // 50, 3)}
    unspaced = [part for part in parts if part.lower() == part.upper()]  # such as Chinese, without blanks between words
    held = [parts & found or any(part in text for part in unspaced) for text, found in zip(texts, words, strict=True)]
    return ["name" if one else "" for one in held]


def _find_kind(header: str, cells: list[str]) -> str:
    cells = [cell for cell in cells if cell][:1000]
    if not cells:
        return ""

    def fits(pattern: str) -> bool:
        return sum(re.fullmatch(pattern, cell) is not None for cell in cells) >= _MOST * len(cells)

    for kind, pattern in _CONTENTS.items():
        if fits(pattern):
            return kind
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", header).replace("_", " ")
    for kind, (word, pattern) in _HEADERS.items():
        if re.search(rf"\b(?:{word})\b", words, re.IGNORECASE) and max(map(len, cells)) <= 60 and fits(pattern):
            return kind
    # Without such a header, only cells that are written like names and hardly repeated.
    return "name" if len(cells) >= 5 and len(set(cells)) > len(cells) / 2 and fits(_NAME) else ""
