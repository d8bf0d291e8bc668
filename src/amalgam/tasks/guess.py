"""Find out what the columns of a table of coded responses are, by their names and by what their cells are like."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from amalgam.errors import DataError

MOST_LABELS = 20
_AGREEMENT = 0.4  # Cohen's kappa from which two columns with the same codes are taken for raters of one thing
_SAME_QUESTION = 20  # answers to a question from which new answers, not new questions, are what will be labelled
_LONG_NAME = 5  # words from which the name of a column is no name, but the question as it was asked
# Codes that are none: what spreadsheets, SPSS and coders write where there is nothing to code.
NO_CODE = re.compile(
    r"|n\.?/?a\.?|#n/a|nan|null|missing|unclear|unsure|uncod(ed|able)|not cod(ed|able)|unklar|k\.a\.|[?.-]+|-?99+",
    re.IGNORECASE,
)
# Words in the names of columns, by what such a column is.
_NAMES = {
    "text": """text response answer comment essay reply utterance sentence content message reflection entry verbatim
        review post tweet feedback transcript antwort aufsatz kommentar réponse respuesta risposta antwoord""",
    "label": """label code codes score grade rating class category mark marks final gold consensus adjudicated majority
        agreed target y correct correctness human sentiment stance points level kategorie bewertung punkte wertung""",
    "best": "label final gold consensus adjudicated majority agreed target",
    "rater": "rater coder annotator judge grader marker reviewer rated coded by r kodierer rating",
    "question": "question prompt item task stem frage aufgabe pregunta domanda",
    "group": """group student pupil author user participant respondent conversation dialogue dialog thread session
        learner writer essay document doc video person subject team teacher anon schüler proband""",
    "subgroup": """gender sex ethnicity race age language native country school region cohort ses esl ell frl dialect
        condition geschlecht muttersprache schule""",
    "other": """reference feedback rationale reason explanation note notes url link title name first last email mail id
        file path row index no number""",
}
_WORDS = {kind: frozenset(words.split()) for kind, words in _NAMES.items()}
# The first of two classes: the last one is the positive one.
_NEGATIVE = re.compile(r"(no|not|none|non|un|in|false|wrong|neg|bad|absent|fail|nein|falsch|kein|faux)", re.IGNORECASE)
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


@dataclass(frozen=True, slots=True)
class Column:
    """What a column is like: its distinct cells with their counts, and how long a cell is."""

    name: str
    counts: "pd.Series[int]"
    filled: int
    letters: float
    words: float
    numbers: bool

    @property
    def codes(self) -> list[str]:
        """Distinct cells that are codes."""
        return [code for code in self.counts.index if not NO_CODE.fullmatch(code)]

    def is_named(self, kind: str) -> bool:
        """Say whether a word in the name is one of those that columns of this kind have."""
        words = split_name(self.name)
        return len(words) < _LONG_NAME and not _WORDS[kind].isdisjoint(words)


@dataclass(slots=True)
class Guess:
    """What each column is for; "" and empty lists are for what the table does not have.

    Attributes:
        label: the column of the code; "" where it is the majority of `raters`, or of the rows that `coder` tells apart.
        wording: the question that all rows answer.
        doubts: by flag, the answers that are possible, the best first.
        notes: why a column that could be something is not taken for it.
    """

    text: str = ""
    label: str = ""
    raters: list[str] = field(default_factory=list)
    coder: str = ""
    id: str = ""
    question: str = ""
    group: str = ""
    time: str = ""
    subgroups: list[str] = field(default_factory=list)
    wording: str = ""
    doubts: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def list_used(self) -> set[str]:
        """Return the names of all columns that are for something."""
        alone = (self.text, self.label, self.coder, self.id, self.question, self.group, self.time)
        return {*alone, *self.raters, *self.subgroups}


def guess_columns(table: pd.DataFrame, said: dict[str, list[str]]) -> Guess:
    """Guess what each column is for; `said` has the columns that flags name, with none for what is to be left out.

    Raises:
        DataError: a flag names no column, or nothing can be the response or the label.
    """
    for flag, names in said.items():
        for name in names:
            if name not in table and not (flag == "question" and len(name.split()) > 1):
                known = ", ".join(f"`{each}`" for each in table)
                raise DataError(f"there is no column `{name}` for --{flag}, only {known}: name one of these")
    names = [name for name in map(str, table) if table[name].str.strip().any()]
    columns = {name: _describe_column(name, table[name]) for name in names}
    guess = Guess(text=said["text"][0]) if said.get("text") else Guess()
    if not guess.text:
        _guess_text(columns, guess)
    left = {name: column for name, column in columns.items() if name != guess.text}
    _guess_label(table, left, guess, said)
    _guess_others(table, {name: left[name] for name in left if name not in guess.list_used()}, guess, said)
    return guess


def split_name(name: str) -> list[str]:
    """Return the words of a column's name, in small letters."""
    return re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())


