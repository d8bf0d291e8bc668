import numpy as np
import pandas as pd
import pytest

from amalgam.evaluation.trained import Trained, list_trained, measure_speed, round_digits, score_sets


class Waiting(Trained):
    """A model that uses the processor for so long, a row; its weights take a megabyte for each unit of that."""

    def __init__(self, work):
        super().__init__(None, ())
        object.__setattr__(self, "work", work)

    def open(self):
        return self.score

    def measure_size(self):
        return int(self.work * 1e6)

    def score(self, rows):
        found = np.zeros(int(20_000 * self.work * len(rows)) + 1)
        for _ in range(200):
            found += 1.0
        return np.tile([0.25, 0.75], (len(rows), 1))


def test_models_are_those_whose_folders_are_there(tmp_path):
    folders = {"teacher": tmp_path / "teacher", "student": tmp_path / "students"}
    folders["student_undistilled"] = folders["student"] / "undistilled"
    for name in ("teacher/seed-1/mixed", "teacher/seed-1/human_only", "students/seed-1", "exported/seed-1"):
        (tmp_path / name).mkdir(parents=True)
    assert list(list_trained(folders, tmp_path / "none", [tmp_path], 1)) == ["teacher", "student"]
    assert list_trained(folders, tmp_path / "none", [tmp_path], 2) == {}
    (tmp_path / "exported/seed-1/model.int8.onnx").write_bytes(b"x" * 3)
    models = list_trained(folders, tmp_path / "exported", [tmp_path], 1)
    assert list(models) == ["teacher", "student", "student_int8"]
    assert models["student_int8"].measure_size() == 3


def test_every_model_scores_every_set(tmp_path):
    rows = pd.DataFrame({"id": ["a", "b"], "text": ["x", "y"]})
    models = {seed: {"teacher": Waiting(0)} for seed in (3, 5)}
    table = score_sets({"test": rows, "transfer_test": rows.head(1)}, models, ["no", "yes"], tmp_path)
    assert table[["set", "seed", "id"]].to_numpy().tolist() == [
        ["test", 3, "a"],
        ["test", 3, "b"],
        ["test", 5, "a"],
        ["test", 5, "b"],
        ["transfer_test", 3, "a"],
        ["transfer_test", 5, "a"],
    ]
    assert (table["p_yes"] == 0.75).all()


def test_speed_and_size_are_told_of_every_model():
    models = {"teacher": Waiting(2), "student": Waiting(0.5), "student_int8": Waiting(0.5)}
    speed = measure_speed(models, pd.DataFrame({"text": ["x"] * 20}))
    assert speed["teacher_megabytes"] == 2.0
    assert speed["size_ratio"] == 0.25
    assert speed["speedup"] > 1.5
    rates = [speed[f"{name}_rows_per_second"] for name in models]
    assert min(rates) == rates[0] > 0
    assert all(rate == round_digits(rate, 2) for rate in rates)


@pytest.mark.parametrize(("value", "digits", "rounded"), [(1234.5, 2, 1200.0), (0.07664, 3, 0.0766), (0.0, 2, 0.0)])
def test_rounding_keeps_significant_digits(value, digits, rounded):
    assert round_digits(value, digits) == rounded
