"""Compiled loops of the output layer's loss (numba); ``qpabench.training.exponentials`` calls them.

Columns of a low-rank term and tokens go in groups of four: as many as a pass over a tile of the vocabulary
takes at once in registers. A tile of four columns stays in the processor's cache from token to token.
"""

# numba: with lanes.py 2ec85d8aef025fa2

from __future__ import annotations

from typing import Any, no_type_check

import numba
import numpy as np

from qpabench.training.lanes import GROUP, LANES, added_up, exponentiate, no_sums
from qpabench.vectors import address

TILE = 2048
BYTES = 4  # of a number
_RESULT = (GROUP + 1) * LANES * BYTES  # where the last few are written

_LOG2_E = np.float32(1.4426950408889634)
_ONE, _NOTHING, _LEAST = np.float32(1), np.float32(0), np.float32(-np.inf)

# sums in any order, and a * b + c rounded once: rounding only; NaN stays what it is
_ROUNDING = {"reassoc", "contract"}


def _compiled(function: Any) -> Any:
    return numba.njit(cache=True, fastmath=_ROUNDING, nogil=True, error_model="numpy")(function)


def _part(function: Any) -> Any:
    """Mark what becomes part of its callers.

    A compiled function calls the others of its process, one from the cache those it was stored with: where
    these were optimised differently, the process that fills the cache would round otherwise than all later.
    """
    return numba.njit(inline="always")(function)


@_part
@no_type_check
def _exponentials(z, shift, u, Bt, first, e, sums):
    """Write e = exp(z + u B^T + shift), and add its products with the columns of B and its sum.

    Args:
        z: (tokens, n) float32, the logits of n outputs, row after row as e; not e.
        shift: (tokens,).
        u: (tokens, r), r a multiple of four.
        Bt: (r, V).
        first: where in V these outputs begin.
        e: (tokens, n).
        sums: (tokens, r + 1), e B and last the sum of e: added to.
    """
    n_outputs, last, stride = z.shape[1], u.shape[1] - GROUP, Bt.shape[1]
    partial, few = np.empty(TILE, np.float32), np.empty((GROUP + 2, LANES), np.float32)
    for begin in range(0, n_outputs, TILE):
        end = min(begin + TILE, n_outputs)
        b, size = first + begin, end - begin
        whole, columns = size // LANES * LANES, address(Bt) + (last * stride + b) * BYTES
        for t in range(z.shape[0]):
            place = (t * n_outputs + begin) * BYTES
            source, factor, base = address(z) + place, _LOG2_E, shift[t] * _LOG2_E
            w = (
                u[t, last] * _LOG2_E,
                u[t, last + 1] * _LOG2_E,
                u[t, last + 2] * _LOG2_E,
                u[t, last + 3] * _LOG2_E,
            )
            if last:
                for v in range(size):
                    partial[v] = z[t, begin + v] * factor + base
                for k in range(last):
                    column, weight = Bt[k, b : b + size], u[t, k] * _LOG2_E
                    for v in range(size):
                        partial[v] += weight * column[v]
                source, factor, base = address(partial), _ONE, _NOTHING
            totals = no_sums()
            for v in range(0, whole, LANES):
                totals = exponentiate(source, factor, base, w, columns, stride, address(e) + place, v, totals)
            if whole < size:  # the last few, with nothing beside them
                few[0] = _LEAST
                few[1:] = _NOTHING
                for i in range(size - whole):
                    few[0, i] = partial[whole + i] if last else z[t, begin + whole + i]
                    for k in range(GROUP):
                        few[1 + k, i] = Bt[last + k, b + whole + i]
                room = address(few)
                totals = exponentiate(
                    room, factor, base, w, room + LANES * BYTES, LANES, room + _RESULT, 0, totals
                )
                for i in range(size - whole):
                    e[t, begin + whole + i] = few[GROUP + 1, i]
            found = added_up(totals)
            for k in range(GROUP + 1):
                sums[t, last + k] += found[k]
            for k in range(last):
                x, column, total = e[t, begin:end], Bt[k, b : b + size], _NOTHING
                for v in range(size):
                    total += x[v] * column[v]
                sums[t, k] += total


