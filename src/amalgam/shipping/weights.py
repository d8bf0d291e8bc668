"""The weights that ship: a classifier that `transformers` loads as it is."""

from collections.abc import Sequence
from pathlib import Path

from amalgam.training.checkpoint import Config, load_trained, read_config, save_checkpoint
from amalgam.training.classifier import append_pooling
from amalgam.training.encoding import load_tokenizer


def write_weights(student: Path, target: Path, bases: Sequence[Path] = ()) -> None:
    """Write the trained student in the folder `student` to `target`, with the mean that its head may read as a layer.

    For `bases` see `load_trained`.

    Raises:
        ModelError: the folder holds no trained student.
    """
    config = read_config(student)
    model = load_trained(student, bases)
    if config.pooling == "centred_mean":
        append_pooling(model)
    tokenizer = load_tokenizer(student)
    save_checkpoint(model, tokenizer, target, Config(config.labels, config.max_length, config.uses_question))
