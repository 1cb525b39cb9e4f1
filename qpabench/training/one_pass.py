"""Loss of the adapted output layer on the CPU, gradients with it, in one pass over the vocabulary."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qpabench.targets.target import Factors
from qpabench.training import exponentials
from qpabench.training.exponentials import LowRank
from qpabench.training.plain_head import plain_logits
from qpabench.training.with_gradients import LossWithGradients

CHUNK_OUTPUTS = 4096  # vocabulary entries at a time: larger chunks of logits leave the processor's cache
COMPILED_CHUNK_OUTPUTS = 1024  # loops that take a chunk once cost little to start
LARGEST_SUM = 1e20  # of exponentials: far from where float32 overflows, or loses digits of their inverse


class OnePassLoss(LossWithGradients):
    """Computes the gradients with the loss: exponentials are kept, scaled later by what became known.

    Per chunk c of outputs: z = scale * (h W_c^T + u B_c^T) + bias_c, e = exp(z - m). As m serves the first
    chunk's maximum: what is far above it shows in the sum, and then the maximum of all chunks is found first.
    dL/dz = w (e / sum - onehot).
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
        given = (inputs, u, B, scale, weight, bias, labels)
        wants = ctx.needs_input_grad[:4]
        found = summed(given, wants)
        loss: Tensor = ((found.total.log() - found.picked) * weights).sum()
        if any(wants):
            ctx.save_for_backward(*_gradients(given, weights, found, wants))
        return loss


@dataclass
class Summed:
    """What a pass over the vocabulary leaves, with e = exp(logits - a reference of each token).

    Args:
        total: (tokens,) sum of e.
        picked: (tokens,) the labels' logits less the reference.
        inputs: (tokens, d) e W, or None.
        low_rank: (tokens, r) e B.
        kept: which outputs, their e (with more rows, zeros, where loops are compiled).
        unscaled: their logits before the scale.
        term: of the compiled loops, or None.
    """

    total: Tensor
    picked: Tensor
    inputs: Tensor | None
    low_rank: Tensor
    kept: list[tuple[slice, Tensor]]
    unscaled: list[Tensor]
    term: LowRank | None = None


def summed(given: tuple[Any, ...], wants: tuple[bool, ...]) -> Summed:
    """Pass over the vocabulary once, seldom twice.

    Args:
        given: inputs, u, B, scale, weight, bias, labels.
        wants: which of the first four want a gradient.
    """
    inputs, u, B, scale, weight, bias, _ = given
    columns = (0 if u is None else u.shape[1]) + (bias is not None)
    compiled = scale is None and exponentials.chosen(inputs, u, B, weight, bias, n_columns=columns)
    found = _one_compiled_pass(given, wants) if compiled else _one_pass(given, wants, None)
    if bool((found.total < LARGEST_SUM).all()):
        return found
    return _one_pass(given, wants, _maximum(given))


def chunks(n_outputs: int, size: int = CHUNK_OUTPUTS) -> Iterator[slice]:
    """Cut the vocabulary into parts."""
    for start in range(0, n_outputs, size):
        yield slice(start, min(start + size, n_outputs))


def _maximum(given: tuple[Any, ...]) -> Tensor:
    """Return each token's greatest logit."""
    inputs, u, B, scale, weight, bias, _ = given
    greatest: Tensor = inputs.new_full((len(inputs),), -torch.inf)
    for part in chunks(len(weight)):
        chunk = Factors(inputs, None if u is None else (u, B[part]), None if scale is None else scale[part])
        z = plain_logits(chunk, weight[part], None if bias is None else bias[part], None)
        greatest = torch.maximum(greatest, z.amax(1))
    return greatest


def _one_compiled_pass(given: tuple[Any, ...], wants: tuple[bool, ...]) -> Summed:
    """Do what ``_one_pass`` does by compiled loops, which take each chunk of logits from the cache once."""
    inputs, u, B, _, weight, bias, labels = given
    wants_inputs, _, wants_B, _ = wants
    tokens, rows = len(inputs), exponentials.padded(len(inputs))
    term = LowRank.of(u, B, tokens, len(weight), bias)
    sum_inputs = torch.zeros_like(inputs) if wants_inputs else None
    size = min(COMPILED_CHUNK_OUTPUTS, len(weight))
    room = _scratch(inputs, tokens * size + rows * (len(weight) if wants_B else size))
    logits, free = room[: tokens * size], tokens * size
    kept: list[tuple[slice, Tensor]] = []
    reference: Tensor | None = None
    for part in chunks(len(weight), size):
        n = part.stop - part.start
        z, e = logits[: tokens * n].view(tokens, n), room[free : free + rows * n].view(rows, n)
        torch.mm(inputs, weight[part].T, out=z)
        if reference is None:
            reference = z.amax(1)
        e[tokens:] = 0
        term.exponentials(z, -reference, part.start, e[:tokens])
        if sum_inputs is not None:
            sum_inputs.addmm_(e[:tokens], weight[part])
        if wants_B:
            free += rows * n
            kept.append((part, e))
    assert reference is not None
    picked = (inputs * weight[labels]).sum(1) - reference
    if u is not None:
        picked += (u * B[labels]).sum(1)
    if bias is not None:
        picked += bias[labels]
    sums = torch.from_numpy(term.sums)
    return Summed(sums[:, -1], picked, sum_inputs, sums[:, : term.n_columns], kept, [], term)


