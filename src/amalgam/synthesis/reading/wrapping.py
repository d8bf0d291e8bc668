"""What stands around a response: announcements, labels in front, fences, quotation marks, talk behind it."""

import re

COLONS = (":", "\N{FULLWIDTH COLON}")
# The words by which models call a response, as they stand in front of one.
_NAMES = (
    r"(?:comments?|responses?|answers?|reviews?|repl(?:y|ies)|feedback|text|output|messages?|example|samples?|"
    r"statements?|sentences?|posts?|tweets?|opinions?|reflections?|essays?|kommentare?|antwort(?:en)?|bewertung(?:en)?|rezension(?:en)?|"
    r"rückmeldung(?:en)?|beispiele?|commentaires?|réponses?|avis|critiques?|exemples?|comentarios?|respuestas?|"
    r"reseñas?|ejemplos?|comentários?|respostas?|avaliaç(?:ão|ões)|exemplos?|comment[oi]|rispost[ae]|recension[ei]|"
    r"esemp[io]|reacties?|antwoord(?:en)?|комментари[йи]|ответы?|отзывы?|пример|komentarz|odpowiedź|opinia|"
    r"评论|評論|回答|回复|回覆|答案|评价|評價|留言|コメント|レビュー|댓글|답변|리뷰|응답)"
)
_KINDS = (
    r"(?:student|customer|user|parent|reader|reviewer|guest|patient|tutor|child|diary|sample|example|synthetic|generated|"
    r"short|brief|final|positive|negative|neutral|critical|mixed|new|my|your|the|a|possible|realistic|typical|product|"
    r"film|movie|one)(?:['\N{RIGHT SINGLE QUOTATION MARK}]s)?"
)
_LABEL = rf"[#>\s]*[*_]*(?:{_KINDS} ){{0,3}}{_NAMES}(?: ?#?\d{{1,3}})?(?: ?\([^()\n]{{1,40}}\))?[*_]*"
_LABEL_IN_FRONT = re.compile(
    rf"(?:{_LABEL}|[*_]*(?:assistant|student|customer)[*_]*)\s*[:\N{{FULLWIDTH COLON}}][*_]*\s*(?=\S)", re.IGNORECASE
)
_HEADING = re.compile(rf"(?=[#*]){_LABEL}\s*", re.IGNORECASE)
_ASSENT = (
    r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|all right|got it|understood|no problem|"
    r"gerne|natürlich|klar|bien sûr|d'accord|claro(?: que sí)?|por supuesto|certo|certamente|好的|当然|конечно|はい)"
)
_HERE = (
    r"(?:here(?:.?s| is| are| you go| it is)?|below is|the following is|this is|hier (?:ist|sind)|voici|voilà|"
    r"aqu[ií] (?:está|tienes?|tiene|va)|ecco|вот|以下是?|这是|這是|次は|以下は|다음은)"
)
# "Here is a comment from a student: …" on the line of the response itself.
_HERE_IN_FRONT = re.compile(
    rf"(?:{_ASSENT}[!,.\N{{FULLWIDTH COMMA}}\N{{FULLWIDTH EXCLAMATION MARK}} ]+)?{_HERE}(?=[^:\N{{FULLWIDTH COLON}}]*"
    rf"{_NAMES})[^:\N{{FULLWIDTH COLON}}\n\"]{{0,100}}[:\N{{FULLWIDTH COLON}}]\s*(?=\S)",
    re.IGNORECASE,
)
# A paragraph that only says that something comes, without a colon.
_ASSENTS = re.compile(
    rf"(?:{_ASSENT}[!,.\N{{IDEOGRAPHIC FULL STOP}}]*)"
    rf"(?:\s+(?:here|below|let me|i(?: can|.?ll|.?d| will| would)? (?:be )?(?:gladly |happy |glad )*(?:to )?"
    rf"(?:help|write|provide|create|generate)\b)[^\n]{{0,150}})?"
    rf"|here (?:is|are|you go)\b(?=[^\n]*(?:{_NAMES}|you go))[^\n]{{0,100}}",
    re.IGNORECASE,
)
# A line that announces a response; other lines with a colon at the end are as often the first line of one.
_SPEAKS = re.compile(
    rf"[*_#> ]*(?:{_ASSENT}[!,. ]|{_LABEL}\W*\Z|here (?:you go|it is|goes|is one|.?s one)|"
    rf"(?!here|below|the following|this){_HERE}|[^\n]{{0,40}}\b(?:might|would|could|may) (?:say|write|respond|comment|"
    rf"answer)\b|(?:{_HERE}|[^\n]{{0,40}}\bfollowing\b)[^\n]{{0,80}}{_NAMES})",
    re.IGNORECASE,
)
_LONGEST = 300  # characters of an announcement; what is longer says something itself
# Blank lines and rules part paragraphs.
_PARAGRAPHS = re.compile(r"(?:\A|\n)[^\S\n]*(?:[-*_=~\N{EM DASH}]{3,}[^\S\n]*)?(?:\n|\Z)")
_FENCE = re.compile(r"(```+|~~~+)[^\n`]*\n(.*?)(?:\n[^\S\n]*\1|\Z)", re.DOTALL)
_TALK = re.compile(
    r"[(*]*(?:(?:please )?let me know (?:if|whether|how)|(?:would you like|do you want) (?:me|more|another|a different)"
    r"|feel free to (?:ask|let|reach|modify|adjust|use)|(?:i )?hope (?:this|that|these|it) (?:\w+ )?(?:help|meet|work|"
    r"fit|captur)|if you.?(?:d| would) like|is there anything else|"
    r"(?:this|the above|these) (?:comments?|responses?|reviews?|answers?|feedback) "
    r"(?:reflects?|express(?:es)?|captures?|highlights?|conveys?|aims?))",
    re.IGNORECASE,
)
_MARKS = "\"'`*_\N{LEFT DOUBLE QUOTATION MARK}"
_FAMILIES = (
    '"\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{DOUBLE LOW-9 QUOTATION MARK}'
    "\N{FULLWIDTH QUOTATION MARK}",
    "'\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}\N{SINGLE LOW-9 QUOTATION MARK}",
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}",
    "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
    "\N{LEFT CORNER BRACKET}\N{RIGHT CORNER BRACKET}",
    "\N{LEFT WHITE CORNER BRACKET}\N{RIGHT WHITE CORNER BRACKET}",
    "`",
    "*",
)


