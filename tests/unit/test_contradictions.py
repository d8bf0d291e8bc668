import pandas as pd
import pytest

from amalgam.errors import DataError
from amalgam.tasks.contradictions import check_left, describe_contradictions, drop_contradictions


def make_rows(*coded: tuple[str, str], question: str = "") -> pd.DataFrame:
    rows = [
        {"id": f"r{number}", "text": text, "question": question, "label": label}
        for number, (text, label) in enumerate(coded)
    ]
    return pd.DataFrame(rows, dtype=str)


def test_equal_texts_of_different_labels_are_dropped_and_described() -> None:
    rows = make_rows(("Good", "yes"), ("Fine.", "no"), ("fine", "yes"), ("good!", "yes"))
    assert drop_contradictions(rows)["id"].tolist() == ["r0", "r3"]
    assert describe_contradictions(rows) == (
        "2 rows were left out, since their text also stands with another label, "
        "as in r1 ('Fine.', no) and r2 ('fine', yes)"
    )
    assert describe_contradictions(rows[rows["id"] != "r1"]) == describe_contradictions(rows.head(0)) == ""


def test_different_formulas_and_equal_answers_to_different_questions_may_differ() -> None:
    rows = make_rows(("x = 3", "no"), ("x = -3", "yes"), ("x < 3", "no"), ("x > 3", "yes"))
    assert len(drop_contradictions(rows)) == 4
    rows = make_rows(("Two", "no"), ("two", "yes")).assign(question=["1+2?", "1+1?"])
    assert len(drop_contradictions(rows)) == 2


def test_a_label_of_which_none_is_left_is_named_with_the_reason() -> None:
    rows = make_rows(("Fine " * 20, "no"), ("fine " * 20, "yes"), ("Good", "no"))
    with pytest.raises(
        DataError, match=r"^2 rows were left out, .+ \('Fine .{35}…', no\).+; none is left that is coded yes"
    ):
        check_left(drop_contradictions(rows), ["no", "yes"], describe_contradictions(rows))
    check_left(rows, ["no", "yes"], "")
