"""Compiled loops of the native state vector (numba); ``qpabench.circuits.fast`` prepares what they read.

A state lies in blocks that fit the nearest cache, an array (blocks, planes, stride): real parts, then
imaginary parts where the circuit has any, each with some room behind it so that columns of blocks don't fall
into the same lines of the cache. A pass turns the most significant qubit of a block and writes it as the
least significant one (Stockham's order), so that reads and writes are contiguous for every qubit. What has to
move between passes, CNOTs among it, is one table of indices by which the next block is read.

An array that is written is never one that is read: only then does the compiler use vector instructions.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numba
import numpy as np

# sums in any order, and a * b + c rounded once: rounding only; NaN and infinity stay what they are
_ROUNDING = {"reassoc", "contract"}


def _compiled(function: Any) -> Any:
    return numba.njit(cache=True, fastmath=_ROUNDING)(function)


@_compiled
@no_type_check
def _turn(x, y, h, axis, c, s):
    """Apply c - i s P to the most significant qubit of x (planes, 2 h)."""
    if x.shape[0] == 1:
        for j in range(h):
            a, b = x[0, j], x[0, j + h]
            y[0, 2 * j] = c * a - s * b
            y[0, 2 * j + 1] = s * a + c * b
        return
    sx = s if axis == 0 else 0.0
    sy = s if axis == 1 else 0.0
    sz = s if axis == 2 else 0.0
    for j in range(h):
        ar, ai, br, bi = x[0, j], x[1, j], x[0, j + h], x[1, j + h]
        y[0, 2 * j] = c * ar + sz * ai - sy * br + sx * bi
        y[1, 2 * j] = c * ai - sz * ar - sy * bi - sx * br
        y[0, 2 * j + 1] = sy * ar + sx * ai + c * br - sz * bi
        y[1, 2 * j + 1] = sy * ai - sx * ar + c * bi + sz * br


@_compiled
@no_type_check
def _turn_both(k, b, y, z, h, axis, c, s):
    """Turn ket and bra as ``_turn`` does, and return Re <bra| -iP |ket> / 2 from before."""
    total = 0.0
    if k.shape[0] == 1:
        for j in range(h):
            k0, k1, b0, b1 = k[0, j], k[0, j + h], b[0, j], b[0, j + h]
            total += b1 * k0 - b0 * k1
            y[0, 2 * j] = c * k0 - s * k1
            y[0, 2 * j + 1] = s * k0 + c * k1
            z[0, 2 * j] = c * b0 - s * b1
            z[0, 2 * j + 1] = s * b0 + c * b1
        return total / 2
    if axis == 0:
        for j in range(h):
            total += b[0, j] * k[1, j + h] - b[1, j] * k[0, j + h]
            total += b[0, j + h] * k[1, j] - b[1, j + h] * k[0, j]
    elif axis == 1:
        for j in range(h):
            total += b[0, j + h] * k[0, j] - b[0, j] * k[0, j + h]
            total += b[1, j + h] * k[1, j] - b[1, j] * k[1, j + h]
    else:
        for j in range(h):
            total += b[0, j] * k[1, j] - b[1, j] * k[0, j]
            total += b[1, j + h] * k[0, j + h] - b[0, j + h] * k[1, j + h]
    _turn(k, y, h, axis, c, s)
    _turn(b, z, h, axis, c, s)
    return total / 2


@_compiled
@no_type_check
def _read(source, table, x):
    flat, stride = source.reshape(-1), source.shape[2]
    for plane in range(x.shape[0]):
        values, into = flat[plane * stride :], x[plane]
        for j in range(table.shape[0]):
            into[j] = values[table[j]]


@_compiled
@no_type_check
def _turn_block(source, table, into, axes, cos, sin):
    """Read a block of a state by its table and turn one qubit a pass; the last pass writes the result."""
    size = table.shape[0]
    x = np.empty((source.shape[1], size))
    spare = np.empty_like(x)
    _read(source, table, x)
    last = axes.shape[0] - 1
    for q in range(last + 1):
        y = into if q == last else spare
        _turn(x, y, size // 2, axes[q], cos[q], sin[q])
        x, spare = y, x


@_compiled
@no_type_check
def _turn_both_blocks(kets, bras, table, ket, bra, axes, cos, sin, slopes):
    """Do with both states what ``_turn_block`` does, and write the slope of each of these qubits."""
    size = table.shape[0]
    x = np.empty((kets.shape[1], size))
    spare_x, u, spare_u = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    _read(kets, table, x)
    _read(bras, table, u)
    last = axes.shape[0] - 1
    for q in range(last + 1):
        y, v = (ket, bra) if q == last else (spare_x, spare_u)
        slopes[q] = _turn_both(x, u, y, v, size // 2, axes[q], cos[q], sin[q])
        x, spare_x, u, spare_u = y, x, v, u


@_compiled
@no_type_check
def forward(state, spare, above, which, starts, across, axes, cos, sin):
    """Run all layers.

    Args:
        state: (blocks, planes, stride) float64, the start in the order of the basis; used up, as is spare.
        spare: like state; (tiles, planes, stride) if there are qubits above a block.
        above: how many qubits that is.
        which: (R,) by which start a layer reads: the permutation before it.
        starts: (permutations, tiles, size) where a tile is read; (permutations, 1, size) without tiles.
        across: (blocks, size) where a block is read after the tiles; empty without tiles.
        axes: (R, N) Pauli matrix of each rotation.
        cos: (R, N) of half its angle.
        sin: (R, N) likewise.

    Returns:
        The state before the last permutation.
    """
    for r in range(axes.shape[0]):
        start = starts[which[r]]
        if not above:
            _turn_block(state, start[0], spare[0], axes[r], cos[r], sin[r])
            state, spare = spare, state
            continue
        for tile in range(spare.shape[0]):
            _turn_block(state, start[tile], spare[tile], axes[r, :above], cos[r, :above], sin[r, :above])
        for block in range(state.shape[0]):
            _turn_block(spare, across[block], state[block], axes[r, above:], cos[r, above:], sin[r, above:])
    return state


@_compiled
@no_type_check
def backward(ket, spare_ket, bra, spare_bra, above, which, starts, across, axes, cos, sin):
    """Take all layers back, last first.

    Args:
        ket: what ``forward`` returned; used up, as are all states.
        spare_ket: as in ``forward``.
        bra: likewise for the derivative with respect to the state.
        spare_bra: likewise.
        above: as in ``forward``.
        which: (R,) by which start a layer reads: the inverse of the permutation after it.
        starts: as in ``forward``, of the inverse permutations.
        across: as in ``forward``.
        axes: (R, N) Pauli matrix of each rotation.
        cos: (R, N) of half its angle.
        sin: (R, N) of minus half its angle.

    Returns:
        (R, N) derivative with respect to the angle of each rotation.
    """
    slopes = np.empty(axes.shape)
    of_tiles = np.empty((spare_ket.shape[0], above))
    of_blocks = np.empty((ket.shape[0], axes.shape[1] - above))
    for r in range(axes.shape[0] - 1, -1, -1):
        start, axis, c, s = starts[which[r]], axes[r], cos[r], sin[r]
        if not above:
            _turn_both_blocks(ket, bra, start[0], spare_ket[0], spare_bra[0], axis, c, s, slopes[r])
            ket, spare_ket, bra, spare_bra = spare_ket, ket, spare_bra, bra
            continue
        for tile in range(of_tiles.shape[0]):
            _turn_both_blocks(
                ket, bra, start[tile], spare_ket[tile], spare_bra[tile],
                axis[:above], c[:above], s[:above], of_tiles[tile],
            )  # fmt: skip
        for block in range(of_blocks.shape[0]):
            _turn_both_blocks(
                spare_ket, spare_bra, across[block], ket[block], bra[block],
                axis[above:], c[above:], s[above:], of_blocks[block],
            )  # fmt: skip
        slopes[r, :above] = of_tiles.sum(0)
        slopes[r, above:] = of_blocks.sum(0)
    return slopes