def find_first(said: str) -> str:
    """Return the first paragraph of what is said that is more than an announcement, without fences around it.

    An announcement with nothing behind it is returned as it is, and `announces` tells it.
    """
    rest = said
    while True:
        if fence := _FENCE.match(rest.strip()):
            rest = fence[2]
            continue
        rest = strip_quotes(rest)
        parts = [part for part in _PARAGRAPHS.split(rest) if part.strip()]
        if not parts:
            return ""
        first, following = parts[0].strip(), "\n\n".join(parts[1:])
        if following and (announces(first) or is_heading(first)):
            rest = following
            continue
        line, _, more = first.partition("\n")
        if more and (is_heading(line) or (announces(line) and _SPEAKS.match(line))):
            rest = f"{more}\n\n{following}"
            continue
        return drop_talk(first)


def announces(text: str) -> bool:
    """Say whether a text ends as what comes before something does: with a colon, in whatever marks it stands."""
    end = text.rstrip().rstrip(_MARKS)
    return end.endswith(COLONS) and not end.endswith("(:") and len(end) <= _LONGEST


def is_heading(text: str) -> bool:
    """Say whether a paragraph or line only says that a response follows, without a colon."""
    return _ASSENTS.fullmatch(text.strip()) is not None or _HEADING.fullmatch(text) is not None


def drop_talk(text: str) -> str:
    """Leave out the lines at the end that speak to whoever asked."""
    lines = text.rstrip().split("\n")
    while len(lines) > 1 and (_TALK.match(lines[-1].strip()) or not lines[-1].strip()):
        lines.pop()
    return "\n".join(lines)


def unwrap(text: str) -> str:
    """Take announcement and label from the front of one response, and the marks that surround all of it."""
    while True:
        found = strip_quotes(text)
        for pattern in (_HERE_IN_FRONT, _LABEL_IN_FRONT):
            found = pattern.sub("", found, count=1) if pattern.match(found) else found
        if found == text:
            return text
        text = found


def strip_quotes(text: str) -> str:
    """Take off quotation marks and emphasis, only where they surround the whole."""
    text = text.strip()
    for family in _FAMILIES:
        size = len(text) - len(text.lstrip(family))
        if size == len(text) > 1:
            return ""
        if size and 2 * size <= len(text) and len(text) - len(text.rstrip(family)) >= size:
            inner = text[size:-size]
            # Marks within are those of a quotation within, which opens first; else two quotations stand there.
            place = next((place for place, mark in enumerate(inner) if mark in family and not _joins(inner, place)), -1)
            if place < 0 or (place > 0 and (inner[place - 1].isspace() or inner[place - 1] in "([")):
                return strip_quotes(inner)
    return text


def _joins(text: str, place: int) -> bool:
    """Say whether the mark is an apostrophe between letters."""
    return 0 < place < len(text) - 1 and text[place - 1].isalnum() and text[place + 1].isalnum()
