"""Turn the codes in a table into labels: a name for each, and its definition from a rubric."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amalgam.errors import DataError
from amalgam.tasks.schema import LEAVE_OUT
from amalgam.tasks.sources import read_file

if TYPE_CHECKING:
    import pandas as pd

MOST_LABELS = 20
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "\u0131": "i"}
)
_LEAST = 5  # rows of a label, enough for it to be in every set
# Cells that are not codes: what spreadsheets, SPSS and coders write where there is nothing to code; see `list_codes`.
_NO_CODE = re.compile(
    r"|n\.?/?a\.?|#[a-z/0]+[!?]?|nan|null|unclear|unsure|unklar|(un|not )cod(ed|able)|k\.a\.|[?.-]+"
    r"|(-9[5-8]|-?99+)([.,]0+)?",
    re.IGNORECASE,
)
# Codes of the first of two classes: the last is the positive one.
_NEGATIVE = re.compile(r"(-|no|un|in|false|wrong|neg|bad|absent|fail|nein|falsch|kein|faux)", re.IGNORECASE)
# Words in a column's name that do not say what its numbers are.
_PLAIN = re.compile(r"(label|final|gold|consensus|adjudicated|majority|agreed|target|codes?|rater|coder|[a-z])")


@dataclass(frozen=True)
class Labels:
    """The labels of a task in class order, and the name of every code (`leave_out` if it has none)."""

    names: list[str]
    codes: dict[str, str]
    ordinal: bool


def find_labels(cells: "pd.Series[str]", column: str, merge_rare: int, drop_rare: int) -> Labels:
    """Name the labels in the cells of a column, or of several raters' columns, where the majority of a row counts.

    Labels with fewer than `drop_rare` rows are left out; others with fewer than `merge_rare` become `other`.
    """
    cells = cells.str.strip()
    counts = Counter(cells)
    names, ordinal = name_labels(list_codes(code for code, _ in counts.most_common()), column)
    rows = _count_rows(cells, names)
    other = next((label for label in names.values() if label.casefold() == "other"), "other")
    rare = {label for label in names.values() if rows[label] < max(merge_rare, drop_rare)}
    become = {label: LEAVE_OUT if rows[label] < drop_rare else other for label in rare}
    named = {code: become.get(label, label) for code, label in names.items()}
    rows = _count_rows(cells, named)
    order = [label for label in dict.fromkeys(named.values()) if label != LEAVE_OUT]
    advice = (
        f"--drop-rare {_LEAST} leaves out labels with fewer rows, "
        + ("" if merge_rare >= _LEAST else f"--merge-rare {_LEAST} merges them into `other`, ")
        + "and --above X turns a score into two labels"
    )
    if len(order) > MOST_LABELS:
        raise DataError(f"`{column}` has {len(order)} labels, but at most {MOST_LABELS} can be told apart: {advice}")
    if len(order) < 2:
        held = f"only the code {order[0]}" if order else "no code"
        raise DataError(
            f"`{column}` has {held}: a classifier needs two, so code more rows, or empty cells with a second one"
        )
    if few := [label for label in order if rows[label] < _LEAST]:
        what = f"{rows[few[0]]} rows" if cells.index.is_unique else f"the majority in {rows[few[0]]} rows"
        raise DataError(f"`{few[0]}` in `{column}` has {what}, which is too few to learn: {advice}")
    named |= dict.fromkeys((code for code in counts if code not in named), LEAVE_OUT)
    return Labels(order, named, ordinal and other not in order)


def list_codes(cells: Iterable[str]) -> list[str]:
    """List the distinct cells of a column that are codes; `-` is one if another is `+`."""
    distinct = dict.fromkeys(cells)
    signs = any(re.fullmatch(r"\++", cell) for cell in distinct)
    return [cell for cell in distinct if not _NO_CODE.fullmatch(cell) or (signs and re.fullmatch("-+", cell))]


def fold_code(code: str) -> str:
    """Return the form in which codes are compared: no case, single blanks, and one spelling of a number."""
    number = read_number(code)
    return " ".join(code.casefold().split()) if number is None else f"{number:.15g}"


def _count_rows(cells: "pd.Series[str]", names: dict[str, str]) -> Counter[str]:
    """Count the rows of each label; the raters of a row, whose cells have the same index, vote."""
    labels = cells.map(lambda code: names.get(code, ""))
    return Counter(labels if labels.index.is_unique else labels.groupby(level=0).agg(vote))


def name_labels(codes: Sequence[str], column: str) -> tuple[dict[str, str], bool]:
    """Give each code a name that a label can have, in class order, and return whether the labels are ordinal.

    Codes that are the same number ("1", "1.0") or differ only in case and blanks are one label. But where "1.10" comes
    with "1.1", codes are sections of a codebook, not numbers.
    """
    numbers = {code: read_number(code) for code in codes}
    known = [number for number in numbers.values() if number is not None]
    sections = any(code[:-1] in numbers for code in codes if re.fullmatch(r"[1-9]\d*[.,]10", code))
    if len(known) < len(codes) or sections:
        folded = {code: " ".join(code.casefold().split()) for code in codes}
        common = {folded[code]: code for code in reversed(codes)}  # the most frequent spelling is kept
        order = sorted(codes, key=lambda code: (folded[code], code))
        if len(common) == 2:
            order.sort(key=lambda code: not _NEGATIVE.match(code))
        names: dict[str, str] = {}
        for key in dict.fromkeys(folded[code] for code in order):
            name = name_code(common[key], len(names) + 1)
            while name in names.values():
                name += f"_{len(names) + 1}"
            names[key] = name
        return {code: names[folded[code]] for code in order}, False
    words = [word for word in re.findall(r"[a-z]+", column.casefold()) if not _PLAIN.fullmatch(word)]
    ordinal = len(set(known)) > 2
    stem = "_".join(words) if 0 < len(words) < 4 and column.isascii() else "score" if ordinal else "code"
    order = sorted(codes, key=lambda code: numbers[code] or 0.0)
    marks = str.maketrans({"-": "minus_", ".": "_", "+": ""})
    return {code: f"{stem}_{fold_code(code).translate(marks)}" for code in order}, ordinal


def vote(codes: Iterable[str]) -> str:
    """Return the most frequent code, or `leave_out` if there is no single one."""
    found = Counter(code for code in codes if code not in ("", LEAVE_OUT)).most_common(2)
    return LEAVE_OUT if not found or len({count for _, count in found}) < len(found) else found[0][0]


def find_combined(codes: Sequence[str]) -> str:
    """Return a code that is several other codes at once, such as "A;B" next to "A" and "B"; "" if there is none."""
    known = {code.strip('[]" ') for code in codes}
    for code in codes:
        parts = {part.strip('[]" ') for part in re.split(r"[;|,/+&]", code)}
        if len(parts) > 1 and parts <= known:
            return code
    return ""


def read_number(cell: str) -> float | None:
    """Read a number with a decimal point or comma, also "1½", "50%" and "1.00 / 2"; return None for anything else."""
    plain = cell.replace("½", ".5")
    if read := re.fullmatch(r"([-+]?\d*[.,]?\d+(?:[eE][-+]?\d+)?|[-+]?\d+[.,])(?:\s?%| / \d+(?:\.\d+)?)?", plain):
        return float(read[1].replace(",", "."))
    return None


def measure_kappa(one: "pd.Series[str]", other: "pd.Series[str]") -> float | None:
    """Measure Cohen's kappa over the rows that both coded; None if it is undefined."""
    one, other = (cells.map({code: fold_code(code) for code in list_codes(cells)}) for cells in (one, other))
    known = one.notna() & other.notna()
    one, other = one[known], other[known]
    shares, others = one.value_counts(normalize=True), other.value_counts(normalize=True)
    chance = float(shares.mul(others, fill_value=0.0).sum())
    return None if one.empty or chance == 1.0 else (float((one == other).mean()) - chance) / (1.0 - chance)


