"""Reads kept logits z of an output layer, and computes the loss where a low-rank term is added: z + u B^T."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.errors import UnavailableError
from qpabench.targets.target import Factors

BLOCK_ENTRIES = 2**20  # logits read at a time: 4 MiB stay in the processor's cache from pass to pass
FLOAT_BYTES = 4
BOUNDED = 30.0  # with |u B^T| below it, exp(z + u B^T) of normalised z fits float32 and keeps its digits


class KeptLogits:
    """The kept logits of one split.

    Args:
        path: of the file.
        n_outputs: V.
    """

    def __init__(self, path: Path, n_outputs: int) -> None:
        self.n_outputs = n_outputs
        self._buffer = torch.empty(max(1, BLOCK_ENTRIES // n_outputs), n_outputs)
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)

    def blocks(self, positions: Tensor | slice) -> Iterator[tuple[slice, Tensor]]:
        """Yield (which of the positions, their normalised logits); the latter may be written to.

        Args:
            positions: places in the split's flat arrays.

        Raises:
            UnavailableError: the file has become shorter.
        """
        if isinstance(positions, slice):
            wanted = np.arange(positions.start, positions.stop)
        else:
            wanted = positions.cpu().numpy()
        for begin in range(0, len(wanted), len(self._buffer)):
            chosen = wanted[begin : begin + len(self._buffer)]
            block = self._buffer[: len(chosen)]
            ends = [*(np.flatnonzero(np.diff(chosen) != 1) + 1), len(chosen)]
            for first, end in zip([0, *ends[:-1]], ends, strict=True):  # neighbours are read at once
                self._read(int(chosen[first]), block[first:end])
            yield slice(begin, begin + len(chosen)), block

    def _read(self, first: int, into: Tensor) -> None:
        self._file.seek(first * self.n_outputs * FLOAT_BYTES)
        left = into.numpy().data.cast("B")
        while left:
            got = self._file.readinto(left)
            if not got:
                raise UnavailableError(f"{self._file.name} was cut short while it was read; run again")
            left = left[got:]


@dataclass
class KeptFactors(Factors):
    """Factors of a layer whose own logits are kept.

    Args:
        source: of normalised logits.
        positions: the tokens' places in it.
    """

    source: KeptLogits = field(kw_only=True)
    positions: Tensor | slice = field(kw_only=True)


def kept_loss(
    factors: KeptFactors, labels: Int[Tensor, "tokens"], weights: Float[Tensor, "tokens"]
) -> Float[Tensor, ""]:
    """Return the weighted sum of token NLLs in nats; see ``fast_loss``."""
    assert factors.low_rank is not None
    u, B = factors.low_rank
    loss: Tensor = _KeptLoss.apply(  # type: ignore[no-untyped-call]
        u, B, labels, weights, factors.source, factors.positions
    )
    return loss


@torch.no_grad()
def kept_nll(factors: KeptFactors, labels: Int[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
    """Return each token's NLL in nats; see ``token_nll``."""
    assert factors.low_rank is not None
    u, B = factors.low_rank
    Bt = B.T.contiguous()
    bounded = _is_bounded(u, B)
    result = torch.empty(len(labels))
    for part, z in factors.source.blocks(factors.positions):
        picked, top = _exponentials(z, u[part], Bt, labels[part], bounded)
        result[part] = z.sum(1).log_().add_(top).sub_(picked)
    return result


def _is_bounded(u: Tensor, B: Tensor) -> bool:
    """Whether no entry of u B^T is large, by the inequality of Cauchy and Schwarz."""
    if not len(u):
        return True
    return float(u.detach().norm(dim=1).max() * B.detach().norm(dim=1).max()) < BOUNDED


def _exponentials(
    z: Tensor, u: Tensor, Bt: Tensor, labels: Tensor, bounded: bool
) -> tuple[Tensor, Tensor | float]:
    """Replace z by exp(z + u B^T - top); return the labels' logits and top, which is 0 where it can be."""
    z.addmm_(u, Bt)
    picked = z[torch.arange(len(z)), labels]
    if bounded:
        z.exp_()
        return picked, 0.0
    top = z.amax(1)
    z.sub_(top.unsqueeze(1)).exp_()
    return picked, top


class _KeptLoss(torch.autograd.Function):
    """Gradients with the loss, over blocks of tokens: a token's sum is known while its exponentials are near.

    With e = exp(z + u B^T) and its sum by a column of ones beside B, one skinny product gives both that and
    e B. dL/dz = w (e / sum - onehot).
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, B: Tensor, labels: Tensor, weights: Tensor, source: KeptLogits, positions: Any
    ) -> Tensor:
        wants_u, wants_B = ctx.needs_input_grad[:2]
        Bt = B.T.contiguous()
        columns = torch.cat([B, B.new_ones(len(B), 1)], dim=1)
        d_Bt = torch.zeros_like(Bt) if wants_B else None
        sums = u.new_empty(len(u), columns.shape[1])
        nll = u.new_empty(len(u))
        bounded = _is_bounded(u, B)
        for part, z in source.blocks(positions):
            picked, top = _exponentials(z, u[part], Bt, labels[part], bounded)
            torch.mm(z, columns, out=sums[part])
            total = sums[part, -1]
            nll[part] = total.log().add_(top).sub_(picked)
            if d_Bt is not None:
                d_Bt.addmm_((u[part] * (weights[part] / total).unsqueeze(1)).T, z)
        d_u = d_B = None
        if wants_u:
            share = (weights / sums[:, -1]).unsqueeze(1)
            d_u = sums[:, :-1] * share - B[labels] * weights.unsqueeze(1)
        if d_Bt is not None:
            d_Bt.index_add_(1, labels, (u * weights.unsqueeze(1)).T, alpha=-1)
            d_B = d_Bt.T
        ctx.save_for_backward(d_u, d_B)
        return (nll * weights).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        d_u, d_B = (None if g is None else g * cotangent for g in ctx.saved_tensors)
        return d_u, d_B, None, None, None, None