@_part
@no_type_check
def _add_products(e, c, first, gradient):
    """Add c^T e to the gradient of some outputs.

    Args:
        e: (tokens, n), as many tokens as a multiple of four.
        c: (tokens, r), r a multiple of four.
        first: where in V these outputs begin.
        gradient: (r, V), added to.
    """
    n_outputs = e.shape[1]
    for begin in range(0, n_outputs, TILE):
        end = min(begin + TILE, n_outputs)
        g = slice(first + begin, first + end)
        for k in range(0, c.shape[1], GROUP):
            d0, d1, d2, d3 = gradient[k, g], gradient[k + 1, g], gradient[k + 2, g], gradient[k + 3, g]
            for t in range(0, e.shape[0], GROUP):
                e0, e1, e2, e3 = (
                    e[t, begin:end],
                    e[t + 1, begin:end],
                    e[t + 2, begin:end],
                    e[t + 3, begin:end],
                )
                m = c[t : t + GROUP, k : k + GROUP]
                m00, m10, m20, m30 = m[0, 0], m[1, 0], m[2, 0], m[3, 0]
                m01, m11, m21, m31 = m[0, 1], m[1, 1], m[2, 1], m[3, 1]
                m02, m12, m22, m32 = m[0, 2], m[1, 2], m[2, 2], m[3, 2]
                m03, m13, m23, m33 = m[0, 3], m[1, 3], m[2, 3], m[3, 3]
                for v in range(end - begin):
                    x0, x1, x2, x3 = e0[v], e1[v], e2[v], e3[v]
                    d0[v] += (m00 * x0 + m10 * x1) + (m20 * x2 + m30 * x3)
                    d1[v] += (m01 * x0 + m11 * x1) + (m21 * x2 + m31 * x3)
                    d2[v] += (m02 * x0 + m12 * x1) + (m22 * x2 + m32 * x3)
                    d3[v] += (m03 * x0 + m13 * x1) + (m23 * x2 + m33 * x3)


@_compiled
@no_type_check
def exponentials(z, shift, u, Bt, first, e, sums):
    """See ``_exponentials``."""
    _exponentials(z, shift, u, Bt, first, e, sums)


@_compiled
@no_type_check
def add_products(e, c, first, gradient):
    """See ``_add_products``."""
    _add_products(e, c, first, gradient)


@_compiled
@no_type_check
def whole_rows(z, u, weights, Bt, sums, wants_gradient, gradient):
    """Do both with all outputs of each token, a few tokens at a time: their exponentials stay near.

    Args:
        z: (tokens, V) float32, normalised logits.
        u: (tokens, r), r a multiple of four.
        weights: (tokens,) of each token in the loss.
        Bt: (r, V).
        sums: (tokens, r + 1), as in ``_exponentials``.
        wants_gradient: whether the gradient is wanted.
        gradient: (r, V), where (weight / sum of e) u^T e is added.
    """
    rank = u.shape[1]
    shift = np.zeros(GROUP, np.float32)
    e = np.zeros((GROUP, z.shape[1]), np.float32)
    c = np.empty((GROUP, rank), np.float32)
    for begin in range(0, z.shape[0], GROUP):
        end = min(begin + GROUP, z.shape[0])
        _exponentials(z[begin:end], shift, u[begin:end], Bt, 0, e[: end - begin], sums[begin:end])
        if wants_gradient:
            c[:] = _NOTHING
            for t in range(begin, end):
                share = weights[t] / sums[t, rank]
                for k in range(rank):
                    c[t - begin, k] = u[t, k] * share
            _add_products(e, c, 0, gradient)
