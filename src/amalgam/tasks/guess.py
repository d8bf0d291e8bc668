"""Find out what each column of a table of coded responses is for, from its name and its cells."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import pandas as pd

from amalgam.errors import DataError
from amalgam.tasks.labels import MOST_LABELS, fold_code, list_codes, measure_kappa, read_number
from amalgam.tasks.texts import WORD, parse_times

_AGREEMENT = 0.4  # Cohen's kappa from which two columns with the same codes count as raters of the same thing
_CODED_AGAIN = 0.05  # share of rows with equal text and coder from which a column of names does not tell coders apart
_SAME_QUESTION = 20  # answers to a question from which the model will label new answers, not new questions
LONG_NAME = 5  # words from which a column's name is not a name, but the question as it was asked
# Words in column names, by what such a column is for.
_NAMES = {
    "text": """text response answer comment essay reply utterance sentence content message reflection entry verbatim
        review post tweet feedback transcript antwort aufsatz kommentar réponse respuesta risposta antwoord""",
    "label": """label code codes score grade rating class category mark marks final gold consensus adjudicated majority
        agreed target y correct correctness human sentiment stance points level move act tag theme intent kategorie
        bewertung punkte wertung""",
    "best": "label final gold consensus adjudicated majority agreed target",
    "rater": "rater coder annotator judge grader marker reviewer rated coded by r kodierer rating",
    "question": "question prompt item task stem frage aufgabe pregunta domanda",
    "group": """group student pupil author user participant respondent conversation dialogue dialog thread session
        learner writer essay document doc video person subject team teacher anon schüler proband""",
    "subgroup": """gender sex ethnicity race age language native country school region cohort ses esl ell frl dialect
        condition geschlecht muttersprache schule""",
    "part": "first last given family surname forename vorname nachname nom prénom apellido apellidos",
    "time": "time timestamp date datetime created submitted started finished unix epoch datum zeit fecha",
    "id": "id uuid guid key nr no number nummer row index hash",
    "other": """reference feedback rationale reason explanation note notes url link title name first last email mail id
        file path row index no number turn speaker role round trial attempt week page section status state progress
        predicted prediction pred llm gpt""",
}
_WORDS = {kind: frozenset(words.split()) for kind, words in _NAMES.items()}
_DATE = (
    r"(?i)(\d{4}[./-]\d\d?[./-]\d\d?|\d\d?[./-]\d\d?[./-](\d{4}|\d\d)"
    r"|.{0,8}\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[. -]{1,2}\d.{0,8})([T ,].{1,30})?"
)
_UNIX = r"1\d{9}(\d{3})?(\.\d+)?"  # seconds or milliseconds since 2001


@dataclass(frozen=True, slots=True)
class Column:
    """The properties of a column; cells are stripped, and empty ones do not count."""

    name: str
    counts: "pd.Series[int]"  # by distinct cell
    codes: list[str]  # distinct cells that are codes
    filled: int
    words: float
    numbers: bool  # also times of day and durations
    times: bool

    def is_named(self, *kinds: str) -> bool:
        """Return whether the name has a word that is typical of columns of these kinds."""
        words = split_name(self.name)
        return len(words) < LONG_NAME and any(not _WORDS[kind].isdisjoint(words) for kind in kinds)


_Columns = dict[str, Column]
_Said = dict[str, list[str]]


@dataclass(slots=True)
class Guess:
    """What each column is for; "" or an empty list means that the table has no such column."""

    text: str = ""
    label: str = ""  # "" if it is the majority of `raters`
    raters: list[str] = field(default_factory=list)
    coder: str = ""  # names the coder, if a response has a row for each
    id: str = ""
    question: str = ""
    group: str = ""
    time: str = ""
    subgroups: list[str] = field(default_factory=list)
    wording: str = ""  # of the question that all rows answer
    doubts: dict[str, list[str]] = field(default_factory=dict)  # by flag, the possible answers, best first
    notes: list[str] = field(default_factory=list)  # why a column that could be for something is not used for it

    @property
    def coded(self) -> list[str]:
        """The columns that hold the codes."""
        return [self.label] if self.label else self.raters

    def list_used(self) -> set[str]:
        """List all columns that have a use."""
        alone = (self.text, self.label, self.coder, self.id, self.question, self.group, self.time)
        return {*alone, *self.raters, *self.subgroups}

    def choose(self, flag: str, scores: dict[str, float], margin: float = 1.0) -> str:
        """Return the candidate with the best score, and note a doubt if others are within the margin."""
        ordered = sorted(scores, key=lambda name: -scores[name])
        close = [name for name in ordered if scores[ordered[0]] - scores[name] < margin]
        if len(close) > 1:
            self.doubts[flag] = close
        return ordered[0] if ordered else ""


def guess_columns(table: pd.DataFrame, said: _Said, personal: Collection[str] = ()) -> Guess:
    """Guess what each column is for; a DataError says so if no column can be the response or the label.

    `said` has the columns that flags name, an empty list for what is to be left out; a `personal` column is not an id.
    """
    for flag, names in said.items():
        for name in names:
            if name not in table and not (flag == "question" and len(name.split()) > 1):
                known = ", ".join(f"`{each}`" for each in table)
                raise DataError(f"there is no column `{name}` for --{flag}, only {known}: name one of these")
    every = [_describe_column(name, table[name].str.strip()) for name in map(str, table)]
    columns = {column.name: column for column in every if column.filled}
    guess = Guess("".join(said.get("text", [])), "".join(said.get("label", [])), said.get("rater", []))
    if not guess.text:
        _guess_text(columns, guess)
    columns.pop(guess.text, None)
    if guess.label or guess.raters:
        if not guess.raters and guess.label in columns:
            raters = _find_raters(table, columns, guess.label, guess.text)[1]
            guess.raters = [name for name in raters if name != guess.label]
    else:
        _guess_label(table, columns, guess)
    if len(guess.raters) == 1:
        guess.label, guess.raters = guess.label or guess.raters[0], []
    if guess.label in table and guess.label in {*table[guess.label]} and len(guess.text.split()) >= LONG_NAME:
        raise DataError(
            f"the first row holds a response ('{guess.text[:40]}') and its code, not names of columns: "
            "put a row of names above it"
        )
    used = guess.list_used()
    others = {name: column for name, column in columns.items() if name not in used}
    _guess_others(table, others, guess, said, personal)
    return guess


def split_name(name: str) -> list[str]:
    """Return the words of a column's name, in lower case."""
    return re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())


