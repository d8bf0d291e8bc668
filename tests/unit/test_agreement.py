import pandas as pd
import pytest

from amalgam.evaluation.agreement import summarise_agreement

LABELS = ["bad", "good"]


def summarise(intended: str, judged: str) -> dict[str, object]:
    names = {"b": "bad", "g": "good", ".": ""}
    columns = (pd.Series([names[mark] for mark in marks], dtype=str) for marks in (intended, judged))
    return summarise_agreement(*columns, LABELS)


def test_agreement_by_hand() -> None:
    # Of five graded rows four agree; of the labels as given, bad is right in 2 of 2, good in 2 of 3.
    assert summarise("bbbggb", "bb.ggg") == {
        "rows": 6,
        "unparsed": 1,
        "accuracy": 0.8,
        "precision": round((1 + 2 / 3) / 2, 4),
        "recall": round((2 / 3 + 1) / 2, 4),
        "f1": 0.8,
        "kappa": round((0.8 - 0.48) / (1 - 0.48), 4),
    }


def test_no_grade_at_all_has_counts_alone() -> None:
    assert summarise("bg", "..") == {"rows": 2, "unparsed": 2}
    assert summarise("", "") == {"rows": 0, "unparsed": 0}


@pytest.mark.parametrize(("intended", "judged", "kappa"), [("bb", "bb", None), ("bb", "bg", 0.0), ("bg", "gb", -1.0)])
def test_kappa_is_left_out_where_it_is_undefined(intended: str, judged: str, kappa: float | None) -> None:
    assert summarise(intended, judged).get("kappa") == kappa
