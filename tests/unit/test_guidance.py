import copy

import pytest
import torch
from torch.nn import functional
from transformers import AlbertConfig, AlbertForSequenceClassification, BertConfig, BertForSequenceClassification

from amalgam.errors import ModelError
from amalgam.training.guidance import Guided, measure_divergence, relate_tokens
from amalgam.training.layers import keep_layers

IDS = torch.arange(5, 25).reshape(2, 10)
MASK = torch.tensor([[1] * 10, [1] * 6 + [0] * 4])
BATCH = {"input_ids": IDS, "attention_mask": MASK}


def build_bert(layers: int, width: int = 16, heads: int = 2) -> BertForSequenceClassification:
    torch.manual_seed(layers)
    config = BertConfig(
        vocab_size=30,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=16,
        num_hidden_layers=layers,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.5,  # as far from each other as trained ones are
    )
    return BertForSequenceClassification(config)


def test_relations_by_hand() -> None:
    vectors = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    found = relate_tokens(vectors, mask, 1)[0, 0]
    expected = functional.log_softmax(torch.tensor([[1.0, 0.0], [0.0, 4.0]]) / 2**0.5, dim=-1)
    torch.testing.assert_close(found[:2, :2], expected)
    assert (found[:2, 2] < -1e8).all()  # what is padding is related to nothing


def test_divergence_by_hand() -> None:
    one, other = torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    mask = torch.ones(1, 2, dtype=torch.bool)
    p, q = (relate_tokens(vectors, mask, 1) for vectors in (one, other))
    by_hand = (q.exp() * (q - p)).sum() / 2
    torch.testing.assert_close(measure_divergence(one, other, mask, 1), by_hand)
    assert float(measure_divergence(one, one, mask, 2)) == pytest.approx(0.0, abs=1e-6)


def test_divergence_does_not_see_the_padding() -> None:
    one, other = torch.randn(2, 10, 8), torch.randn(2, 10, 12)
    before = measure_divergence(one, other, MASK.bool(), 4)
    one[1, 6:] += 5.0
    torch.testing.assert_close(measure_divergence(one, other, MASK.bool(), 4), before)


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    teacher = build_bert(2)
    guided = Guided(copy.deepcopy(teacher), teacher, hidden=1.0, relations=1.0).train()
    assert float(guided(**BATCH).guidance.detach()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(("hidden", "relations"), [(1.0, 0.0), (0.0, 1.0), (0.5, 2.0)])
def test_gradients_reach_the_student_and_not_the_teacher(hidden: float, relations: float) -> None:
    teacher = build_bert(4)
    student = keep_layers(build_bert(4, width=8), 2)
    guided = Guided(student, teacher, hidden=hidden, relations=relations).train()
    guided(**BATCH).guidance.backward()
    weights = dict(student.bert.named_parameters())
    query = weights["encoder.layer.1.attention.self.query.weight"]
    assert query.grad is not None
    assert query.grad.abs().max() > 0
    assert all(weight.grad is None for weight in teacher.parameters())
    assert not any("teacher" in name for name in guided.state_dict())


def test_guidance_shrinks_as_the_student_follows() -> None:
    guided = Guided(keep_layers(build_bert(3), 2), build_bert(4), hidden=1.0, relations=1.0).train()
    optimizer = torch.optim.Adam(guided.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        loss = guided(**BATCH).guidance
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_out_of_training_there_is_no_guidance() -> None:
    student = build_bert(2)
    guided = Guided(student, build_bert(2), hidden=1.0, relations=1.0).eval()
    output = guided(**BATCH)
    assert not hasattr(output, "guidance")
    torch.testing.assert_close(output.logits, student.eval()(**BATCH).logits)


def test_an_encoder_without_layers_of_its_own_gives_one_sentence() -> None:
    config = AlbertConfig(
        vocab_size=30, embedding_size=8, hidden_size=8, num_attention_heads=2, intermediate_size=16, num_hidden_layers=2
    )
    with pytest.raises(ModelError, match="cannot be shortened"):
        Guided(AlbertForSequenceClassification(config), build_bert(2), hidden=1.0, relations=1.0)
