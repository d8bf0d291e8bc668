"""The weights that ship: a classifier that `transformers` loads as it is."""

from collections.abc import Sequence
from pathlib import Path

from amalgam.training.checkpoint import load_trained, read_note, save_checkpoint
from amalgam.training.encoding import load_tokenizer
from amalgam.training.pooling_layer import append_pooling


def write_weights(student: Path, target: Path, bases: Sequence[Path] = ()) -> None:
    """Write the trained student in the folder `student` to `target`, with the mean that its head may read as a layer.

    For `bases` see `load_trained`.

    Raises:
        ModelError: the folder holds no trained student.
    """
    note = read_note(student)
    model = load_trained(student, bases)
    if note.pooling == "centred_mean":
        append_pooling(model)
    tokenizer = load_tokenizer(student)
    save_checkpoint(model, tokenizer, target, note.labels, note.max_length, uses_question=note.uses_question)
