"""Loss of the adapted output layer: the plain way, and the fast way that gives the same numbers.

Both take a target's factors (``y = scale * (h W^T + u B^T)``) and weigh each token's NLL.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.targets.target import Factors
from qpabench.training.kept_loss import KeptFactors, kept_loss, kept_nll

CHUNK_OUTPUTS = 4096  # vocabulary entries at a time: larger chunks of logits leave the processor's cache


def plain_logits(factors: Factors, weight: Tensor, bias: Tensor | None, softcap: float | None) -> Tensor:
    """Return all logits at once, (tokens, V)."""
    logits = F.linear(factors.inputs, weight)
    if factors.low_rank is not None:
        logits = logits + factors.low_rank[0] @ factors.low_rank[1].T
    if factors.scale is not None:
        logits = logits * factors.scale
    if bias is not None:
        logits = logits + bias
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def plain_loss(
    factors: Factors,
    weight: Float[Tensor, "d_out d_in"],
    labels: Int[Tensor, "tokens"],
    weights: Float[Tensor, "tokens"],
    bias: Tensor | None = None,
    softcap: float | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted sum of token NLLs in nats, by autograd; the reference for ``fast_loss``."""
    logits = plain_logits(factors, weight, bias, softcap)
    return (F.cross_entropy(logits, labels, reduction="none") * weights).sum()