def name_labels(codes: Sequence[str], column: str) -> tuple[dict[str, str], bool]:
    """Give each code a name that a label can have, in the order of the classes, and say whether they have an order.

    Codes that are one number ("1", "1.0") or differ in case alone are one label.
    """
    numbers = {code: read_number(code) for code in codes}
    known = [number for number in numbers.values() if number is not None]
    if len(known) < len(codes):
        common = {code.casefold(): code for code in reversed(codes)}  # the most frequent way to write it comes first
        order = sorted(codes, key=lambda code: (code.casefold(), code))
        if len(common) == 2:
            order.sort(key=lambda code: not _NEGATIVE.match(code))
        names: dict[str, str] = {}
        for code in order:
            name = name_code(common[code.casefold()], len(set(names.values())) + 1)
            taken = {names[other] for other in names if other.casefold() != code.casefold()}
            names[code] = f"{name}_{len(names) + 1}" if name in taken else name
        return names, False
    words = [word for word in split_name(column) if word not in _WORDS["best"] | _WORDS["rater"] | {"code", "codes"}]
    ordinal = len(set(known)) > 2
    stem = "_".join(words) if 0 < len(words) < _LONG_NAME and "_".join(words).isascii() else ""
    stem = stem or ("score" if ordinal else "code")
    order = sorted(codes, key=lambda code: numbers[code] or 0.0)
    said = {code: f"{numbers[code]:g}".replace("-", "minus_").replace(".", "_") for code in order}
    return {code: f"{stem}_{said[code]}" for code in order}, ordinal


def read_number(cell: str) -> float | None:
    """Read a number with a decimal point or comma; None for what is none."""
    if re.fullmatch(r"[-+]?\d*[.,]?\d+([eE][-+]?\d+)?|[-+]?\d+[.,]", cell):
        return float(cell.replace(",", "."))
    return None


def measure_kappa(one: "pd.Series[str]", other: "pd.Series[str]") -> float | None:
    """Measure Cohen's kappa over the rows that both coded; None where that says nothing."""
    known = [not (NO_CODE.fullmatch(a) or NO_CODE.fullmatch(b)) for a, b in zip(one, other, strict=True)]
    one, other = one[known], other[known]
    shares, others = one.value_counts(normalize=True), other.value_counts(normalize=True)
    chance = float(shares.mul(others, fill_value=0.0).sum())
    return None if one.empty or chance == 1.0 else (float((one == other).mean()) - chance) / (1.0 - chance)


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


def _describe_column(name: str, cells: "pd.Series[str]") -> Column:
    counts = cells.str.strip().value_counts()
    counts = counts[counts.index != ""]
    texts = pd.Series(counts.index, dtype=str)
    filled = int(counts.sum())
    letters, words = (
        float((size * counts.to_numpy()).sum() / filled) for size in (texts.str.len(), texts.str.count(r"\S+"))
    )
    return Column(name, counts, filled, letters, words, all(read_number(text) is not None for text in texts.head(50)))


def _choose(guess: Guess, flag: str, scores: dict[str, float], margin: float = 1.0) -> str:
    """Return the candidate with the best score, and note a doubt where others are within the margin."""
    ordered = sorted(scores, key=lambda name: -scores[name])
    close = [name for name in ordered if scores[ordered[0]] - scores[name] < margin]
    if len(close) > 1:
        guess.doubts[flag] = close
    return ordered[0] if ordered else ""


