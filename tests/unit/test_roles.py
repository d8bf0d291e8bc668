import pandas as pd

from amalgam.training.roles import assign_roles

LEARNED = pd.DataFrame(
    [("h1", "a", "", "good", "human", ""), ("s1", "b", "", "bad", "synthetic", "h1")],
    columns=["id", "text", "question", "label", "origin", "shots"],
)
VALIDATION = pd.DataFrame([("v1", "c", "", "bad", "2021")], columns=["id", "text", "question", "label", "time"])


def test_enough_validation_rows_choose() -> None:
    learned, held_out = assign_roles(LEARNED, VALIDATION, least=1)
    assert learned is LEARNED
    assert held_out is VALIDATION


def test_too_few_teach_as_human_rows() -> None:
    learned, held_out = assign_roles(LEARNED, VALIDATION, least=2)
    assert held_out is None
    assert learned.iloc[:2].equals(LEARNED)
    assert learned.iloc[2].to_dict() == {
        **{"id": "v1", "text": "c", "question": "", "label": "bad"},
        **{"origin": "human", "shots": ""},
    }


def test_synthetic_rows_alone_are_joined_by_none() -> None:
    assert assign_roles(LEARNED[1:], VALIDATION, least=9)[1] is VALIDATION
