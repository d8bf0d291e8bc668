"""What the run shows, in plain sentences with their numbers.

A claim is made only where the whole interval of the AUC difference lies on one side of zero.
"""

from dataclasses import dataclass

from amalgam.report.content import Content
from amalgam.report.phrases import (
    MODEL_NAMES,
    Numbers,
    format_count,
    format_difference,
    format_interval,
    format_number,
    format_share,
)

_TWIN = "the same model trained as long on the human rows alone"


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim, the numbers behind it, and how the first-named model fares: `better`, `worse` or `unclear`."""

    outcome: str
    claim: str
    numbers: str


def phrase_verdict(content: Content) -> Claim:
    """Say in one sentence whether the synthetic rows helped."""
    gain, ratio = content.comparisons["gain_over_human_only"], content.params["ratio"]
    outcome = weigh_difference(gain)
    guard = content.training.get("guard")
    if ratio == 0 or (guard and not guard["helps"]):
        why = "no synthetic rows were added" if ratio == 0 else "the guard left the synthetic rows out"
        teacher = content.models["teacher"]
        interval = format_interval(teacher, "auc")
        return Claim(
            "unclear",
            f"This run says nothing about synthetic rows, as {why}:",
            f"the teacher's AUC is {format_number(teacher['auc'])} "
            f"({_name_interval(content)} {interval}) on human rows alone.",
        )
    human, synthetic = (format_count(content.data["learned"][origin]) for origin in ("human", "synthetic"))
    subject = (
        "training on synthetic rows alone"
        if ratio == 1
        else f"adding {synthetic} synthetic rows to {human} human-coded ones"
    )
    claim = {
        "better": f"{subject.capitalize()} makes the teacher better:",
        "worse": f"{subject.capitalize()} makes the teacher worse:",
        "unclear": f"There is no evidence that {subject} helps or harms:",
    }[outcome]
    return Claim(
        outcome, claim, f"{_phrase_pair(content, gain, 'teacher', 'human_only', _TWIN)}.{_phrase_share(content)}"
    )


def phrase_claims(content: Content) -> list[Claim]:
    """Say how the best baseline does, what the student keeps, and what else was compared."""
    comparisons = content.comparisons
    lead, best = comparisons["gain_over_best_baseline"], comparisons["gain_over_best_baseline"]["baseline"]
    claims = []
    if best != "human_only":
        outcome = weigh_difference(lead)
        text = {
            "better": "The teacher beats the best baseline:",
            "worse": "The teacher is worse than the best baseline:",
            "unclear": "There is no evidence that the teacher differs from the best baseline:",
        }[outcome]
        claims.append(Claim(outcome, text, f"{_phrase_pair(content, lead, 'teacher', best, MODEL_NAMES[best])}."))
    else:
        text = "No other baseline does better than the human-only teacher."
        claims.append(Claim("unclear", text, ""))
    claims.append(_claim_student(content))
    for key, first, second, verb in (
        ("student_minus_undistilled", "student", "student_undistilled", "Distillation"),
        ("int8_minus_student", "student_int8", "student", "Rounding the student's weights to 8 bits"),
    ):
        if key in comparisons and first in content.models and second in content.models:
            outcome = weigh_difference(comparisons[key])
            effect = {
                "better": f"{verb} makes the student better:",
                "worse": f"{verb} makes the student worse:",
                "unclear": f"{verb} makes no difference that this test shows:",
            }[outcome]
            numbers = _phrase_pair(content, comparisons[key], first, second, f"the {MODEL_NAMES[second].lower()}")
            claims.append(Claim(outcome, effect, f"{numbers}."))
    if found := content.selective.get("selective"):
        claims.append(_claim_alone(content, found))
    return claims


def phrase_guard(guard: Numbers) -> Claim:
    """Say what the guard decided about the synthetic rows, and why."""
    decision = "The guard left the synthetic rows out"
    if guard["helps"]:
        sure = guard["difference_low"] > 0
        decision = "The guard let the synthetic rows in" + ("" if sure else ", though it cannot tell that they help")
    interval = format_interval(guard, "difference", signed=True)
    with_them, without = (format_number(guard[f"{name}_auc"]) for name in ("with_synthetic", "human_only"))
    difference = format_difference(guard["difference"]) + (f" ({interval})" if interval else "")
    numbers = (
        f"classifiers of the human rows tell their labels apart with an AUC of {format_number(guard['label_auc'])}, "
        f"where {format_number(guard['least_label_auc'])} was wanted; "
        f"in {guard['folds']}-fold cross-validation on {guard['rows']} human rows such a classifier had an AUC of "
        f"{with_them} with them and of {without} without, a difference of {difference}. No test row took part."
    )
    return Claim("better" if guard["difference_low"] > 0 else "unclear", f"{decision}:", numbers)


def _phrase_share(content: Content) -> str:
    """Say which share of what was learned is synthetic."""
    human, synthetic = (content.data["learned"][origin] for origin in ("human", "synthetic"))
    return f" Of the rows of the mix that it learned, {format_share(synthetic / (human + synthetic))} are synthetic."


def weigh_difference(values: Numbers) -> str:
    """Return `better`, `worse` or `unclear`: on which side of zero the whole interval of the AUC lies."""
    if values["auc_low"] > 0:
        return "better"
    return "worse" if values["auc_high"] < 0 else "unclear"


def _claim_student(content: Content) -> Claim:
    loss, speed = content.comparisons["student_minus_teacher"], content.speed
    outcome = weigh_difference(loss)
    verb = {"better": "is better than it", "worse": "is worse", "unclear": "shows no clear loss"}[outcome]
    size = format_share(round(speed["size_ratio"], 2))
    claim = f"The student, {size} of the teacher's size and {speed['speedup']:g} times as fast, {verb}:"
    return Claim(outcome, claim, f"{_phrase_pair(content, loss, 'student', 'teacher', 'the teacher')}.")


def _claim_alone(content: Content, found: Numbers) -> Claim:
    rows, wanted = format_count(found["rows"]), content.params["shipping"]["agreement"]
    if "agreement" not in found:
        return Claim("unclear", f"The student that ships asks a human about all {rows} test rows:", found["basis"])
    low, high = found["agreement_low"], found["agreement_high"]
    outcome = "better" if low >= wanted else "worse" if high < wanted else "unclear"
    claim = f"The student that ships labels {format_share(found['coverage'])} of the test rows without a human:"
    interval = f"{_name_interval(content)} {format_share(low)} to {format_share(high)}"
    numbers = f"coders agree with {format_share(found['agreement'])} of these labels ({interval}), where "
    return Claim(outcome, claim, f"{numbers}{format_share(wanted)} are wanted. The others go to a human.")


def _phrase_pair(content: Content, difference: Numbers, first: str, second: str, name: str) -> str:
    one, other = (format_number(content.models[model]["auc"]) for model in (first, second))
    interval = format_interval(difference, "auc", signed=True)
    return (
        f"AUC {one} against {other} for {name}, a paired difference of {format_difference(difference['auc'])} "
        f"({_name_interval(content)} {interval})"
    )


def _name_interval(content: Content) -> str:
    return f"{format_share(content.params['evaluation']['confidence'])} interval"
