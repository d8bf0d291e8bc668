"""How long models learn: the steps of params.yaml, and more of them where there are more human-coded rows."""

from typing import TypeVar

from amalgam.params import Training

AnyTraining = TypeVar("AnyTraining", bound=Training)


def scale_steps(params: AnyTraining, human_rows: int) -> AnyTraining:
    """Return the section with the steps that so many human-coded rows take, whatever the ratio.

    Above `steps_for` rows, steps and the steps between two looks at the validation rows grow in proportion, so that a
    row is seen as often. Learning by contrast, from pairs of rows, has no need of more (bench/).
    """
    factor = max(human_rows / params.steps_for, 1.0)
    return params.model_copy(
        update={name: round(factor * getattr(params, name)) for name in ("steps", "evaluate_every")}
    )
