"""Loss of the adapted output layer in one pass over the vocabulary that reads no value back.

What ``head`` does on the CPU looks at a sum and may begin anew; here each chunk's exponentials are relative
to the greatest logit so far, and what was summed before is rescaled where a greater one is met (the online
softmax).
The gradient's share of a label is taken from its own exponential, so that no two threads add to one place: a
step gives the same numbers each time.

Inputs and weight in bfloat16 are multiplied so, with sums and all else in float32: products of such numbers
are exact there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.targets.target import Factors

CHUNK_OUTPUTS = 16_384  # vocabulary entries at a time: large enough to fill a GPU
KEPT_EXPONENTIALS = 1 << 28  # of all outputs, 1 GiB: more tokens than have so many are taken in blocks


def online_loss(
    factors: Factors,
    weight: Float[Tensor, "d_out d_in"],
    labels: Int[Tensor, "tokens"],
    weights: Float[Tensor, "tokens"],
    bias: Tensor | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted sum of token NLLs in nats, loss and gradients in one pass; see ``head.fast_loss``.

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
    loss: Tensor = _OnlineLoss.apply(*given)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def online_nll(
    factors: Factors,
    weight: Float[Tensor, "d_out d_in"],
    labels: Int[Tensor, "tokens"],
    bias: Tensor | None = None,
) -> Float[Tensor, "tokens"]:
    """Return each token's NLL in nats; see ``online_loss``."""
    u, B = factors.low_rank or (None, None)
    layer = _Layer(factors.inputs, u, B, factors.scale, weight, bias, labels)
    return _one_pass(layer, (False,) * 4).nll


class _OnlineLoss(torch.autograd.Function):
    """Computes the gradients with the loss. dL/dz = w (exp(z - top) / sum - onehot)."""

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
        per_block = max(1, KEPT_EXPONENTIALS // len(weight))
        nll, found = [], []
        for start in range(0, len(inputs), per_block):
            block = slice(start, start + per_block)
            tokens = layer.of(block)
            sums = _one_pass(tokens, wants)
            nll.append(sums.nll)
            if any(wants):
                found.append(_gradients(tokens, weights[block], sums, wants))
        if found:
            d_inputs, d_u, d_B, d_scale = zip(*found, strict=True)
            ctx.save_for_backward(_joined(d_inputs), _joined(d_u), _added(d_B), _added(d_scale))
        return (torch.cat(nll) * weights).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [None if g is None else g * cotangent for g in ctx.saved_tensors]
        return (*gradients, None, None, None, None)


def _joined(blocks: tuple[Tensor | None, ...]) -> Tensor | None:
    wanted = [block for block in blocks if block is not None]
    return torch.cat(wanted) if wanted else None


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

    def of(self, block: slice) -> _Layer:
        """Return the layer of some of the tokens."""
        u = None if self.u is None else self.u[block]
        return replace(self, inputs=self.inputs[block], u=u, labels=self.labels[block])

    def chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.weight), CHUNK_OUTPUTS):
            yield slice(start, min(start + CHUNK_OUTPUTS, len(self.weight)))

    def logits(self, part: slice) -> tuple[Tensor, Tensor]:
        """Return a chunk's logits, (tokens, chunk), and the same before scale and bias."""
        unscaled = product(self.inputs, self.weight[part])
        if self.u is not None:
            assert self.B is not None
            unscaled.addmm_(self.u, self.B[part].T)
        z = unscaled if self.scale is None else unscaled * self.scale[part]
        return z if self.bias is None else z + self.bias[part], unscaled

    def at_label(self, part: slice) -> tuple[Tensor, Tensor]:
        """Return which labels are in a chunk, (tokens, 1), and their columns there (any for the others)."""
        labels = self.labels.unsqueeze(1)
        inside = (labels >= part.start) & (labels < part.stop)
        return inside, (labels - part.start).clamp(0, part.stop - part.start - 1)


@dataclass
class _Sums:
    """What one pass over the vocabulary leaves.

    Args:
        nll: per token.
        top: greatest logit per token.
        total: sum of exp(z - top) per token.
        inputs, u: sums of exp(z - top) times scale, W and B; None where no gradient wants them.
        kept: per chunk its exponentials, the logits before the scale, and the greatest logit so far.
    """

    nll: Tensor
    top: Tensor
    total: Tensor
    inputs: Tensor | None
    u: Tensor | None
    kept: list[tuple[slice, Tensor, Tensor | None, Tensor]]


