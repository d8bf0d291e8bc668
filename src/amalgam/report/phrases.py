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


def flatten_values(values: Numbers, prefix: str = "") -> list[tuple[str, str]]:
    """List the leaves of nested values as (dotted key, text), keys as `dvc exp run -S` takes them."""
    leaves: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            leaves += flatten_values(value, f"{prefix}{name}.")
            continue
        text = str(value)
        if isinstance(value, list):
            text = ", ".join(map(str, value))
        elif value is None or isinstance(value, bool):
            text = "null" if value is None else text.lower()
        leaves.append((prefix + name, text))
    return leaves
