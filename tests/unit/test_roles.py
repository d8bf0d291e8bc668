import pandas as pd

from amalgam.training.roles import assign_roles

TRAIN = pd.DataFrame([("h1", "a", "good"), ("h2", "b", "bad")], columns=["id", "text", "label"])
VALIDATION = pd.DataFrame([("v1", "c", "bad")], columns=["id", "text", "label"])


def test_enough_validation_rows_choose() -> None:
    learned, held_out = assign_roles(TRAIN, VALIDATION, least=1)
    assert learned is TRAIN
    assert held_out is VALIDATION


def test_too_few_teach() -> None:
    learned, held_out = assign_roles(TRAIN, VALIDATION, least=2)
    assert held_out is None
    assert learned.to_dict("list") == {
        "id": ["h1", "h2", "v1"],
        "text": ["a", "b", "c"],
        "label": ["good", "bad", "bad"],
    }