def fast_loss(
    factors: Factors,
    weight: Float[Tensor, "d_out d_in"],
    labels: Int[Tensor, "tokens"],
    weights: Float[Tensor, "tokens"],
    bias: Tensor | None = None,
    softcap: float | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted sum of token NLLs in nats, loss and gradients in one pass over the vocabulary.

    Args:
        factors: of the target; no gradient is computed for what doesn't want one.
        weight: frozen W.
        labels: token ids.
        weights: weight of each token in the sum.
        bias: frozen bias of the layer.
        softcap: c of logits c tanh(y / c); such models take the plain way.

    Returns:
        A scalar with a gradient to the factors.
    """
    if isinstance(factors, KeptFactors):
        return kept_loss(factors, labels, weights)
    if softcap is not None:
        return plain_loss(factors, weight, labels, weights, bias, softcap)
    u, B = factors.low_rank if factors.low_rank is not None else (None, None)
    given = (factors.inputs, u, B, factors.scale, weight, bias, labels, weights)
    loss: Tensor = _FastLoss.apply(*given)  # type: ignore[no-untyped-call]
    return loss


class _FastLoss(torch.autograd.Function):
    """Computes the gradients with the loss: exponentials are kept, scaled later by what became known.

    Per chunk c of outputs: z = scale * (h W_c^T + u B_c^T) + bias_c, e = exp(z - m) with m the running
    maximum; sums over e are rescaled as m grows (as in online softmax). dL/dz = w (e / sum - onehot).
    """

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
        tokens, n_outputs = inputs.shape[0], weight.shape[0]
        wants_inputs, wants_u, wants_B, wants_scale = ctx.needs_input_grad[:4]
        any_gradient = wants_inputs or wants_u or wants_B or wants_scale
        maximum = inputs.new_full((tokens,), -torch.inf)
        total = inputs.new_zeros(tokens)
        sum_inputs = torch.zeros_like(inputs) if wants_inputs else None
        sum_u = torch.zeros_like(u) if wants_u and u is not None else None
        picked = inputs.new_zeros(tokens)
        rows = torch.arange(tokens, device=inputs.device)
        kept: list[tuple[slice, Tensor, Tensor, Tensor | None]] = []
        for start in range(0, n_outputs, CHUNK_OUTPUTS):
            part = slice(start, min(start + CHUNK_OUTPUTS, n_outputs))
            z = inputs @ weight[part].T
            if u is not None and B is not None:
                z.addmm_(u, B[part].T)
            unscaled = None
            if scale is not None:
                unscaled = z if wants_scale else None
                z = z * scale[part]
            if bias is not None:
                z += bias[part]
            inside = (labels >= part.start) & (labels < part.stop)
            column = (labels - part.start).clamp(0, part.stop - part.start - 1)
            picked = torch.where(inside, z[rows, column], picked)
            grown = torch.maximum(maximum, z.amax(1))
            fading = torch.exp(maximum - grown)
            e = z.sub_(grown.unsqueeze(1)).exp_()
            total = total * fading + e.sum(1)
            weighted = e if scale is None else e * scale[part]
            if sum_inputs is not None:
                sum_inputs.mul_(fading.unsqueeze(1)).addmm_(weighted, weight[part])
            if sum_u is not None and B is not None:
                sum_u.mul_(fading.unsqueeze(1)).addmm_(weighted, B[part])
            maximum = grown
            if wants_B or wants_scale:
                kept.append((part, e, grown, unscaled))
        loss = ((maximum + total.log() - picked) * weights).sum()
        if any_gradient:
            ctx.save_for_backward(
                *_gradients(
                    (inputs, u, B, scale, weight, labels, weights),
                    (maximum, total, sum_inputs, sum_u, kept),
                    (wants_B, wants_scale),
                )
            )
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [None if g is None else g * cotangent for g in ctx.saved_tensors]
        return (*gradients, None, None, None, None)


def _gradients(
    given: tuple[Any, ...], found: tuple[Any, ...], wants: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    inputs, u, B, scale, weight, labels, weights = given
    maximum, total, sum_inputs, sum_u, kept = found
    wants_B, wants_scale = wants
    share = (weights / total).unsqueeze(1)
    label_scale = weights if scale is None else weights * scale[labels]
    d_inputs = d_u = d_B = d_scale = None
    if sum_inputs is not None:
        d_inputs = sum_inputs * share - weight[labels] * label_scale.unsqueeze(1)
    if sum_u is not None:
        d_u = sum_u * share - B[labels] * label_scale.unsqueeze(1)
    if wants_B:
        d_B = torch.empty_like(B)
    if wants_scale:
        d_scale = torch.empty_like(scale)
    for part, e, reference, unscaled in kept:
        factor = share * torch.exp(reference - maximum).unsqueeze(1)
        if d_B is not None:
            d_B[part] = torch.mm((u * factor).T, e).T  # twice as fast as e.T @ u with few columns
        if d_scale is not None:
            d_scale[part] = (e * factor * unscaled).sum(0)
    if d_B is not None:
        if scale is not None:
            d_B.mul_(scale.unsqueeze(1))
        d_B.index_add_(0, labels, u * label_scale.unsqueeze(1), alpha=-1)
    if d_scale is not None:
        at_label = (inputs * weight[labels]).sum(1)
        if u is not None:
            at_label = at_label + (u * B[labels]).sum(1)
        d_scale.index_add_(0, labels, at_label * weights, alpha=-1)
    return d_inputs, d_u, d_B, d_scale


@torch.no_grad()
def token_nll(
    factors: Factors,
    weight: Float[Tensor, "d_out d_in"],
    labels: Int[Tensor, "tokens"],
    bias: Tensor | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "tokens"]:
    """Return each token's NLL in nats, chunk by chunk over the vocabulary.

    Args:
        factors: of the target.
        weight: frozen W.
        labels: token ids.
        bias: frozen bias of the layer.
        softcap: as in ``fast_loss``.
    """
    if isinstance(factors, KeptFactors):
        return kept_nll(factors, labels)
    n_outputs = weight.shape[0]
    rows = torch.arange(len(labels), device=labels.device)
    parts = []
    picked = factors.inputs.new_zeros(len(labels))
    for start in range(0, n_outputs, CHUNK_OUTPUTS):
        part = slice(start, min(start + CHUNK_OUTPUTS, n_outputs))
        chunk = Factors(
            factors.inputs,
            None if factors.low_rank is None else (factors.low_rank[0], factors.low_rank[1][part]),
            None if factors.scale is None else factors.scale[part],
        )
        z = plain_logits(chunk, weight[part], None if bias is None else bias[part], softcap)
        inside = (labels >= part.start) & (labels < part.stop)
        column = (labels - part.start).clamp(0, part.stop - part.start - 1)
        picked = torch.where(inside, z[rows, column], picked)
        parts.append(torch.logsumexp(z, dim=1))
    return torch.logsumexp(torch.stack(parts), dim=0) - picked
