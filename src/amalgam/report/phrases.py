"""Names as people say them, numbers as text, and nested values as dotted keys."""

from collections.abc import Mapping
from typing import Any

MODEL_NAMES = {
    "teacher": "Teacher",
    "student": "Student",
    "student_int8": "Student, int8",
    "student_undistilled": "Undistilled student",
    "human_only": "Human-only teacher",
    "embedding_lr": "Embedding + LR",
    "tfidf_lr": "TF-IDF + LR",
    "llm_grader": "LLM as grader",
}
METRIC_NAMES = {
    "auc": "AUC",
    "macro_f1": "Macro-F1",
    "accuracy": "Accuracy",
    "kappa": "Kappa",
    "quadratic_kappa": "Quadratic kappa",
    "brier": "Brier score",
    "ece": "Calibration error",
}

Numbers = Mapping[str, Any]


def format_number(value: float, digits: int = 3) -> str:
    """Write a number with a real minus sign."""
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def format_difference(value: float, digits: int = 3) -> str:
    """Write a difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def format_count(value: float) -> str:
    """Write a count with thin blanks between thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def format_share(value: float, digits: int | None = None) -> str:
    """Write a share as a percentage, with `digits` decimals or as few as it needs."""
    percent = f"{value * 100:.3g}" if digits is None else f"{value * 100:.{digits}f}"
    return f"{percent}\N{NO-BREAK SPACE}%"


def format_interval(values: Numbers, metric: str, *, signed: bool = False) -> str:
    """Write the interval of a metric as `low to high` without a line break; empty where it has none."""
    if f"{metric}_low" not in values:
        return ""
    write = format_difference if signed else format_number
    return "\N{NO-BREAK SPACE}".join((write(values[f"{metric}_low"]), "to", write(values[f"{metric}_high"])))


def flatten(values: Numbers, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested values by dotted key, as `dvc exp run -S` takes them; a list is a leaf."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping) and value
        leaves |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return leaves


def flatten_values(values: Numbers) -> list[tuple[str, str]]:
    """List the leaves of nested values as (dotted key, text)."""
    return [(name, write_value(value)) for name, value in flatten(values).items()]


def write_value(value: Any) -> str:
    """Write a value much as YAML would."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
