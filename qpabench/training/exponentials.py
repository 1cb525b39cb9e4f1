"""Which losses of the output layer run as compiled loops, and what those loops are given.

``training.kernels`` has the loops. Where numba isn't there, or something isn't float32 on the CPU, torch does
the same; results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpabench import compiled

Floats = NDArray[np.float32]

KERNELS = "qpabench.training.kernels"
ENTRIES_PER_THREAD = 2**18  # 0.2 ms of work: less isn't worth a second thread
MOST_COLUMNS = 16  # with more, torch's matrix products are quicker


def chosen(*tensors: Tensor | None, n_columns: int) -> bool:
    """Say whether a loss runs as compiled loops.

    Args:
        tensors: it is computed from.
        n_columns: of its low-rank term, a bias being one.
    """
    return (
        n_columns <= MOST_COLUMNS
        and compiled.is_allowed()
        and all(each is None or (each.device.type, each.dtype) == ("cpu", torch.float32) for each in tensors)
        and compiled.loops(KERNELS) is not None
    )


def warm_up() -> None:
    """Load the loops, or compile them if this installation never did; quick where they aren't used."""
    u, B = torch.zeros(1, 1), torch.zeros(1, 1)
    if chosen(u, B, n_columns=1):
        term = LowRank.of(u, B, 1)
        whole_rows([(slice(0, 1), torch.zeros(1, 1))], term, torch.ones(1), wants_gradient=True)
        term.exponentials(torch.zeros(1, 1), torch.zeros(1), 0, torch.zeros(1, 1))


def _loops() -> ModuleType:
    return compiled.needed(KERNELS)


def _array(tensor: Tensor) -> Floats:
    """Return a tensor's numbers, row after row: the loops count on it."""
    array: Floats = tensor.detach().contiguous().numpy()
    return array


def padded(tokens: int) -> int:
    """Return the next multiple of the number of tokens that a loop takes at once."""
    group: int = _loops().GROUP
    return -(-tokens // group) * group


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="qpabench-loops")


def _share(work: Callable[[int, slice], None], n: int, entries: int) -> None:
    """Run ``work(index, part)`` over 0..n, a part for each of torch's threads where that pays.

    Args:
        work: to be done.
        n: how many tokens, or whatever parts are of.
        entries: how many exponentials that is.
    """
    threads = min(torch.get_num_threads(), entries // ENTRIES_PER_THREAD)
    if threads <= 1:
        work(0, slice(0, n))
        return
    step = -(-n // threads)
    parts = [slice(begin, min(begin + step, n)) for begin in range(0, n, step)]
    for done in [_pool(threads).submit(work, *each) for each in enumerate(parts)]:
        done.result()


@dataclass(frozen=True)
class LowRank:
    """A low-rank term u B^T with a column more for a bias, and zeros up to a multiple of four columns.

    Args:
        u: (tokens, r).
        Bt: (r, V).
        n_columns: how many are u's own.
        sums: (tokens, r + 1): what the loops sum up, e B and last the sum of e.
    """

    u: Floats
    Bt: Floats
    n_columns: int
    sums: Floats

    @classmethod
    def of(
        cls, u: Tensor | None, B: Tensor | None, tokens: int, n_outputs: int = 0, bias: Tensor | None = None
    ) -> LowRank:
        """Prepare a term; without u and B that of the bias alone, or none.

        Args:
            u: (tokens, rank).
            B: (V, rank).
            tokens: how many.
            n_outputs: V, where B isn't given.
            bias: (V,).
        """
        own = 0 if u is None else u.shape[1]
        columns = max(padded(own + (bias is not None)), padded(1))
        wide = np.zeros((tokens, columns), np.float32)
        tall = np.zeros((columns, n_outputs if B is None else len(B)), np.float32)
        if u is not None and B is not None:
            wide[:, :own], tall[:own] = _array(u), _array(B).T
        if bias is not None:
            wide[:, own], tall[own] = 1, _array(bias)
        return cls(wide, tall, own, np.zeros((tokens, columns + 1), np.float32))

    def exponentials(self, z: Tensor, shift: Tensor, first: int, e: Tensor) -> None:
        """Write e = exp(z + u B^T + shift) of some outputs, and add to the sums.

        Args:
            z: (tokens, n) logits; kept.
            shift: (tokens,).
            first: where in V these outputs begin.
            e: (tokens, n), written.
        """
        assert e.is_contiguous()
        given, moved, out = _array(z), _array(shift), _array(e)

        def work(_: int, part: slice) -> None:
            _loops().exponentials(
                given[part], moved[part], self.u[part], self.Bt, first, out[part], self.sums[part]
            )

        _share(work, len(given), given.size)

    def factor_gradient(self, share: Tensor, kept: Iterable[tuple[slice, Tensor]]) -> Tensor:
        """Return the gradient of the factor B: (share u)^T e transposed, (V, rank).

        Args:
            share: (tokens, 1) by which a token's exponentials count.
            kept: (which outputs, their e), each with zeros up to a padded number of tokens.
        """
        c = np.zeros((padded(len(self.u)), self.u.shape[1]), np.float32)
        c[: len(self.u)] = torch.from_numpy(self.u) * share  # numpy would warn where a loss diverges
        gradient, parts = np.zeros_like(self.Bt), list(kept)

        def work(_: int, chosen: slice) -> None:
            for part, e in parts[chosen]:
                _loops().add_products(_array(e), c, part.start, gradient)

        _share(work, len(parts), len(c) * gradient.shape[1])
        return _transposed(gradient[: self.n_columns])


def whole_rows(
    pieces: Iterable[tuple[slice, Tensor]], term: LowRank, weights: Tensor, *, wants_gradient: bool
) -> Tensor | None:
    """Sum up exponentials of whole rows of normalised logits, a few tokens at a time.

    Args:
        pieces: (which tokens, their logits).
        term: what is added to the logits; its sums are added to.
        weights: (tokens,) of each in the loss.
        wants_gradient: whether B's is wanted.

    Returns:
        (weights / sum of e) u^T e transposed, (V, rank), or None.
    """
    gradients: dict[int, Floats] = {}  # of each thread
    counts = _array(weights)
    for tokens, z in pieces:
        u, sums, counted, given = term.u[tokens], term.sums[tokens], counts[tokens], _array(z)

        def work(
            index: int, part: slice, u: Floats = u, sums: Floats = sums,
            counted: Floats = counted, given: Floats = given,
        ) -> None:  # fmt: skip
            if wants_gradient and index not in gradients:
                gradients[index] = np.zeros_like(term.Bt)
            gradient = gradients.get(index, term.Bt)
            _loops().whole_rows(
                given[part], u[part], counted[part], term.Bt, sums[part], wants_gradient, gradient
            )

        _share(work, len(given), given.size)
    if not wants_gradient:
        return None
    first, *others = [gradients[index] for index in sorted(gradients)] or [np.zeros_like(term.Bt)]
    for gradient in others:
        first += gradient
    return _transposed(first[: term.n_columns])


def _transposed(rows: Floats) -> Tensor:
    """Return (r, V) as (V, r), row after row in memory: what follows would be slow across."""
    return torch.from_numpy(np.stack(list(rows), axis=1))
