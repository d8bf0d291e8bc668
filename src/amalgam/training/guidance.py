"""What a student may learn from inside its teacher: hidden states, and the relations of queries, keys and values."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from amalgam.errors import ModelError
from amalgam.training.classifier import Output, add_pooling
from amalgam.training.layers import choose_layers, find_stack
from amalgam.training.pooling import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The names that the BERT family gives its projections.
_PROJECTIONS = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"), ("q", "k", "v"))


class Guided(nn.Module):
    """A student whose output has a loss `guidance` beside its `logits` while it trains.

    The hidden states of each student layer are drawn to those of the teacher's layer in its place (Jiao et al. 2020,
    TinyBERT, arXiv 1909.10351), through a learned map where the widths differ. The relations between the tokens in
    the last layer, the softmax of scaled dot products of queries with queries, keys with keys and values with values,
    are drawn to the teacher's by KL divergence (Wang et al. 2021, MiniLMv2, arXiv 2012.15828).
    """

    def __init__(
        self,
        student: "PreTrainedModel",
        teacher: "PreTrainedModel",
        *,
        hidden: float,
        relations: float,
        pooling: Pooling = "cls",
    ) -> None:
        """Take both models, which read the same tokens, the weights of both losses, and what the student's head reads.

        Raises:
            ModelError: relations are wanted of an encoder whose projections are not named as in the BERT family.
        """
        super().__init__()
        self.student = add_pooling(student, pooling)
        self._teacher = (teacher.eval(),)  # in a tuple, so that its weights are not this module's
        self._hidden, self._relations = hidden, relations
        owner, name = find_stack(student)
        layers = getattr(owner, name)
        self._places = choose_layers(teacher.config.num_hidden_layers, len(layers))
        widths = student.config.hidden_size, teacher.config.hidden_size
        self.map = nn.Linear(*widths, bias=False) if widths[0] != widths[1] else nn.Identity()
        self._seen: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}
        if relations:
            for side, model in (("student", student), ("teacher", teacher)):
                _watch_projections(model, self._seen[side])
        most = teacher.config.num_attention_heads
        self._heads = max(heads for heads in range(1, most + 1) if not any(width % heads for width in widths))

    def forward(self, **batch: torch.Tensor) -> Any:
        """Return the student's output; in training with `guidance`."""
        for seen in self._seen.values():
            seen.clear()
        if not self.training:
            return self.student(**batch)
        teacher = self._teacher[0].to(batch["input_ids"].device)
        output = self.student(**batch, output_hidden_states=True)
        with torch.no_grad():
            states = teacher.base_model(**batch, output_hidden_states=True).hidden_states
        mask = batch["attention_mask"].bool()
        guidance = output.logits.new_zeros(())
        if self._hidden:
            pairs = zip(output.hidden_states[1:], (states[place + 1] for place in self._places), strict=True)
            losses = [functional.mse_loss(self.map(one)[mask].float(), other[mask].float()) for one, other in pairs]
            guidance = guidance + self._hidden * torch.stack(losses).mean()
        if self._relations:
            pairs = zip(self._seen["student"], self._seen["teacher"], strict=True)
            divergences = [measure_divergence(one, other, mask, self._heads) for one, other in pairs]
            guidance = guidance + self._relations * torch.stack(divergences).mean()
        return Output(output.logits, guidance=guidance)


def measure_divergence(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the mean KL divergence of the student's token relations from the teacher's.

    Args:
        student: queries, keys or values [rows, tokens, width].
        teacher: the same of the teacher; the width may be another.
        mask: which tokens are there [rows, tokens].
        heads: relation heads; both widths are cut into as many.
    """
    one, other = (relate_tokens(vectors.float(), mask, heads) for vectors in (student, teacher))
    divergence = functional.kl_div(one, other, reduction="none", log_target=True).sum(-1)  # [rows, heads, tokens]
    return (divergence * mask[:, None]).sum() / (heads * mask.sum())


def relate_tokens(vectors: torch.Tensor, mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the log softmax of scaled dot products of all tokens [rows, heads, tokens, tokens]."""
    rows, tokens, width = vectors.shape
    parts = vectors.reshape(rows, tokens, heads, width // heads).transpose(1, 2)
    products = parts @ parts.transpose(2, 3) / (width // heads) ** 0.5
    return functional.log_softmax(products.masked_fill(~mask[:, None, None], -1e9), dim=-1)


def _watch_projections(model: "PreTrainedModel", seen: list[torch.Tensor]) -> None:
    """Keep what queries, keys and values of the last layer come to, at every forward pass."""
    owner, name = find_stack(model)
    last = getattr(owner, name)[-1]
    modules = {name.rsplit(".", 1)[-1]: module for name, module in last.named_modules()}
    names = next((names for names in _PROJECTIONS if all(name in modules for name in names)), None)
    if names is None:
        raise ModelError(
            f"an encoder of type {model.config.model_type!r} does not show its attention: "
            "set `distillation.relations` to 0"
        )
    for name in names:
        modules[name].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