def _describe_column(name: str, cells: "pd.Series[str]") -> Column:
    counts = cells[cells != ""].value_counts()
    texts, filled = pd.Series(counts.index, dtype=str), int(counts.sum())
    words = float((texts.str.count(WORD) * counts.to_numpy()).sum() / max(filled, 1))
    first = texts.head(200)
    date = _UNIX if _WORDS["time"].intersection(split_name(name)) and first.str.isdigit().all() else _DATE
    times = first.str.fullmatch(date).mean() > 0.95
    numbers = all(read_number(text) is not None or re.fullmatch(r"\d+(:\d\d)+", text) for text in first)
    return Column(name, counts, list_codes(counts.index), filled, words, numbers, bool(times))


def _guess_text(columns: _Columns, guess: Guess) -> None:
    scores = {}
    for name, column in columns.items():
        share, told = len(column.counts) / column.filled, column.is_named("text")
        free = (told and len(column.counts) > MOST_LABELS) or (share >= 0.2 and (told or column.words >= 1.5))
        if free and not (column.numbers or column.times or (column.is_named("id") and column.words < 2)):
            other = column.is_named("question", "other", "rater")
            scores[name] = 3.0 * told - 3.0 * other + 2.0 * share + min(column.words, 40) / 40
    if not scores:
        raise DataError("no column holds free text: name the column of the responses with --text")
    guess.text = guess.choose("text", scores)


