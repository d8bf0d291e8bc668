"""Numbers as text, names as people say them, and the verdict in plain sentences."""

from collections.abc import Mapping
from typing import Any

MODEL_NAMES = {
    "teacher": "Teacher",
    "student": "Student",
    "human_only": "Human-only teacher",
    "embedding_lr": "Embedding + LR",
    "tfidf_lr": "TF-IDF + LR",
    "llm_grader": "LLM as grader",
}
MODEL_NOTES = {
    "teacher": "fine-tuned on the mix of human and synthetic rows",
    "student": "distilled from the teacher; the one to ship",
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
    "empty": "Empty",
    "cut_off": "Cut off at the token limit",
    "refusal": "Refusal",
    "error": "Error of the endpoint",
    "exact_duplicate": "Equal to another row",
    "near_duplicate": "Nearly equal to another row",
    "copies_shot": "Nearly equal to a human train row",
    "near_validation_or_test": "Nearly equal to a validation or test row",
    "inconsistent": "Label not confirmed",
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


def format_share(value: float) -> str:
    """Write a share as a percentage."""
    return f"{value * 100:.3g}\N{NO-BREAK SPACE}%"


def format_interval(values: Numbers, metric: str, *, signed: bool = False) -> str:
    """Write the interval of a metric as `low to high`, or nothing where it has none."""
    if f"{metric}_low" not in values:
        return ""
    write = format_difference if signed else format_number
    return f"{write(values[f'{metric}_low'])} to {write(values[f'{metric}_high'])}"


def phrase_verdict(params: Numbers, models: Numbers, comparisons: Numbers, speed: Numbers) -> list[str]:
    """Say what the run shows: did the synthetic rows help, is any baseline as good, what does the student keep."""
    return [
        _phrase_gain(params, models, comparisons["gain_over_human_only"]),
        _phrase_baseline(params, models, comparisons["gain_over_best_baseline"]),
        _phrase_student(params, models, comparisons["student_minus_teacher"], speed),
    ]


def weigh_difference(values: Numbers) -> str:
    """Return `better`, `worse` or `unclear`: on which side of zero the whole interval of the AUC lies."""
    if values["auc_low"] > 0:
        return "better"
    return "worse" if values["auc_high"] < 0 else "unclear"


def _phrase_gain(params: Numbers, models: Numbers, gain: Numbers) -> str:
    ratio = params["ratio"]
    numbers = f"AUC {_auc(models, 'teacher')} against {_auc(models, 'human_only')}, {_difference(params, gain)}"
    if ratio == 0:
        return f"No synthetic rows were added, so the teacher is the human-only teacher trained again: {numbers}."
    subject = (
        "training on synthetic rows alone"
        if ratio == 1
        else f"adding synthetic rows ({format_share(ratio)} of the training rows)"
    )
    twin = "the same model trained for as many steps on the human rows alone"
    outcome = weigh_difference(gain)
    if outcome == "unclear":
        return f"It is not clear whether {subject} helps or harms, compared with {twin}: {numbers}."
    return f"{subject.capitalize()} makes the teacher {outcome} than {twin}: {numbers}."


def _phrase_baseline(params: Numbers, models: Numbers, gain: Numbers) -> str:
    best = gain["baseline"]
    if best == "human_only":
        return "No other baseline does better than that human-only teacher."
    name = f"the best baseline, {MODEL_NAMES[best]} (AUC {_auc(models, best)})"
    opening = {
        "better": f"The teacher beats {name}",
        "worse": f"The teacher is worse than {name}",
        "unclear": f"It is not clear whether the teacher is better or worse than {name}",
    }
    return f"{opening[weigh_difference(gain)]}: {_difference(params, gain)}."


def _phrase_student(params: Numbers, models: Numbers, loss: Numbers, speed: Numbers) -> str:
    outcome = {"better": "is better still", "worse": "is less accurate", "unclear": "shows no clear loss"}
    return (
        f"The student, {format_share(speed['size_ratio'])} of the teacher's size and {speed['speedup']:g} times as fast, "
        f"{outcome[weigh_difference(loss)]}: AUC {_auc(models, 'student')}, {_difference(params, loss)}."
    )


def _auc(models: Numbers, model: str) -> str:
    return format_number(models[model]["auc"])


def _difference(params: Numbers, values: Numbers) -> str:
    confidence = format_share(params["evaluation"]["confidence"])
    interval = format_interval(values, "auc", signed=True)
    return f"a paired difference of {format_difference(values['auc'])} ({confidence} interval {interval})"
