"""Reads kept logits z of an output layer, and computes the loss where a low-rank term is added: z + u B^T."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from qpabench.errors import UnavailableError
from qpabench.targets.target import Factors
from qpabench.training import exponentials
from qpabench.training.exponentials import LowRank, whole_rows
from qpabench.training.with_gradients import LossWithGradients

BLOCK_ENTRIES = 2**20  # logits at a time in torch: 4 MiB stay in the processor's cache from pass to pass
PIECE_BYTES = 2**26  # mapped at a time: a process that maps more seems to hold it
FLOAT_BYTES = 4
BOUNDED = 30.0  # with |u B^T| below it, exp(z + u B^T) of normalised z fits float32 and keeps its digits


class KeptLogits:
    """The kept logits of one split, or of some of its positions.

    Args:
        path: of the file.
        n_outputs: V.
        positions: in the split's flat arrays, ascending, one a row of the file; None: all.
    """

    def __init__(self, path: Path, n_outputs: int, positions: Tensor | None = None) -> None:
        self.path, self.n_outputs = path, n_outputs
        self._positions = None if positions is None else positions.cpu().numpy()
        self._row_bytes = n_outputs * FLOAT_BYTES
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def pieces(self, positions: Tensor | slice) -> Iterator[tuple[slice, Tensor]]:
        """Yield (which of the positions, their normalised logits), neighbours in the file together.

        The logits lie in the file's own pages, and only until the next piece is asked for.

        Args:
            positions: places in the split's flat arrays, which have their logits here.

        Raises:
            UnavailableError: the file has become shorter.
        """
        wanted, _ = self._rows(positions)
        longest = max(1, PIECE_BYTES // self._row_bytes)
        ends = [*(np.flatnonzero(np.diff(wanted) != 1) + 1).tolist(), len(wanted)]
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            for first in range(begin, end, longest):
                part = slice(first, min(first + longest, end))
                yield part, self._mapped(int(wanted[first]), part.stop - first)

    def has(self, positions: Tensor | slice) -> bool:
        """Say whether the logits of all these positions are kept."""
        return self._rows(positions)[1]

    def _rows(self, positions: Tensor | slice) -> tuple[NDArray[np.int64], bool]:
        """Return where in the file positions are, and whether all are there."""
        if isinstance(positions, slice):
            wanted = np.arange(positions.start, positions.stop)
        else:
            wanted = positions.cpu().numpy()
        if self._positions is None:
            return wanted, True
        rows = np.searchsorted(self._positions, wanted)
        inside = rows < len(self._positions)
        return rows, bool(inside.all() and (self._positions[rows] == wanted).all())

    def _mapped(self, first: int, count: int) -> Tensor:
        begin, size = first * self._row_bytes, count * self._row_bytes
        if os.fstat(self._file).st_size < begin + size:
            raise UnavailableError(f"{self.path} was cut short while it was read; run again")
        before = begin % mmap.ALLOCATIONGRANULARITY
        window = mmap.mmap(self._file, before + size, access=mmap.ACCESS_COPY, offset=begin - before)
        logits = torch.frombuffer(window, dtype=torch.float32, count=count * self.n_outputs, offset=before)
        return logits.view(count, self.n_outputs)


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
    nll, _, _ = _pass(u, B, labels, torch.ones(len(u)), factors.source, factors.positions, wants_B=False)
    return nll


def _is_bounded(u: Tensor, B: Tensor) -> bool:
    """Whether no entry of u B^T is large: by Hölder's inequality, or the closer one of Cauchy and Schwarz."""
    if not len(u):
        return True
    u, B = u.detach(), B.detach()
    if float(u.abs().sum(1).max() * B.abs().max()) < BOUNDED:
        return True
    return float(u.norm(dim=1).max() * B.norm(dim=1).max()) < BOUNDED


def _pass(
    u: Tensor,
    B: Tensor,
    labels: Tensor,
    weights: Tensor,
    source: KeptLogits,
    positions: Any,
    *,
    wants_B: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return token NLLs, (tokens, r + 1) sums of e B and e, and (weights / sum of e) u^T e transposed."""
    bounded = _is_bounded(u, B)
    picked = u.new_empty(len(u))
    pieces = _noting(source.pieces(positions), labels, picked)
    if bounded and exponentials.chosen(u, B, n_columns=u.shape[1]):
        term = LowRank.of(u, B, len(u))
        gradient = whole_rows(pieces, term, weights, wants_gradient=wants_B)
        sums = torch.from_numpy(term.sums)[:, [*range(u.shape[1]), -1]]
        nll = sums[:, -1].log()
    else:
        nll, sums, gradient = _pass_in_torch(u, B, weights, pieces, bounded=bounded, wants_B=wants_B)
    return nll.sub_(picked).sub_((u * B[labels]).sum(1)), sums, gradient


def _noting(
    pieces: Iterator[tuple[slice, Tensor]], labels: Tensor, picked: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Yield pieces, and note the logit of each token's label."""
    for part, z in pieces:
        picked[part] = z.gather(1, labels[part].unsqueeze(1)).squeeze(1)
        yield part, z


def _pass_in_torch(
    u: Tensor,
    B: Tensor,
    weights: Tensor,
    pieces: Iterator[tuple[slice, Tensor]],
    *,
    bounded: bool,
    wants_B: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Do what ``_pass`` does, labels aside, over blocks of tokens: sums are known while e is near.

    e is exp(z + u B^T - top); top is 0 where it can be, else the greatest logit.
    """
    Bt = B.T.contiguous()
    gradient = torch.zeros_like(Bt) if wants_B else None
    sums = u.new_empty(len(u), B.shape[1] + 1)
    logarithms = u.new_empty(len(u))
    rows = max(1, BLOCK_ENTRIES // len(B))
    buffer = u.new_empty(min(rows, len(u)), len(B))
    for piece, logits in pieces:
        for first in range(piece.start, piece.stop, rows):
            part = slice(first, min(first + rows, piece.stop))
            given = logits[part.start - piece.start : part.stop - piece.start]
            e = torch.addmm(given, u[part], Bt, out=buffer[: len(given)])
            top = u.new_zeros(len(e)) if bounded else e.amax(1)
            (e if bounded else e.sub_(top.unsqueeze(1))).exp_()
            total = e.sum(1)  # a product with ones would lose digits
            sums[part, :-1], sums[part, -1] = e @ B, total
            logarithms[part] = total.log().add_(top)
            if gradient is not None:
                gradient.addmm_((u[part] * (weights[part] / total).unsqueeze(1)).T, e)
    return logarithms, sums, None if gradient is None else gradient.T


class _KeptLoss(LossWithGradients):
    """Gradients with the loss: dL/dz = w (e / sum - onehot) for e = exp(z + u B^T)."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, B: Tensor, labels: Tensor, weights: Tensor, source: KeptLogits, positions: Any
    ) -> Tensor:
        wants_u, wants_B = ctx.needs_input_grad[:2]
        nll, sums, d_B = _pass(u, B, labels, weights, source, positions, wants_B=wants_B)
        d_u = None
        if wants_u:
            share = (weights / sums[:, -1]).unsqueeze(1)
            d_u = sums[:, :-1] * share - B[labels] * weights.unsqueeze(1)
        if d_B is not None:
            d_B.index_add_(0, labels, u * weights.unsqueeze(1), alpha=-1)
        ctx.save_for_backward(d_u, d_B)
        return (nll * weights).sum()