def _guess_label(table: pd.DataFrame, columns: _Columns, guess: Guess) -> None:
    # One row per coder: each response occurs about as often as there are coders, hardly ever twice for one of them.
    # Equal texts of two students, or to two questions, are two responses.
    response = [guess.text, *(name for name, column in columns.items() if column.is_named("question", "group"))]
    several = len(table.drop_duplicates(response)) * 1.5 <= len(table)
    able = [name for name, column in columns.items() if column.is_named("rater") and 1 < len(column.counts) <= 50]
    coders = [name for name in able if several and table.duplicated([*response, name]).mean() < _CODED_AGAIN]
    scores: dict[str, float] = {}
    for name, column in columns.items():
        count = len(column.codes)
        if 1 < count <= MOST_LABELS and 2 * count <= column.filled and column.words < 10 and not column.times:
            told = 2.0 * column.is_named("label") + 2.0 * column.is_named("best") + column.is_named("rater")
            other = sum(column.is_named(kind) for kind in ("subgroup", "group", "question", "other")) + (name in coders)
            # `Points - Why is it hot?` belongs to `Why is it hot?`, and `Q1_code` to `Q1`, not to `Q2`.
            same = 4.0 * (len(guess.text.split()) >= LONG_NAME and guess.text in name)
            scores[name] = told - 2.0 * other + same + _match_places(name, guess.text)
    if not scores:
        raise DataError(_explain_no_label(columns, len(table)))
    best = max(scores, key=lambda name: scores[name])
    alike, guess.raters = _find_raters(table, columns, best, guess.text)
    whole = [name for name in scores if columns[name].filled > 2 * columns[best].filled]
    if columns[best].is_named("best") and whole:  # an adjudicator codes only where the raters disagree
        raters = _find_raters(table, columns, max(whole, key=lambda name: scores[name]), guess.text)[1]
        if len(others := [name for name in raters if name != best]) > 1:
            alike = guess.raters = [*others, best]
            guess.notes.append(f"`{best}` has codes for few rows: the majority of it and the raters is the label")
    named = {name: scores[name] for name in alike if name in scores and name not in guess.raters}
    rest = {name: score for name, score in scores.items() if name not in alike and score >= scores[best]}
    if len(named) > 1 and len({*named.values()}) == 1 and not guess.raters:  # traits of a text, or people's names
        joined = ", ".join(f"`{name}`" for name in named)
        guess.notes.append(f"{joined} agree: if they are raters of the same thing, name each with --rater")
    if named:
        guess.label = guess.choose("label", named | rest)
    if rest and not guess.label:
        guess.doubts["label"] = [best, *rest]
    codes = columns[guess.label].codes if guess.label else []
    flags = [name for name, column in columns.items() if {*column.codes} == {*codes}]
    marks = [code for code in codes if (table[flags] == code).sum(axis=1).eq(1).all()]
    if len(codes) == 2 and len(flags) > 2 and marks:
        what = f"one of {', '.join(f'`{name}`' for name in flags)} is {marks[0]} in every row"
        guess.notes.append(f"{what}, so they are one label: make one column of their names")
    if guess.label and not guess.raters:
        guess.coder = next((name for name in coders if name != guess.label), "")


def _explain_no_label(columns: _Columns, rows: int) -> str:
    for column in columns.values():
        codes, holds = column.codes, f"`{column.name}` holds"
        if not column.is_named("label") or 1 < len(codes) <= MOST_LABELS:
            continue
        if len(codes) < 2:
            held = f"only '{codes[0]}'" if codes else "no code"
            return f"{holds} {held}, but a classifier needs two labels: code more rows, or change --label"
        if column.numbers:
            return f"{holds} {len(codes)} numbers: set with --above X which of them are high"
        if column.words < 10:
            merge = f"merge rare ones with --label '{column.name}' --merge-rare ROWS"
            return f"{holds} {len(codes)} codes, but at most {MOST_LABELS} can be told apart: {merge}"
    none = f"no column has between 2 and {MOST_LABELS} codes"
    marked = [f"`{name}`" for name, column in columns.items() if len(column.codes) == 1 and column.filled < rows]
    if marked:
        return f"{none}, since cells of {', '.join(marked)} have one or none: write 0, for example, into empty cells"
    return f"{none}: name the column of the codes with --label"


def _find_raters(table: pd.DataFrame, columns: _Columns, name: str, text: str) -> tuple[list[str], list[str]]:
    """List the columns that code the same thing as this one, and those of them that are named as raters' columns.

    They share codes, agree beyond chance or are named as raters, and do not belong to another text.
    """
    least = min(_match_places(name, text), 0)
    columns = {other: column for other, column in columns.items() if _match_places(other, text) >= least}
    codes = {*map(fold_code, columns[name].codes)}
    found = {other: {*map(fold_code, column.codes)} for other, column in columns.items() if other != name}
    able = [other for other, others in found.items() if others and (others <= codes or codes <= others)]
    cells = table[name].str.strip()
    alike = {name, *(other for other in able if (measure_kappa(cells, table[other].str.strip()) or 0.0) > _AGREEMENT)}
    stems = {_take_stem(each) for each in alike if columns[each].is_named("rater")}
    same = [each for each in columns if each in alike or (each in able and _take_stem(each) in stems)]
    counts = Counter(map(_take_stem, same))
    numbered = {each for each in same if _take_stem(each) != each and counts[_take_stem(each)] > 1}
    return same, [each for each in same if columns[each].is_named("rater") or each in numbered]


