"""Loss of the adapted output layer in few large operations that read no value back, for a GPU.

What ``head`` does on the CPU looks at a sum and may begin anew; here a block of tokens has all its logits at
once, and their softmax is torch's own.
The gradient's share of a label is taken from its own probability, so that no two threads add to one place: a
step gives the same numbers each time.

Inputs and weight in bfloat16 are multiplied so, with sums and all else in float32: products of such numbers
are exact there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.targets.target import Factors
from qpabench.training.with_gradients import LossWithGradients

BLOCK_LOGITS = 1 << 27  # of all outputs, 512 MiB, and as many probabilities: more tokens are taken in blocks
CONVERTED_OUTPUTS = 16_384  # of a weight in bfloat16 that are converted at a time
SUMMED_PIECES = 64  # that a sum over the vocabulary is cut into: a GPU is filled by them


def blocks_loss(
    factors: Factors,
    weight: Float[Tensor, "d_out d_in"],
    labels: Int[Tensor, "tokens"],
    weights: Float[Tensor, "tokens"],
    bias: Tensor | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted sum of token NLLs in nats, loss and gradients at once; see ``head.fast_loss``.

    Args:
        factors: of the target; in bfloat16 its inputs want no gradient.
        weight: frozen W, in the inputs' dtype or in bfloat16.
        labels: token ids.
        weights: weight of each token in the sum.
        bias: frozen bias of the layer.

    Returns:
        A scalar with a gradient to the factors.
    """
    u, B = factors.low_rank or (None, None)
    given = (factors.inputs, u, B, factors.scale, weight, bias, labels, weights)
    loss: Tensor = _BlocksLoss.apply(*given)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def blocks_nll(
    factors: Factors,
    weight: Float[Tensor, "d_out d_in"],
    labels: Int[Tensor, "tokens"],
    bias: Tensor | None = None,
) -> Float[Tensor, "tokens"]:
    """Return each token's NLL in nats; see ``blocks_loss``."""
    u, B = factors.low_rank or (None, None)
    layer = _Layer(factors.inputs, u, B, factors.scale, weight, bias, labels)
    return torch.cat([_nll(block, block.logits()[0].log_softmax(1)) for block in layer.blocks()])


