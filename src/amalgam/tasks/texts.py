"""Clean texts, and the form in which two texts count as equal."""

import html
import re
import unicodedata

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))  # zero-width marks that carry no meaning
_MARKS = re.compile(r"[\W_]+")

# The characters that stand for the bytes 0x80 to 0xBF where UTF-8 was read as Latin-1 or as Windows-1252.
_WINDOWS = {character: byte for byte in range(0x80, 0xA0) if (character := bytes([byte]).decode("cp1252", "ignore"))}
_NEXT = f"[\x80-\xbf{''.join(_WINDOWS)}]"
_DOUBLE_ENCODED = re.compile(f"[\xc2-\xdf]{_NEXT}|[\xe0-\xef]{_NEXT}{{2}}|[\xf0-\xf4]{_NEXT}{{3}}")


def clean_text(text: str, *, mojibake: bool = False) -> str:
    """Resolve HTML entities, compose Unicode (NFC), drop control characters and collapse all blanks to one.

    With `mojibake`, characters that were encoded twice ("Ã©" for "é") are mended first.
    """
    if mojibake:
        text = _DOUBLE_ENCODED.sub(_decode_again, text)
    text = unicodedata.normalize("NFC", _resolve_entities(text)).translate(_INVISIBLE)
    visible = (mark for mark in text if mark.isspace() or unicodedata.category(mark) != "Cc")
    return " ".join("".join(visible).split())


def fold_text(text: str) -> str:
    """Return the form in which equal texts are equal: no case, no punctuation, single blanks.

    A text of marks alone, such as ":)", stays as it is, in lower case.
    """
    folded = text.casefold()
    return _MARKS.sub(" ", folded).strip() or folded


def _resolve_entities(text: str) -> str:
    # Twice, because text that went through two web pages says "&amp;amp;".
    return _ENTITY.sub(_resolve_entity, _ENTITY.sub(_resolve_entity, text))


def _resolve_entity(match: re.Match[str]) -> str:
    return html.unescape(match[0])


def _decode_again(match: re.Match[str]) -> str:
    data = bytes(_WINDOWS.get(character, ord(character)) for character in match[0])
    return data.decode("utf-8", "replace") if _is_utf8(data) else match[0]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
