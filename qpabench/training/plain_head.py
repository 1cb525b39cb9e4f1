"""Logits and loss of the adapted output layer the plain way: the reference for every fast one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.targets.target import Factors


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
