"""Students to begin with: layers of the teacher, a tiny BERT, or an encoder of one's own choice."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from amalgam.errors import ModelError
from amalgam.training.classifier import load_classifier
from amalgam.training.layers import keep_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TINY = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}


def build_student(
    kind: str, teacher: "PreTrainedModel", encoder: Path, labels: list[str], layers: int
) -> "PreTrainedModel":
    """Build an untrained student.

    Args:
        kind: `layers` takes evenly spaced layers of the teacher; `tiny` is a BERT of 2 layers, 128 wide, as Turc et
            al. (2019, arXiv 1908.08962) have it; anything else is the model in `encoder`.
        teacher: the trained teacher.
        encoder: folder of the encoder that is meant by any other kind.
        labels: class names in order.
        layers: of the teacher to take.

    Raises:
        ModelError: the teacher cannot be shortened, or its words cannot be taken over.
    """
    if kind == "layers":
        return keep_layers(teacher, layers)
    if kind == "tiny":
        return _build_tiny(teacher, labels)
    return load_classifier(encoder, labels)


def _build_tiny(teacher: "PreTrainedModel", labels: list[str]) -> "PreTrainedModel":
    """Build a BERT of random layers, whose word vectors are the first principal components of the teacher's."""
    from transformers import BertConfig, BertForSequenceClassification

    words = teacher.get_input_embeddings().weight.detach()
    if words.shape[1] < _TINY["hidden_size"]:
        raise ModelError("the teacher is smaller than a `tiny` student: set `distillation.student` to `layers`")
    config = BertConfig(
        vocab_size=len(words),
        max_position_embeddings=teacher.config.max_position_embeddings,
        pad_token_id=teacher.config.pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **_TINY,
    )
    student: PreTrainedModel = BertForSequenceClassification(config)
    centred = words - words.mean(0)
    # The components of a covariance need no decomposition of all words.
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    reduced = centred @ vectors[:, -_TINY["hidden_size"] :].flip(1)
    student.get_input_embeddings().weight.data = reduced * (config.initializer_range / reduced.std())
    return student
