from amalgam.training.budget import scale_steps
from tests.unit.training import DISTILLATION, TEACHER


def test_few_rows_take_the_steps_as_they_are() -> None:
    assert scale_steps(TEACHER, TEACHER.steps_for) == TEACHER
    assert scale_steps(DISTILLATION, 4) == DISTILLATION


def test_steps_and_looks_grow_with_the_rows() -> None:
    teacher = scale_steps(TEACHER, 5 * TEACHER.steps_for // 2)
    assert teacher == TEACHER.model_copy(update={"steps": 150, "evaluate_every": 50})
    student = scale_steps(DISTILLATION, 2 * DISTILLATION.steps_for)
    assert (student.steps, student.evaluate_every) == (60, 20)