def _one_pass(layer: _Layer, wants: tuple[bool, ...]) -> _Sums:
    wants_inputs, wants_u, wants_B, wants_scale = wants
    tokens, dtype = len(layer.inputs), layer.dtype
    top = torch.full((tokens, 1), -torch.inf, dtype=dtype, device=layer.inputs.device)
    total, picked = torch.zeros_like(top), torch.zeros_like(top)
    sum_inputs = torch.zeros_like(layer.inputs) if wants_inputs else None
    sum_u = torch.zeros_like(layer.u) if wants_u and layer.u is not None else None
    kept: list[tuple[slice, Tensor, Tensor | None, Tensor]] = []
    for part in layer.chunks():
        z, unscaled = layer.logits(part)
        inside, column = layer.at_label(part)
        picked = torch.where(inside, z.gather(1, column), picked)
        before, top = top, torch.maximum(top, z.amax(1, keepdim=True))
        shrink = (before - top).exp()
        e = z.sub_(top).exp_()  # over the logits; those before a scale have memory of their own
        total = total * shrink + e.sum(1, keepdim=True)
        weighted = e if layer.scale is None else e * layer.scale[part]
        if sum_u is not None:
            assert layer.B is not None
            sum_u.mul_(shrink).addmm_(weighted, layer.B[part])
        if sum_inputs is not None:
            sum_inputs.mul_(shrink).addmm_(weighted, layer.weight[part].to(dtype))
        if wants_B or wants_scale:
            kept.append((part, e, unscaled if wants_scale else None, top))
    nll = (top + total.log() - picked).squeeze(1)
    return _Sums(nll, top, total, sum_inputs, sum_u, kept)


def _gradients(
    layer: _Layer, weights: Tensor, sums: _Sums, wants: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    weights = weights.unsqueeze(1).to(layer.dtype)
    share = weights / sums.total
    at_label = weights if layer.scale is None else weights * layer.scale[layer.labels].unsqueeze(1)
    d_inputs = d_u = d_B = d_scale = None
    if sums.inputs is not None:
        d_inputs = sums.inputs * share - layer.weight[layer.labels].to(layer.dtype) * at_label
    if sums.u is not None:
        assert layer.B is not None
        d_u = sums.u * share - layer.B[layer.labels] * at_label
    if wants[2]:
        assert layer.B is not None
        d_B = torch.empty_like(layer.B, memory_format=torch.contiguous_format)
    if wants[3]:
        assert layer.scale is not None
        d_scale = torch.empty_like(layer.scale)
    for part, e, unscaled, reference in sums.kept:
        inside, column = layer.at_label(part)
        d_z = e.mul_(share * (reference - sums.top).exp())
        d_z.scatter_add_(1, column, -weights * inside)  # one place a token
        if d_scale is not None:
            assert unscaled is not None
            d_scale[part] = (d_z * unscaled).sum(0)
        if d_B is not None:
            assert layer.u is not None
            torch.mm(d_z.T, layer.u, out=d_B[part])
            if layer.scale is not None:
                d_B[part] *= layer.scale[part].unsqueeze(1)
    return d_inputs, d_u, d_B, d_scale


def product(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return h W^T in new memory: in float32 where both are in bfloat16, else in the dtype of the inputs.

    Args:
        inputs: h, (tokens, d).
        weight: W, (V, d), in the dtype of the inputs or in bfloat16.
    """
    if inputs.dtype != torch.bfloat16:
        return torch.mm(inputs, weight.to(inputs.dtype).T)
    if weight.dtype == torch.bfloat16 and inputs.device.type != "cpu" and _sums_in_float32():
        return torch.mm(inputs, weight.T, out_dtype=torch.float32)
    return torch.mm(inputs.float(), weight.float().T)


@cache
def _sums_in_float32() -> bool:
    """Whether this torch multiplies bfloat16 with a float32 result."""
    return "dtype" in torch.ops.aten.mm.overloads()