def _match_places(name: str, text: str) -> int:
    """Return 1 if a column's name has the number in the name of the text's column, -1 if it has another, or else 0."""
    places, others = (re.findall(r"([^\W\d_]*)(\d+)", each.casefold()) for each in (text, name))
    same = {each for each in others if each[0] and each[0] in dict(places)}  # `q2` of `r1_Q2`, if the text is in `Q1`
    match = same <= {*places} if same else [each[1] for each in others[: len(places)]] == [each[1] for each in places]
    return (1 if match else -1) if places and others else 0


def _take_stem(name: str) -> str:
    """Return the name of a column without the number or letter of a rater, as in `score_A` or `human 2`."""
    return re.sub(r"[\W_]*(\d+|(?<![^\W_])[A-Za-z])$", "", name)


def _guess_others(table: pd.DataFrame, columns: _Columns, guess: Guess, said: _Said, personal: Collection[str]) -> None:
    """Guess id, question, date, group and subgroups among the remaining columns, in this order."""
    first = str(table.columns[0])
    for name, column in sorted(columns.items(), key=lambda item: not item[1].is_named("id")):
        able = (column.is_named("id") or name == first) and column.words < 2 and not column.times
        alone = len(column.counts) == len(table)
        if guess.coder:  # all rows of an id have the same text
            texts = table.drop_duplicates([name, guess.text])
            alone = len(texts) == len(column.counts) and not table.duplicated([name, guess.coder]).any()
        if able and alone and column.filled == len(table) and name not in personal:
            guess.id = guess.id or name
    if "question" in said:
        guess.question = "".join(said["question"])
    else:
        about = [each for each in columns.values() if each.is_named("question") and each.words > 1.5]
        about = [each for each in about if not each.numbers and _match_places(each.name, guess.text) >= 0]
        asked = {each.name: each.words for each in about}
        guess.question = max(asked, key=lambda name: asked[name], default="")
        guess.wording = guess.text if not asked and len(split_name(guess.text)) >= LONG_NAME else ""
    if guess.question not in columns or len(columns[guess.question].counts) == 1:
        asked_all = columns[guess.question].counts.index[0] if guess.question in columns else guess.question
        guess.wording, guess.question = asked_all or guess.wording, ""
    if guess.question and 2 * columns[guess.question].filled <= len(table):
        guess.notes.append(f"`{guess.question}` is empty in most rows: if its cells were merged, fill each of them")
    free = {name: column for name, column in columns.items() if name not in guess.list_used()}
    dates = list[str]()
    for name, column in free.items():
        if not column.times or len(column.counts) == 1 or name in personal:
            continue
        try:
            parse_times(pd.DataFrame({"id": table.index, "time": table[name].str.strip()}))
            dates.append(name)
        except DataError as error:
            guess.notes.append(f"`{name}` is not used as the date: {str(error).rpartition(': ')[0]}")
    if len(dates) > 1 and "time" not in said:
        guess.notes.append(f"dates are also in {', '.join(f'`{name}`' for name in dates[1:])}: use --time for another")
    guess.time = "".join(said.get("time", dates[:1]))
    rows = table.drop_duplicates(guess.id) if guess.coder and guess.id else table
    scores: dict[str, float] = {}
    for name, column in free.items():
        distinct, named = rows[name].nunique(), column.is_named("group") or name == "id"  # of a person, if it repeats
        repeated = 2 < distinct <= 0.9 * len(rows) and 2 * column.filled > len(table) and not column.times
        ids = column.words < 3 and (named or (distinct >= 20 and not column.numbers))
        if repeated and ids and not column.is_named("subgroup", "label", "rater", "part"):
            scores[name] = 2.0 * named + distinct / len(rows)
    if "group" in said:
        guess.group = "".join(said["group"])
    else:
        if guess.question and len(rows) >= _SAME_QUESTION * rows[guess.question].nunique():
            for name in [name for name in scores if rows.groupby(name)[guess.question].nunique().max() == 1]:
                advice = f"--group {name} would test on new questions, not new answers"
                guess.notes.append(f"`{name}` identifies the question: {advice}")
                del scores[name]
        guess.group = guess.choose("group", scores)
    few = [name for name, column in free.items() if column.is_named("subgroup") and 1 < len(column.counts) <= 12]
    guess.subgroups = [name for name in few if name not in guess.list_used()]