def name_code(code: str, number: int) -> str:
    """Turn a code into a name of ASCII letters, digits, hyphens and underscores, or else `label_<number>`."""
    if re.fullmatch(r"[+-]+", code):
        code = code.replace("+", "plus ").replace("-", "minus ")
    plain = unicodedata.normalize("NFKD", code.translate(_LETTERS)).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9-]+", "_", plain).strip("_-")[:40]
    return name if name and len(plain) * 2 >= len(code) else f"label_{number}"


def read_rubric(path: Path, labels: Labels) -> dict[str, str]:
    """Read a definition for each label from a table of two columns, or from lines that begin with its code or name."""
    codes = {**{name: name for name in labels.names}, **labels.codes}
    known = {key.casefold(): name for code, name in codes.items() for key in (code, name.replace("_", " "))}
    found: dict[str, list[str]] = {}
    if path.suffix.lower() in (".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".parquet"):
        table = read_file(path).frame
        for row in [[*table], *table.to_numpy()]:  # also the first, because not every table has a header
            cells = [cell.strip() for cell in row if cell.strip()]
            if len(cells) > 1 and cells[0].casefold() in known:
                found[known[cells[0].casefold()]] = cells[1:2]
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as UTF-8 text: name a rubric that can") from error
        keys = "|".join(re.escape(key) for key in sorted(known, key=len, reverse=True) if key)
        start = re.compile(rf"[\s#>*|`\"-]*({keys})[\s*|`\"]*(?:[:=|\u2013\u2014-]\s*|$)(.*)", re.IGNORECASE)
        label = ""
        for line in lines:
            if match := start.match(line):
                label = known[match[1].casefold()]
            if label and (text := (match[2] if match else line).strip(" |*#")):
                found.setdefault(label, []).append(text)
    if not found:
        raise DataError(f"{path} defines none of {', '.join(labels.names)}: write one label per line, `label: text`")
    return {label: " ".join(texts) for label, texts in found.items()}
