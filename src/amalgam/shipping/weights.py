"""The weights that ship: a classifier that `transformers` loads as it is."""

from pathlib import Path

from amalgam.training.checkpoint import read_note, save_checkpoint
from amalgam.training.classifier import load_classifier
from amalgam.training.encoding import load_tokenizer
from amalgam.training.pooling_layer import append_pooling


def write_weights(student: Path, target: Path) -> None:
    """Write the trained student in the folder `student` to `target`, with the mean that its head may read as a layer.

    Raises:
        ModelError: the folder holds no trained student.
    """
    note = read_note(student)
    model = load_classifier(student, note.labels)
    if note.pooling == "centred_mean":
        append_pooling(model)
    tokenizer = load_tokenizer(student)
    save_checkpoint(model, tokenizer, target, note.labels, note.max_length, uses_question=note.uses_question)