def _guess_text(columns: dict[str, Column], guess: Guess) -> None:
    scores = {}
    for name, column in columns.items():
        share = len(column.counts) / column.filled
        told = column.is_named("text")
        if column.numbers or (share < 0.2 and not told) or (column.letters < 12 and column.words < 1.5 and not told):
            continue
        if (column.words < 1.5 and not told) or _are_times(column):
            continue
        other = any(column.is_named(kind) for kind in ("question", "other", "rater"))
        scores[name] = 3.0 * told - 3.0 * other + 2.0 * share + min(column.words, 40) / 40
    if not scores:
        raise DataError("no column holds free text: name the column of the responses by --text")
    guess.text = _choose(guess, "text", scores)


def _guess_label(table: pd.DataFrame, columns: dict[str, Column], guess: Guess, said: dict[str, list[str]]) -> None:
    guess.raters = said.get("rater", [])
    if said.get("label") or guess.raters:
        guess.label = said["label"][0] if said.get("label") else ""
        if not guess.raters and guess.label in columns:
            alike = _find_alike(table, columns, guess.label)
            guess.raters = [name for name in alike if name != guess.label and _is_rater(columns[name], alike)]
    else:
        able = [column for column in columns.values() if 1 < len(column.codes) <= MOST_LABELS and column.letters < 60]
        able = [column for column in able if 2 * len(column.codes) <= column.filled and not _are_times(column)]
        scores = {}
        for column in able:
            told = 2.0 * column.is_named("label") + 2.0 * column.is_named("best") + column.is_named("rater")
            other = sum(column.is_named(kind) for kind in ("subgroup", "group", "question", "other"))
            scores[column.name] = told - 2.0 * other
        if not scores:
            raise DataError(_explain_no_label(columns))
        best = max(scores, key=lambda name: scores[name])
        alike = _find_alike(table, columns, best)
        guess.raters = [name for name in alike if _is_rater(columns[name], alike)]
        others = {name: scores[name] for name in alike if name in scores and name not in guess.raters}
        rest = {name: score for name, score in scores.items() if name not in alike and score >= scores[best]}
        if others and not (len(others) > 1 and len(set(others.values())) == 1 and not guess.raters):
            guess.label = _choose(guess, "label", others | rest)
        elif others:  # nobody is named, but they agree
            guess.raters = [*others]
        if rest and not guess.label:
            guess.doubts["label"] = [best, *rest]
    coders = [
        column for column in columns.values() if column.is_named("rater") and column.name not in guess.list_used()
    ]
    for column in coders if guess.label and not guess.raters else ():
        # A row a coder: each text comes about as often as there are coders.
        if 1 < len(column.counts) <= 50 and table[guess.text].nunique() * 1.5 <= len(table):
            guess.coder = column.name
    if len(guess.raters) == 1:
        guess.raters = []


def _explain_no_label(columns: dict[str, Column]) -> str:
    for column in columns.values():
        if column.is_named("label") and column.numbers and len(column.codes) > MOST_LABELS:
            return f"`{column.name}` holds {len(column.codes)} numbers: say by --above X which of them are high"
        if column.is_named("label") and len(column.codes) < 2:
            held = f"'{column.codes[0]}' alone" if column.codes else "no code"
            return f"`{column.name}` holds {held}, but a classifier needs two labels: code more rows, or name --label"
    return f"no column has between 2 and {MOST_LABELS} codes: name the column of the codes by --label"


def _find_alike(table: pd.DataFrame, columns: dict[str, Column], name: str) -> list[str]:
    """List the columns that code the same thing: the same codes, and more agreement than chance, or names of raters."""
    codes = {code.casefold() for code in columns[name].codes}
    able = []
    for other, column in columns.items():
        others = {code.casefold() for code in column.codes}
        if other != name and others and (others <= codes or codes <= others):
            able.append(other)
    cells = table[name].str.strip()
    alike = {name, *(other for other in able if (measure_kappa(cells, table[other].str.strip()) or 0.0) > _AGREEMENT)}
    stems = {_take_stem(each) for each in alike if columns[each].is_named("rater")}
    return [each for each in columns if each in alike or (each in able and _take_stem(each) in stems)]


