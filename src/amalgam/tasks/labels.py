"""Turn the codes in a table into labels: a name for each, and its definition from a rubric."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amalgam.errors import DataError
from amalgam.tasks.schema import LEAVE_OUT
from amalgam.tasks.sources import read_file

if TYPE_CHECKING:
    import pandas as pd

MOST_LABELS = 20
_LEAST = 5  # rows of a label, enough for it to be in every set
# Cells that are not codes: what spreadsheets, SPSS and coders write where there is nothing to code.
NO_CODE = re.compile(
    r"|n\.?/?a\.?|#[a-z/0]+[!?]?|nan|null|missing|unclear|unsure|unklar|(un|not )cod(ed|able)|k\.a\.|[?.-]+|-?99+",
    re.IGNORECASE,
)
# Codes of the first of two classes: the last is the positive one.
_NEGATIVE = re.compile(r"(no|not|none|non|un|in|false|wrong|neg|bad|absent|fail|nein|falsch|kein|faux)", re.IGNORECASE)
# Words in a column's name that do not say what its numbers are.
_PLAIN = re.compile(r"(label|final|gold|consensus|adjudicated|majority|agreed|target|codes?|rater|coder|[a-z])")


@dataclass(frozen=True)
class Labels:
    """The labels of a task in class order, and the name of every code (`leave_out` if it has none)."""

    names: list[str]
    codes: dict[str, str]
    ordinal: bool


def find_labels(cells: "pd.Series[str]", column: str, merge_rare: int, drop_rare: int) -> Labels:
    """Name the labels in the cells of a column, or of several raters' columns.

    Labels with fewer than `drop_rare` rows are left out; others with fewer than `merge_rare` become `other`.

    Raises:
        DataError: there are too many labels, or one has too few rows.
    """
    counts = Counter(cells.str.strip())
    codes = [code for code, _ in counts.most_common() if not NO_CODE.fullmatch(code)]
    names, ordinal = name_labels(codes, column)
    rows = Counter[str]()
    for code, label in names.items():
        rows[label] += counts[code]
    become = {label: LEAVE_OUT if count < drop_rare else "other" for label, count in rows.items()}
    rare = {label for label, count in rows.items() if count < max(merge_rare, drop_rare)}
    named = {code: become[label] if label in rare else label for code, label in names.items()}
    order = [label for label in dict.fromkeys(named.values()) if label != LEAVE_OUT]
    advice = (
        f"--merge-rare {_LEAST} merges labels with fewer rows into `other`, --drop-rare {_LEAST} leaves them out, "
        "and --above X turns a score into two labels"
    )
    if len(order) > MOST_LABELS:
        raise DataError(f"`{column}` has {len(order)} labels, but at most {MOST_LABELS} can be told apart: {advice}")
    if len(order) < 2:
        raise DataError(f"`{column}` has only the code {', '.join(order)}: a classifier needs two, so code more rows")
    if few := [label for label in order if label in rows and rows[label] < _LEAST]:
        raise DataError(f"`{few[0]}` in `{column}` has {rows[few[0]]} rows, which is too few to learn: {advice}")
    named |= dict.fromkeys((code for code in counts if NO_CODE.fullmatch(code)), LEAVE_OUT)
    return Labels(order, named, ordinal and "other" not in order)


def name_labels(codes: Sequence[str], column: str) -> tuple[dict[str, str], bool]:
    """Give each code a name that a label can have, in class order, and return whether the labels are ordinal.

    Codes that are the same number ("1", "1.0") or differ only in case and blanks are one label.
    """
    numbers = {code: read_number(code) for code in codes}
    known = [number for number in numbers.values() if number is not None]
    if len(known) < len(codes):
        folded = {code: " ".join(code.casefold().split()) for code in codes}
        common = {folded[code]: code for code in reversed(codes)}  # the most frequent spelling is kept
        order = sorted(codes, key=lambda code: (folded[code], code))
        if len(common) == 2:
            order.sort(key=lambda code: not _NEGATIVE.match(code))
        names: dict[str, str] = {}
        for code in order:
            name = name_code(common[folded[code]], len(set(names.values())) + 1)
            taken = {names[other] for other in names if folded[other] != folded[code]}
            names[code] = f"{name}_{len(names) + 1}" if name in taken else name
        return names, False
    words = [word for word in re.findall(r"[a-z]+", column.casefold()) if not _PLAIN.fullmatch(word)]
    ordinal = len(set(known)) > 2
    stem = "_".join(words) if 0 < len(words) < 4 and column.isascii() else "score" if ordinal else "code"
    order = sorted(codes, key=lambda code: numbers[code] or 0.0)
    said = {code: f"{numbers[code]:g}".replace("-", "minus_").replace(".", "_") for code in order}
    return {code: f"{stem}_{said[code]}" for code in order}, ordinal


def find_combined(codes: Sequence[str]) -> str:
    """Return a code that is several other codes at once, such as "A;B" next to "A" and "B"; "" if there is none."""
    known = {code.strip('[]" ') for code in codes}
    for code in codes:
        parts = {part.strip('[]" ') for part in re.split(r"[;|,/+&]", code)}
        if len(parts) > 1 and parts <= known:
            return code
    return ""


def read_number(cell: str) -> float | None:
    """Read a number with a decimal point or comma; return None for anything else."""
    if re.fullmatch(r"[-+]?\d*[.,]?\d+([eE][-+]?\d+)?|[-+]?\d+[.,]", cell):
        return float(cell.replace(",", "."))
    return None


def measure_kappa(one: "pd.Series[str]", other: "pd.Series[str]") -> float | None:
    """Measure Cohen's kappa over the rows that both coded; None if it is undefined."""
    known = [not (NO_CODE.fullmatch(a) or NO_CODE.fullmatch(b)) for a, b in zip(one, other, strict=True)]
    one, other = one[known], other[known]
    shares, others = one.value_counts(normalize=True), other.value_counts(normalize=True)
    chance = float(shares.mul(others, fill_value=0.0).sum())
    return None if one.empty or chance == 1.0 else (float((one == other).mean()) - chance) / (1.0 - chance)


def name_code(code: str, number: int) -> str:
    """Turn a code into a name of ASCII letters, digits, hyphens and underscores, or else `label_<number>`."""
    plain = unicodedata.normalize("NFKD", code.replace("ß", "ss")).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9-]+", "_", plain).strip("_-")[:40]
    return name if name and len(plain) * 2 >= len(code) else f"label_{number}"


def read_rubric(path: Path, labels: Labels) -> dict[str, str]:
    """Read a definition for each label from a table of two columns, or from lines that begin with its code or name.

    Raises:
        DataError: the file cannot be read, or defines no label.
    """
    codes = {**{name: name for name in labels.names}, **labels.codes}
    known = {key.casefold(): name for code, name in codes.items() for key in (code, name.replace("_", " "))}
    found: dict[str, list[str]] = {}
    if path.suffix.lower() in (".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".parquet"):
        for row in read_file(path).frame.to_numpy():
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
