from dataclasses import replace

import pytest

from amalgam.report.verdict import phrase_claims, phrase_guard, phrase_verdict
from tests.unit.reporting import METRICS, make_content, make_difference, make_estimates

NUMBERS = (
    "AUC 0.874 against 0.874 for the same model trained as long on the human rows alone, a paired difference of "
    "+0.150 (95\N{NO-BREAK SPACE}% interval +0.100\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}+0.200). "
    "Of the rows of the mix that it learned, 80\N{NO-BREAK SPACE}% are synthetic."
)


def compare(content, **differences):
    return replace(content, comparisons={**content.comparisons, **differences})


@pytest.mark.parametrize(
    ("ratio", "ends", "outcome", "claim"),
    [
        (0.8, (0.1, 0.2), "better", "Adding 164 synthetic rows to 41 human-coded ones makes the teacher better:"),
        (1, (-0.2, -0.1), "worse", "Training on synthetic rows alone makes the teacher worse:"),
        (
            0.5,
            (-0.1, 0.1),
            "unclear",
            "There is no evidence that adding 164 synthetic rows to 41 human-coded ones helps or harms:",
        ),
        (0.5, (0, 0.1), "unclear", None),
        (0, (0.1, 0.2), "unclear", "This run says nothing about synthetic rows, as no synthetic rows were added:"),
    ],
)
def test_verdict_follows_the_interval(ratio, ends, outcome, claim):
    content = compare(make_content(), gain_over_human_only=make_difference(*ends))
    verdict = phrase_verdict(replace(content, params=content.params | {"ratio": ratio}))
    assert verdict.outcome == outcome
    assert claim in (None, verdict.claim)


def test_verdict_gives_the_numbers():
    assert phrase_verdict(make_content()).numbers == NUMBERS


def test_verdict_does_not_praise_rows_that_the_guard_left_out():
    content = make_content()
    guard = content.training["guard"] | {"helps": 0}
    verdict = phrase_verdict(replace(content, training=content.training | {"guard": guard}))
    assert (verdict.outcome, "the guard left" in verdict.claim) == ("unclear", True)


@pytest.mark.parametrize(
    ("baseline", "ends", "claim"),
    [
        ("human_only", (0.1, 0.2), "No other baseline does better than the human-only teacher."),
        ("embedding_lr", (0.1, 0.2), "The teacher beats the best baseline:"),
        ("llm_grader", (-0.2, -0.1), "The teacher is worse than the best baseline:"),
        ("llm_grader", (-0.2, 0.1), "There is no evidence that the teacher differs from the best baseline:"),
    ],
)
def test_claim_names_the_best_baseline(baseline, ends, claim):
    content = make_content()
    content = replace(content, models=content.models | {"llm_grader": make_estimates(METRICS)})
    content = compare(content, gain_over_best_baseline={**make_difference(*ends), "baseline": baseline})
    assert phrase_claims(content)[0].claim == claim


def test_claims_cover_student_control_and_rounding():
    content = make_content()
    models = {name: make_estimates(METRICS) for name in ("student_int8", "student_undistilled")}
    content = compare(
        replace(content, models=content.models | models),
        student_minus_undistilled=make_difference(0.01, 0.1),
        int8_minus_student=make_difference(-0.01, 0.01),
    )
    assert [(claim.outcome, claim.claim) for claim in phrase_claims(content)[1:4]] == [
        ("worse", "The student, 77\N{NO-BREAK SPACE}% of the teacher's size and 1.9 times as fast, is worse:"),
        ("better", "Distillation makes the student better:"),
        ("unclear", "Rounding the student's weights to 8 bits makes no difference that this test shows:"),
    ]


def test_guard_says_what_it_rests_on():
    guard = make_content().training["guard"]
    assert phrase_guard(guard | {"helps": 0}).claim == "The guard left the synthetic rows out:"
    claim = phrase_guard(guard)
    assert claim.claim == "The guard let the synthetic rows in, though it cannot tell that they help:"
    assert phrase_guard(guard | {"difference_low": 0.001}).claim == "The guard let the synthetic rows in:"
    assert "an AUC of 0.830 with them and of 0.820 without, a difference of +0.010" in claim.numbers
    assert "5-fold cross-validation on 51 human rows" in claim.numbers
    assert "tell their labels apart with an AUC of 0.800, where 0.650 was wanted" in claim.numbers


@pytest.mark.parametrize(
    ("found", "outcome", "claim"),
    [
        (
            {"agreement_low": 0.9, "agreement_high": 0.97},
            "better",
            "The student that ships labels 53\N{NO-BREAK SPACE}%",
        ),
        (
            {"agreement_low": 0.89, "agreement_high": 0.97},
            "unclear",
            "The student that ships labels 53\N{NO-BREAK SPACE}%",
        ),
        (
            {"agreement_low": 0.7, "agreement_high": 0.89},
            "worse",
            "The student that ships labels 53\N{NO-BREAK SPACE}%",
        ),
        (None, "unclear", "The student that ships asks a human about all 500 test rows:"),
    ],
)
def test_what_the_student_labels_alone_is_weighed_against_the_agreement_wanted(found, outcome, claim):
    content = make_content()
    measured = content.selective["selective"] | found if found else {"rows": 500, "coverage": 0.0, "basis": "So few."}
    said = phrase_claims(replace(content, selective={"selective": measured}))[-1]
    assert said.outcome == outcome
    assert said.claim.startswith(claim)
