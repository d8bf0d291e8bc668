import re
from dataclasses import replace
from html import unescape

import pytest

from amalgam.report.page import write_section
from tests.unit.reporting import METRICS, make_content, make_difference, make_estimates

WIDE = "\N{NO-BREAK SPACE}"


def read_claims(content):
    """Return the claims of the verdict (outcome, claim, numbers), the lead first."""
    html = write_section("verdict", content)
    found = re.findall(r'<(?:p|li) class="(?:lead )?(\w+)"><strong>(.*?)</strong>(.*?)</(?:p|li)>', html)
    return [(outcome, unescape(claim), unescape(numbers).strip()) for outcome, claim, numbers in found]


def compare(models=(), **differences):
    """Return a run with other differences, and with more models."""
    metrics = make_content().metrics
    more = {name: make_estimates(METRICS) for name in models}
    changed = {"comparisons": metrics["comparisons"] | differences, "models": metrics["models"] | more}
    return make_content(metrics=changed)


@pytest.mark.parametrize(
    ("ratio", "ends", "outcome", "claim"),
    [
        (0.8, (0.1, 0.2), "better", "Adding 164 synthetic rows to 41 human-coded ones makes the teacher better:"),
        (1, (-0.2, -0.1), "worse", "Training on synthetic rows alone makes the teacher worse:"),
        (
            0.5,
            (-0.1, 0.1),
            "unclear",
            "There is no evidence that adding 164 synthetic rows to 41 human-coded ones helps",
        ),
        (0, (0.1, 0.2), "unclear", "This run says nothing about synthetic rows, as no synthetic rows were added:"),
    ],
)
def test_verdict_follows_the_interval(ratio, ends, outcome, claim):
    content = compare(gain_over_human_only=make_difference(*ends))
    found = read_claims(replace(content, params=content.params | {"ratio": ratio}))[0]
    assert found[0] == outcome
    assert found[1].startswith(claim)


def test_claims_cover_baseline_student_control_and_rounding():
    best = {**make_difference(-0.2, -0.1), "baseline": "llm_grader"}
    content = compare(
        ["llm_grader", "student_int8", "student_undistilled"],
        gain_over_best_baseline=best,
        student_minus_undistilled=make_difference(0.01, 0.1),
        int8_minus_student=make_difference(-0.01, 0.01),
    )
    assert [found[:2] for found in read_claims(content)[2:6]] == [
        ("worse", "The teacher is worse than the best baseline:"),
        ("worse", f"The student, 77{WIDE}% of the teacher's size and 1.9 times as fast, is worse:"),
        ("better", "Distillation makes the student better:"),
        ("unclear", "Rounding the student's weights to 8 bits makes no difference that this test shows:"),
    ]


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"helps": 0}, "The guard left the synthetic rows out:"),
        ({}, "The guard let the synthetic rows in, but could not tell whether they help:"),
        ({"difference_low": 0.001}, "The guard let the synthetic rows in:"),
    ],
)
def test_guard_says_what_it_rests_on(changes, claim):
    guard = make_content().metrics["training"]["guard"] | changes
    (outcome, lead, _), (_, said, numbers), *_ = read_claims(make_content(metrics={"training": {"guard": guard}}))
    assert said == claim
    assert ("the guard left" in lead) == (not guard["helps"])  # no praise for rows that were left out
    assert guard["helps"] or outcome == "unclear"
    assert "an AUC of 0.830 with the synthetic rows and of 0.820 without, a difference of +0.010" in numbers
    assert "5-fold cross-validation on 51 human rows" in numbers
    assert "tell the synthetic labels apart with an AUC of 0.800; at least 0.650 is required" in numbers


@pytest.mark.parametrize(
    ("ends", "outcome", "claim"),
    [
        ((0.9, 0.97), "better", f"labels 53{WIDE}%"),
        ((0.7, 0.89), "worse", f"labels 53{WIDE}%"),
        (None, "unclear", "asks a human about all 500 test rows:"),
    ],
)
def test_what_the_student_labels_alone_is_weighed_against_the_agreement_wanted(ends, outcome, claim):
    measured = make_content().metrics["selective"]["selective"]
    measured |= dict(zip(("agreement_low", "agreement_high"), ends or (), strict=False))
    found = measured if ends else {"rows": 500, "coverage": 0.0, "basis": "So few."}
    said = read_claims(make_content(metrics={"selective": {"selective": found}}))[-1]
    assert said[0] == outcome
    assert said[1].startswith(f"The student that ships {claim}")
