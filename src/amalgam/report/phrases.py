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
    "malformed": "Not in the format that was asked for",
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


def phrase_verdict(params: Numbers, models: Numbers, comparisons: Numbers, speed: Numbers) -> list[tuple[str, str]]:
    """Say what the run shows, as claims and the numbers behind them.

    Did the synthetic rows help, is a baseline as good, and what does the student keep? A claim is made only where
    the whole interval of the AUC difference lies on one side of zero.
    """
    gain, lead, loss = (
        comparisons[name] for name in ("gain_over_human_only", "gain_over_best_baseline", "student_minus_teacher")
    )
    best = lead["baseline"]
    claims = [
        (_claim_gain(params["ratio"], weigh_difference(gain)), "teacher", "human_only", gain),
        (_claim_lead(best, weigh_difference(lead)), "teacher", best, lead),
        (_claim_student(speed, weigh_difference(loss)), "student", "teacher", loss),
    ]
    confidence = format_share(params["evaluation"]["confidence"])
    return [
        (claim, _phrase_numbers(models[first]["auc"], models[second]["auc"], difference, confidence))
        for claim, first, second, difference in claims
    ]


def weigh_difference(values: Numbers) -> str:
    """Return `better`, `worse` or `unclear`: on which side of zero the whole interval of the AUC lies."""
    if values["auc_low"] > 0:
        return "better"
    return "worse" if values["auc_high"] < 0 else "unclear"


def _claim_gain(ratio: float, outcome: str) -> str:
    if ratio == 0:
        return "No synthetic rows were added: the teacher is the human-only teacher, trained again."
    subject = (
        "training on synthetic rows alone"
        if ratio == 1
        else f"adding synthetic rows ({format_share(ratio)} of the training rows)"
    )
    twin = "the same model trained for as many steps on the human rows alone"
    if outcome == "unclear":
        return f"It is not clear whether {subject} helps or harms, compared with {twin}."
    return f"{subject.capitalize()} makes the teacher {outcome} than {twin}."


def _claim_lead(best: str, outcome: str) -> str:
    if best == "human_only":
        return "None of the other baselines does better than that human-only teacher."
    name = f"the best baseline, {MODEL_NAMES[best]}"
    return {
        "better": f"The teacher beats {name}.",
        "worse": f"The teacher is worse than {name}.",
        "unclear": f"It is not clear whether the teacher is better or worse than {name}.",
    }[outcome]


def _claim_student(speed: Numbers, outcome: str) -> str:
    verb = {"better": "is better still", "worse": "is less accurate", "unclear": "shows no clear loss"}[outcome]
    size = format_share(round(speed["size_ratio"], 2))
    return f"The student, {size} of the teacher's size and {speed['speedup']:g} times as fast, {verb}."


def _phrase_numbers(first: float, second: float, difference: Numbers, confidence: str) -> str:
    interval = format_interval(difference, "auc", signed=True)
    return (
        f"AUC\N{NO-BREAK SPACE}{format_number(first)} against {format_number(second)}: a paired difference of "
        f"{format_difference(difference['auc'])} ({confidence} interval {interval})."
    )