def _take_stem(name: str) -> str:
    """Return the name of a column without the number or letter of a rater, such as `score_A` or `human 2`."""
    return re.sub(r"[\W_]*(\d+|(?<![^\W_])[A-Za-z])$", "", name)


def _is_rater(column: Column, alike: list[str]) -> bool:
    """Say whether a column is named as one of several raters'."""
    stem = _take_stem(column.name)
    return column.is_named("rater") or (stem != column.name and [*map(_take_stem, alike)].count(stem) > 1)


def _guess_others(table: pd.DataFrame, columns: dict[str, Column], guess: Guess, said: dict[str, list[str]]) -> None:
    count = len(table)
    for column in columns.values():
        if column.filled == count == len(column.counts) and (column.words < 2) and not _are_times(column):
            guess.id = guess.id or column.name
    if guess.coder:
        keys = [each for each in columns.values() if not table.duplicated([each.name, guess.coder]).any()]
        guess.id = next((each.name for each in keys if each.is_named("other") and len(each.counts) < count), "")
    free = {name: column for name, column in columns.items() if name != guess.id}
    told = said.get("question")
    asked = {
        name: column.letters
        for name, column in free.items()
        if column.is_named("question") and not column.numbers and column.words > 1.5
    }
    guess.question = told[0] if told else max(asked, key=lambda name: asked[name]) if asked and told is None else ""
    if guess.question not in table or len(columns[guess.question].counts) == 1 == table[guess.question].nunique():
        guess.wording = columns[guess.question].counts.index[0] if guess.question in columns else guess.question
        guess.question = ""
    if not guess.question and not guess.wording and told is None and len(split_name(guess.text)) >= _LONG_NAME:
        guess.wording = guess.text
    free.pop(guess.question, None)
    times = [column.name for column in free.values() if _are_times(column) and len(column.counts) > 1]
    guess.time = (said["time"] or [""])[0] if "time" in said else times[0] if len(times) == 1 else ""
    if "time" not in said and len(times) > 1:
        guess.doubts["time"] = times
        guess.time = times[0]
    _guess_group(table, {name: column for name, column in free.items() if name != guess.time}, guess, said)
    guess.subgroups = [
        column.name
        for column in free.values()
        if column.is_named("subgroup") and 1 < len(column.counts) <= 12 and column.name not in guess.list_used()
    ]


def _guess_group(table: pd.DataFrame, columns: dict[str, Column], guess: Guess, said: dict[str, list[str]]) -> None:
    if "group" in said:
        guess.group = (said["group"] or [""])[0]
        return
    rows = table.drop_duplicates(guess.id) if guess.coder and guess.id else table
    scores: dict[str, float] = {}
    for name, column in columns.items():
        distinct = rows[name].nunique()
        named = column.is_named("group")
        repeated = 1 < distinct <= 0.9 * len(rows) and 2 * column.filled > len(table)
        ids = column.letters <= 60 and column.words < 3 and (named or (distinct >= 20 and not column.numbers))
        if repeated and ids and not any(column.is_named(kind) for kind in ("subgroup", "label", "rater")):
            scores[name] = 2.0 * named
    if not scores:
        return
    best = _choose(guess, "group", scores)
    questions = rows[guess.question] if guess.question else None
    same = questions is not None and rows.groupby(best)[guess.question].nunique().max() == 1
    if questions is not None and same and len(rows) >= _SAME_QUESTION * questions.nunique():
        guess.doubts.pop("group", None)
        guess.notes.append(f"`{best}` names the question: --group {best} would test on new questions, not new answers")
    else:
        guess.group = best


def _are_times(column: Column) -> bool:
    cells = pd.Series(column.counts.index[:200], dtype=str)
    return bool(cells.str.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?").mean() > 0.95)


def name_code(code: str, number: int) -> str:
    """Turn a code into a name of letters from a to z, digits and underscores, or else `label_<number>`."""
    plain = unicodedata.normalize("NFKD", code.replace("ß", "ss")).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9-]+", "_", plain).strip("_-")[:40]
    return name if name and len(plain) * 2 >= len(code) else f"label_{number}"