class _BlocksLoss(LossWithGradients):
    """Computes the gradients with the loss. dL/dz = w (softmax(z) - onehot)."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        u: Tensor | None,
        B: Tensor | None,
        scale: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        weights: Tensor,
    ) -> Tensor:
        layer, wants = _Layer(inputs, u, B, scale, weight, bias, labels), ctx.needs_input_grad[:4]
        losses, found = [], []
        for block, share in zip(layer.blocks(), weights.to(layer.dtype).split(layer.per_block), strict=True):
            z, unscaled = block.logits()
            log_p = z.log_softmax(1)
            losses.append(torch.dot(_nll(block, log_p), share))
            if any(wants):
                found.append(_gradients(block, log_p.exp_(), unscaled, share, wants))
        if found:
            d_inputs, d_u, d_B, d_scale = zip(*found, strict=True)
            ctx.save_for_backward(_joined(d_inputs), _joined(d_u), _added(d_B), _added(d_scale))
        return sum(losses[1:], losses[0])


def _joined(blocks: tuple[Tensor | None, ...]) -> Tensor | None:
    wanted = [block for block in blocks if block is not None]
    return torch.cat(wanted) if len(wanted) > 1 else blocks[0]


def _added(blocks: tuple[Tensor | None, ...]) -> Tensor | None:
    wanted = [block for block in blocks if block is not None]
    for block in wanted[1:]:
        wanted[0] += block
    return wanted[0] if wanted else None


@dataclass
class _Layer:
    """The adapted layer, y = scale * (h W^T + u B^T) + bias, and the labels of its tokens."""

    inputs: Tensor
    u: Tensor | None
    B: Tensor | None
    scale: Tensor | None
    weight: Tensor
    bias: Tensor | None
    labels: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Of logits, sums and gradients."""
        return torch.float32 if self.inputs.dtype == torch.bfloat16 else self.inputs.dtype

    @property
    def per_block(self) -> int:
        """Tokens in a block."""
        return max(1, BLOCK_LOGITS // len(self.weight))

    def blocks(self) -> list[_Layer]:
        """Return the layer of some of the tokens after the other."""
        inputs, labels = self.inputs.split(self.per_block), self.labels.split(self.per_block)
        u = [None] * len(inputs) if self.u is None else self.u.split(self.per_block)
        return [replace(self, inputs=h, u=u_, labels=at) for h, u_, at in zip(inputs, u, labels, strict=True)]

    def logits(self) -> tuple[Tensor, Tensor]:
        """Return the logits, (tokens, d_out), and the same before scale and bias."""
        unscaled = product(self.inputs, self.weight)
        if self.u is not None:
            assert self.B is not None
            unscaled.addmm_(self.u, self.B.T)
        z = unscaled if self.scale is None else unscaled * self.scale
        return z if self.bias is None else z + self.bias, unscaled


def _nll(layer: _Layer, log_p: Tensor) -> Tensor:
    return -log_p.gather(1, layer.labels.unsqueeze(1)).squeeze(1)


def _gradients(
    layer: _Layer, p: Tensor, unscaled: Tensor, weights: Tensor, wants: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Return those of the weighted loss; ``p``, the probabilities, is used up."""
    wants_inputs, wants_u, wants_B, wants_scale = wants
    share, scale = weights.unsqueeze(1), layer.scale
    d_z = p.scatter_add_(1, layer.labels.unsqueeze(1), p.new_full((len(p), 1), -1))  # over w
    d_inputs = d_u = d_B = d_scale = None
    if wants_inputs:
        d_inputs = _times(d_z if scale is None else d_z * scale, layer.weight) * share
    if wants_u:
        assert layer.B is not None
        d_u = _thin_product(d_z, layer.B if scale is None else layer.B * scale.unsqueeze(1)) * share
    if wants_B:
        assert layer.u is not None
        d_B = d_z.T @ (layer.u * share)
        if scale is not None:
            d_B *= scale.unsqueeze(1)
    if wants_scale:
        d_scale = (d_z * unscaled).T @ share.squeeze(1)
    return d_inputs, d_u, d_B, d_scale


def _thin_product(d_z: Tensor, B: Tensor) -> Tensor:
    """Return dz B, a sum over the vocabulary, in pieces side by side: so few columns alone fill no GPU."""
    width = len(B) // SUMMED_PIECES
    even = width * SUMMED_PIECES
    pieces = d_z[:, :even].unflatten(1, (SUMMED_PIECES, width)).transpose(0, 1)
    found = torch.bmm(pieces, B[:even].unflatten(0, (SUMMED_PIECES, width))).sum(0)
    return found if even == len(B) else found.addmm_(d_z[:, even:], B[even:])


def _times(d_z: Tensor, weight: Tensor) -> Tensor:
    """Return dz W in the dtype of dz."""
    if weight.dtype == d_z.dtype:
        return d_z @ weight
    sums = d_z.new_zeros(len(d_z), weight.shape[1])
    for part, rows in zip(d_z.split(CONVERTED_OUTPUTS, 1), weight.split(CONVERTED_OUTPUTS), strict=True):
        sums.addmm_(part, rows.to(d_z.dtype))
    return sums


def product(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return h W^T in new memory: in float32 where both are in bfloat16, else in the dtype of the inputs.

    Args:
        inputs: h, (tokens, d).
        weight: W, (V, d), in the dtype of the inputs or in bfloat16.
    """
    halved = inputs.dtype == torch.bfloat16
    if inputs.dtype == weight.dtype and not halved:
        return torch.mm(inputs, weight.T)
    if halved and weight.dtype == torch.bfloat16 and inputs.device.type != "cpu" and _sums_in_float32():
        return torch.mm(inputs, weight.T, out_dtype=torch.float32)
    wide = inputs.float() if halved else inputs
    return torch.cat([wide @ rows.to(wide.dtype).T for rows in weight.split(CONVERTED_OUTPUTS)], 1)


@cache
def _sums_in_float32() -> bool:
    """Whether this torch multiplies bfloat16 with a float32 result."""
    return "dtype" in torch.ops.aten.mm.overloads()