def _one_pass(given: tuple[Any, ...], wants: tuple[bool, ...], reference: Tensor | None) -> Summed:
    """Sum up chunk by chunk, and keep each chunk's e if it is wanted.

    The e lie in memory that the next step writes to again: fresh pages would cost a fifth of the product.
    """
    inputs, u, B, scale, weight, bias, labels = given
    wants_inputs, _, wants_B, wants_scale = wants
    keeps = wants_B or wants_scale
    tokens = len(inputs)
    ones = inputs.new_ones(len(weight), 1)
    columns = ones if B is None else torch.cat([B, ones], dim=1)
    shifted = None  # u beside -m: one skinny product adds the low-rank term and takes m away
    low_rank = inputs.new_zeros(tokens, columns.shape[1] - 1)
    sum_inputs = torch.zeros_like(inputs) if wants_inputs else None
    total, picked = inputs.new_zeros(tokens), inputs.new_zeros(tokens)
    rows = torch.arange(tokens, device=inputs.device)
    room, free = _scratch(inputs, tokens * (len(weight) if keeps else min(CHUNK_OUTPUTS, len(weight)))), 0
    kept: list[tuple[slice, Tensor]] = []
    unscaled: list[Tensor] = []
    for part in chunks(len(weight)):
        size = tokens * (part.stop - part.start)
        z = room[free : free + size].view(tokens, -1)
        free += size if keeps else 0
        torch.mm(inputs, weight[part].T, out=z)
        if shifted is None or scale is not None:
            if u is not None:
                z.addmm_(u, B[part].T)
            if scale is not None:
                if wants_scale:
                    unscaled.append(z.clone())
                z.mul_(scale[part])
            if bias is not None:
                z.add_(bias[part])
            if reference is None:
                reference = z.amax(1)
            z.sub_(reference.unsqueeze(1))
            if scale is None:
                minus = -reference.unsqueeze(1)
                shifted = minus if u is None else torch.cat([u, minus], dim=1)
        else:
            z.addmm_(shifted, columns[part].T)
            if bias is not None:
                z.add_(bias[part])
        inside = (labels >= part.start) & (labels < part.stop)
        column = (labels - part.start).clamp(0, part.stop - part.start - 1)
        picked = torch.where(inside, z[rows, column], picked)
        e = z.exp_()
        weighted = e if scale is None else e * scale[part]
        total += e.sum(1)  # a product with ones, or one that adds to its result, would lose digits
        if B is not None:
            low_rank += weighted @ B[part]
        if sum_inputs is not None:
            sum_inputs.addmm_(weighted, weight[part])
        if keeps:
            kept.append((part, e))
    return Summed(total, picked, sum_inputs, low_rank, kept, unscaled)


_memory = threading.local()


def _scratch(inputs: Tensor, wanted: int) -> Tensor:
    """Return room for so many logits; what it holds is lost in this thread's next call."""
    kind = (inputs.dtype, inputs.device)
    if getattr(_memory, "kind", None) != kind or len(_memory.flat) < wanted:
        _memory.kind = _memory.flat = None  # freed before more is taken
        _memory.flat = inputs.new_empty(wanted)
        _memory.kind = kind
    room: Tensor = _memory.flat
    return room


def _gradients(
    given: tuple[Any, ...], weights: Tensor, found: Summed, wants: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    inputs, u, B, scale, weight, _, labels = given
    _, wants_u, wants_B, wants_scale = wants
    share = (weights / found.total).unsqueeze(1)
    label_scale = weights if scale is None else weights * scale[labels]
    d_inputs = d_u = d_B = d_scale = None
    if found.inputs is not None:
        d_inputs = found.inputs * share - weight[labels] * label_scale.unsqueeze(1)
    if wants_u:
        d_u = found.low_rank * share - B[labels] * label_scale.unsqueeze(1)
    if wants_scale:
        d_scale = torch.empty_like(scale)
        for (part, e), logits in zip(found.kept, found.unscaled, strict=True):
            d_scale[part] = (e * share * logits).sum(0)
    if wants_B:
        if found.term is not None:
            d_B = found.term.factor_gradient(share, found.kept)
        else:
            d_B = torch.empty_like(B)
            scaled = (u * share).T.contiguous()
            for part, e in found.kept:
                d_B[part] = torch.mm(scaled, e).T  # twice as fast as e.T @ u with few columns
        if scale is not None:
            d_B.mul_(scale.unsqueeze(1))
        d_B.index_add_(0, labels, u * label_scale.unsqueeze(1), alpha=-1)
    if d_scale is not None:
        at_label = (inputs * weight[labels]).sum(1)
        if u is not None:
            at_label = at_label + (u * B[labels]).sum(1)
        d_scale.index_add_(0, labels, at_label * weights, alpha=-1)
    return d_inputs, d_u, d_B, d_scale
