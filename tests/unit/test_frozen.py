"""An encoder cut in two does what the whole one does, and the states of the lower part are computed once a row."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
)

from amalgam.machine import open_autocast
from amalgam.training.classifier import load_classifier
from amalgam.training.encoding import Encoded, cut_model, encode_rows, freeze_lower, hold_lower, load_tokenizer
from tests.pipeline.toy import LABELS
from tests.unit.test_student import BUILDERS, SIZE

ALBERT = AlbertConfig(embedding_size=8, num_hidden_groups=1, num_hidden_layers=2, **SIZE)
ELECTRA = ElectraConfig(embedding_size=4, num_hidden_layers=6, **SIZE)  # projects its embeddings
FAMILY = {**BUILDERS, "electra": lambda: ElectraForSequenceClassification(ELECTRA)}


@pytest.mark.parametrize("frozen", [0, 2, 5])
@pytest.mark.parametrize("build", FAMILY.values(), ids=FAMILY)
def test_both_parts_together_are_the_whole(build: Callable[[], PreTrainedModel], frozen: int) -> None:
    torch.manual_seed(0)
    model = build().eval()
    ids, mask = torch.randint(5, 30, (3, 12)), torch.ones(3, 12, dtype=torch.long)
    mask[0, 7:] = mask[1, 10:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    with torch.no_grad():
        expected, logits = model.base_model(**batch).last_hidden_state, model(**batch).logits
        with cut_model(model, frozen) as lower:
            assert lower is not None
            states = lower(**batch).last_hidden_state * mask.unsqueeze(-1)  # padding has none
            upper = {"inputs_embeds": states, "attention_mask": mask}
            found = model.base_model(**upper).last_hidden_state
            torch.testing.assert_close(found[mask.bool()], expected[mask.bool()])
            torch.testing.assert_close(model(**upper).logits, logits)
        torch.testing.assert_close(model(**batch).logits, logits)  # it is whole again


@pytest.mark.parametrize("build", FAMILY.values(), ids=FAMILY)
def test_only_the_upper_layers_learn(build: Callable[[], PreTrainedModel]) -> None:
    model = build().train()
    freeze_lower(model, 2)
    learns = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.split(".layer.")[1][0] for name in learns if ".layer." in name} == {"4", "5"}
    assert not any("embeddings" in name or "bias.weight" in name for name in learns)
    assert any(name.startswith("classifier") for name in learns)
    one, again = (model(input_ids=torch.arange(5, 15)[None]).logits for _ in range(2))
    assert torch.equal(one, again)  # no dropout


@pytest.fixture
def encoded(encoder: Path, comments: pd.DataFrame) -> Encoded:
    return encode_rows(load_tokenizer(encoder), comments, 24)


def test_states_are_computed_once_a_row_while_there_is_room(
    encoder: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = int(encoded.lengths[:20].sum()) * 32 * 4  # bytes of twenty rows in float32
    monkeypatch.setattr("amalgam.training.encoding._MOST", most)
    model = load_classifier(encoder, list(LABELS))
    freeze_lower(model, 1)
    with hold_lower(model, 1) as read:
        states = read(encoded)
        seen: list[int] = []
        states._lower.register_forward_pre_hook(lambda _module, _inputs: seen.append(1))
        with torch.inference_mode():  # what is kept there can be trained on
            first = states.pad(np.arange(20))
        again = states.pad(np.arange(19, -1, -1))
        assert len(seen) == 3  # of eight rows, eight and four
        assert torch.equal(first["inputs_embeds"], again["inputs_embeds"].flip(0))
        assert again["attention_mask"].sum(1).flip(0).tolist() == encoded.lengths[:20].tolist()
        for _ in range(3):
            states.pad(np.arange(60))
        kept = sum(one.nbytes for one in states._kept.values())
        assert kept <= most
        assert len(seen) > 3 + 3
        with open_autocast(torch.device("cpu")):
            last = model.base_model(**again).last_hidden_state
        last.float().square().sum().backward()
    assert len(states) == 60
    layers = model.bert.encoder.layer
    assert layers[0].output.dense.weight.grad is None
    assert layers[1].output.dense.weight.grad is not None


def test_an_encoder_that_cannot_be_cut_reads_token_ids(encoded: Encoded) -> None:
    model = AlbertForSequenceClassification(ALBERT)
    freeze_lower(model, 1)
    with hold_lower(model, 1) as read:
        assert read(encoded) is encoded
    assert not model.albert.embeddings.word_embeddings.weight.requires_grad
