"""Loss of the adapted output layer: the fastest way that gives the numbers of the plain one.

Takes a target's factors (``y = scale * (h W^T + u B^T)``) and weighs each token's NLL.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.targets.target import Factors
from qpabench.training.blocks import blocks_loss, blocks_nll
from qpabench.training.kept_loss import KeptFactors, kept_loss, kept_nll
from qpabench.training.one_pass import OnePassLoss, chunks, summed
from qpabench.training.plain_head import plain_logits, plain_loss


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
    if factors.inputs.device.type != "cpu":
        return blocks_loss(factors, weight, labels, weights, bias)
    u, B = factors.low_rank or (None, None)
    given = (factors.inputs, u, B, factors.scale, weight, bias, labels, weights)
    loss: Tensor = OnePassLoss.apply(*given)  # type: ignore[no-untyped-call]
    return loss


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
    if softcap is None and factors.inputs.device.type != "cpu":
        return blocks_nll(factors, weight, labels, bias)
    if softcap is None:
        u, B = factors.low_rank or (None, None)
        given = (factors.inputs, u, B, factors.scale, weight, bias, labels)
        found = summed(given, (False,) * 4)
        nll: Tensor = found.total.log() - found.picked
        return nll
    rows = torch.arange(len(labels), device=labels.device)
    parts = []
    picked = factors.inputs.new_zeros(len(labels))
    for part in chunks(len(weight)):
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
