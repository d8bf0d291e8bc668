"""Names as people say them, and numbers as text."""

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
MODEL_NOTES = {
    "teacher": "fine-tuned on the mix of human and synthetic rows",
    "student": "distilled from the teacher",
    "student_int8": "the student with 8-bit weights, as ONNX",
    "student_undistilled": "the student's twin, trained on the labels alone without the teacher",
    "human_only": "the teacher's twin without synthetic rows: same encoder, steps and seeds",
    "embedding_lr": "frozen sentence embedding with logistic regression, human rows alone",
    "tfidf_lr": "TF-IDF with logistic regression, human rows alone",
    "llm_grader": "the LLM itself, given the rubric and a few human rows",
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
REASON_NAMES = {
    "thinking": "Nothing but thinking",
    "announcement": "Announced, but not there",
    "empty": "Empty",
    "malformed": "Not in the format that was asked for",
    "cut_off": "Cut off at the token limit",
    "refusal": "Refusal",
    "error": "Error of the endpoint",
    "exact_duplicate": "Equal to another row",
    "near_duplicate": "Nearly equal to another row",
    "copies_shot": "Nearly equal to a human train row",
    "near_validation_or_test": "Nearly equal to a validation or test row",
    "inconsistent": "Label not confirmed",
    "ungraded": "The judge's grade could not be read",
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
    """Write a share as a percentage, with as many decimals as told or as few as it needs."""
    percent = f"{value * 100:.3g}" if digits is None else f"{value * 100:.{digits}f}"
    return f"{percent}\N{NO-BREAK SPACE}%"


def format_interval(values: Numbers, metric: str, *, signed: bool = False) -> str:
    """Write the interval of a metric as `low to high` without a line break, or nothing where it has none."""
    if f"{metric}_low" not in values:
        return ""
    write = format_difference if signed else format_number
    return "\N{NO-BREAK SPACE}".join((write(values[f"{metric}_low"]), "to", write(values[f"{metric}_high"])))
