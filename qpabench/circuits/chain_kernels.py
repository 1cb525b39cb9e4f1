"""Compiled loops for circuits of RY rotations and CNOT chains; ``qpabench.circuits.chain`` prepares them.

The chain CNOT(0, 1), CNOT(1, 2) ... is new[m] = old[m ^ (m >> 1)]. Cut the qubits into levels, the last ones
within a contiguous block: the chain then permutes within each level, and differs only by whether the last
qubit of the level above is set. So every pass over memory reads a tile, in the order that the chain wants,
turns the qubits of its level and writes the tile where it was.

Rotations are [[1, -t], [t, 1]], |t| <= 1: the states grow, ``prepare`` says by how much.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numba
import numpy as np

from qpabench.circuits.lanes import LANES, adder, align_stack, both_closer, both_turner, opener, turner, zeros

COLUMNS = 16  # numbers of a row in a tile
QUAD = 32  # numbers in the four vectors of five qubits
ROOM = 2.0**200  # a state that grew beyond is scaled by the inverse, without rounding

_one, _two, _three = turner(1), turner(2), turner(3)
_both_one, _both_two, _both_three = both_turner(1), both_turner(2), both_turner(3)
_open, _open_chain = opener(False), opener(True)
_close, _close_chain = both_closer(False), both_closer(True)
_add, _add_lanes = adder(0), adder(3)
_zeros_1, _zeros_2, _zeros_3, _zeros_5 = zeros(1), zeros(2), zeros(3), zeros(5)


def compiled(function: Any) -> Any:
    """Compile a loop, kept on disk."""
    return numba.njit(cache=True, error_model="numpy")(function)


@compiled
@no_type_check
def parity(number):
    odd = 0
    while number:
        odd ^= number & 1
        number >>= 1
    return odd


@compiled
@no_type_check
def _radix(qubits):
    return 2 if qubits == 4 else min(qubits, 3)


@compiled
@no_type_check
def prepare(cos, sin, chains):
    """Reduce all angles to |theta| <= pi / 2.

    R(theta) is R(theta - pi) X Z; the Pauli matrices are moved to the circuit's end, past rotations, whose
    sign they may change, and through the chains. There Z doesn't change a probability, and X flips bits.

    Args:
        cos: (R, N) of half the angles.
        sin: likewise.
        chains: (R + 1,) whether the chain acts before each layer; the last: at the end.

    Returns:
        (R, N) tangents; (R, N) signs by which their derivatives are weighted; (R, N) cosines left out; (R,)
        scales to apply after each layer; (R,) growth after each layer; the flipped bits of the index.
    """
    n_layers, n = cos.shape
    tangents, signs, cosines = np.empty((n_layers, n)), np.empty((n_layers, n)), np.empty((n_layers, n))
    scales, growths = np.ones(n_layers), np.empty(n_layers)
    x, z = np.zeros(n, np.int64), np.zeros(n, np.int64)
    growth = 1.0
    for r in range(n_layers):
        for q in range(n):
            c, s = cos[r, q], sin[r, q]
            signs[r, q] = -1.0 if x[q] ^ z[q] else 1.0
            if abs(s) > abs(c):
                c, s = s, -c
                x[q] ^= 1
                z[q] ^= 1
            tangents[r, q] = signs[r, q] * (s / c)
            cosines[r, q] = abs(c)
            growth /= abs(c)
        if growth > ROOM:
            scales[r] /= ROOM
            growth /= ROOM
        growths[r] = growth
        if chains[r + 1]:
            for q in range(1, n):
                x[q] ^= x[q - 1]
                z[q - 1] ^= z[q]
    flips = 0
    for q in range(n):
        flips = 2 * flips + x[q]
    return tangents, signs, cosines, scales, growths, flips


@compiled
@no_type_check
def _turn_rows(x, x_first, rows, spare, plain, y, y_first, y_step, width, qubits, t, q, ahead):
    """Turn the qubits that a tile's row number stands for."""
    align_stack()
    done = 0
    while done < qubits:
        radix = _radix(qubits - done)
        low = qubits - done - radix
        step = 1 << low
        to, to_first, to_step = (spare, 0, width) if low else (y, y_first, y_step)
        jump = step * to_step
        for high in range(0, 1 << qubits, step << radix):
            for row in range(high, high + step):
                for column in range(0, width, 8):
                    at, place = x_first + column, to_first + row * to_step + column
                    if radix == 3:
                        _three(x, at, rows, row, step, to, place, jump, t, q + done, ahead)
                    elif radix == 2:
                        _two(x, at, rows, row, step, to, place, jump, t, q + done, ahead)
                    else:
                        _one(x, at, rows, row, step, to, place, jump, t, q + done, ahead)
        x, x_first, rows, ahead = spare, 0, plain, 0
        done += radix


@compiled
@no_type_check
def _turn_both_rows(
    k, b, x_first, rows, spare, plain, y, z, y_first, y_step, width, qubits, t, q, ahead, slopes
):
    """Do the same with ket and bra, and add to the slopes."""
    align_stack()
    spare_k, spare_b = spare[0], spare[1]
    done = 0
    while done < qubits:
        radix = _radix(qubits - done)
        low = qubits - done - radix
        step, now = 1 << low, q + done
        u, v, to_first, to_step = (spare_k, spare_b, 0, width) if low else (y, z, y_first, y_step)
        jump = step * to_step
        one, two, three = _zeros_1(), _zeros_2(), _zeros_3()
        for high in range(0, 1 << qubits, step << radix):
            for row in range(high, high + step):
                for column in range(0, width, 8):
                    at, to = x_first + column, to_first + row * to_step + column
                    if radix == 3:
                        three = _both_three(k, b, at, rows, row, step, u, v, to, jump, t, now, ahead, three)
                    elif radix == 2:
                        two = _both_two(k, b, at, rows, row, step, u, v, to, jump, t, now, ahead, two)
                    else:
                        one = _both_one(k, b, at, rows, row, step, u, v, to, jump, t, now, ahead, one)
        if radix == 3:
            _add(three, slopes, now * 8)
        elif radix == 2:
            _add(two, slopes, now * 8)
        else:
            _add(one, slopes, now * 8)
        k, b, x_first, rows, ahead = spare_k, spare_b, 0, plain, 0
        done += radix


@compiled
@no_type_check
def turn_block(x, x_first, y, y_first, within, chain, odd, spare, quads, t, q):
    """Read a block, after the chain if there is one, turn all its qubits and write it."""
    align_stack()
    flip = odd << (within - 4)
    last = q + within - 5
    for quad in range(0, 1 << (within - 3), 4):
        if chain:
            _open_chain(x, x_first, quad ^ (quad >> 1) ^ flip, spare, quad * 8, t, last)
        else:
            _open(x, x_first, quad, spare, quad * 8, t, last)
    _turn_rows(spare, 0, quads, spare, quads, y, y_first, QUAD, QUAD, within - 5, t, q, 0)


@compiled
@no_type_check
def turn_both_block(k, b, y, z, first, within, chain, odd, spare, quads, t, q, slopes):
    """Turn all qubits of a block of both states, and write it as it was before the chain."""
    align_stack()
    flip = odd << (within - 4)
    last = q + within - 5
    _turn_both_rows(
        k, b, first, quads, spare, quads, spare[0], spare[1], 0, QUAD, QUAD, within - 5, t, q, 1 << within, slopes
    )  # fmt: skip
    u, v = spare[0], spare[1]
    sums = _zeros_5()
    for quad in range(0, 1 << (within - 3), 4):
        if chain:
            target = quad ^ (quad >> 1) ^ flip
            sums = _close_chain(u, v, quad * 8, y, z, first, target, t, last, sums)
        else:
            sums = _close(u, v, quad * 8, y, z, first, quad, t, last, sums)
    _add_lanes(sums, slopes, last * 8)


@compiled
@no_type_check
def _turn_tiles(x, outer, below, qubits, table, chain, columns, spare, t, q):
    """Turn the qubits of a level below an outer index."""
    rows = table[1 + parity(outer) if chain else 0]
    start = outer * (below << qubits)
    for first in range(start, start + below, COLUMNS):
        _turn_rows(x, first, rows, spare, columns, x, first, below, COLUMNS, qubits, t, q, COLUMNS)


@compiled
@no_type_check
def _turn_both_tiles(k, b, y, outer, below, qubits, table, chain, columns, spare, t, q, slopes):
    """Do the same with the bra, changed, and a ket, written to y."""
    rows = table[1 + parity(outer) if chain else 0]
    start = outer * (below << qubits)
    for first in range(start, start + below, COLUMNS):
        _turn_both_rows(
            k, b, first, rows, spare, columns, y, b, first, below, COLUMNS, qubits, t, q, COLUMNS, slopes
        )


@compiled
@no_type_check
def forward(state, within, stride, levels, tables, quads, columns, spare, begin, chains, tangents, scales):
    """Turn the layers from ``begin`` on.

    Args:
        state: (2**(N - within) * stride,) float64, changed.
        within: qubits of a block.
        stride: numbers from block to block.
        levels: qubits of each level above a block, outermost first.
        tables: (levels, 3, rows) where a tile reads its rows: without chain, with it, with it from a set bit.
        quads: where the rows of a block are.
        columns: where the rows of a tile are while it is turned.
        spare: (2, numbers) room for a block or a tile of two states.
        begin: first layer.
        chains: (R + 1,) as in ``prepare``.
        tangents: (R, N).
        scales: (R,).
    """
    n, last = tangents.shape[1], levels.shape[0] - 1
    inner = levels[last] if last >= 0 else 0  # with these qubits blocks stay in a second-level cache
    for r in range(begin, tangents.shape[0]):
        t, chain, q, below = tangents[r], chains[r], n - within - inner, stride
        for outer in range(1 << q):
            for block in range(outer << inner, (outer + 1) << inner):
                first = block * stride
                turn_block(
                    state, first, state, first, within, chain, parity(block), spare[0], quads, t, q + inner
                )
            if inner:
                _turn_tiles(state, outer, below, inner, tables[last], chain, columns, spare[0], t, q)
        below <<= inner
        for level in range(last - 1, -1, -1):
            q -= levels[level]
            for outer in range(1 << q):
                _turn_tiles(state, outer, below, levels[level], tables[level], chain, columns, spare[0], t, q)
            below <<= levels[level]
        if scales[r] != 1:
            for i in range(state.shape[0]):
                state[i] *= scales[r]


@compiled
@no_type_check
def backward(
    kept, ket, bra, within, stride, levels, tables, quads, columns, spare, begin, chains, tangents, sums, growth, cosines
):
    """Take the layers back to ``begin``, without the order of blocks that the chain before it makes.

    Args:
        kept: the final ket.
        ket: room for it.
        bra: the final bra; changed.
        within: these as in ``forward``, but for ``tables``, which lead back, and ``tangents``, of negative angles.
        sums: (R, N, 8) to which the slopes are added before they are weighted.
        growth: of both states, and
        cosines: (R, N) left out.

    Returns:
        (R, N) weights of the sums; how much the bra has grown.
    """
    n, last = tangents.shape[1], levels.shape[0] - 1
    inner = levels[last] if last >= 0 else 0
    weights = np.zeros(tangents.shape)
    for r in range(tangents.shape[0] - 1, begin - 1, -1):
        t, total, q, below = tangents[r], sums[r], 0, stride << (n - within)
        after, k = r + 1 < tangents.shape[0] and chains[r + 1], kept if r + 1 == tangents.shape[0] else ket
        for level in range(last):
            below >>= levels[level]
            for outer in range(1 << q):
                _turn_both_tiles(
                    k, bra, ket, outer, below, levels[level], tables[level], after, columns, spare, t, q, total
                )
            k = ket
            q += levels[level]
        for outer in range(1 << q):
            source = k
            if inner:
                _turn_both_tiles(
                    k, bra, ket, outer, stride, inner, tables[last], after, columns, spare, t, q, total
                )
                source = ket
            for block in range(outer << inner, (outer + 1) << inner):
                first, odd = block * stride, block & 1
                turn_both_block(
                    source, bra, ket, bra, first, within, chains[r], odd, spare, quads, t, q + inner, total
                )
        for q in range(n):
            weights[r, q] = 0.5 / growth / growth
            growth /= cosines[r, q]
        if growth > ROOM:
            growth /= ROOM
            for i in range(ket.shape[0]):
                ket[i] /= ROOM
                bra[i] /= ROOM
    return weights, growth


@compiled
@no_type_check
def probabilities(state, within, stride, order, flips, chain, growth, result):
    """Square the amplitudes of the state after the last chain.

    Args:
        state: before it.
        within: as in ``forward``, and stride.
        order: (2**within,) unsigned: where the chain reads within a block.
        flips: bits of the index to flip afterwards.
        chain: whether there is a chain.
        growth: of the state.
        result: (2**N,) room for the probabilities.
    """
    size, factor = 1 << within, 1 / growth / growth
    for block in range(result.shape[0] >> within):
        first, low = _place(block, flips, within, stride, chain)
        source, into = state[first : first + size], result[block << within : (block + 1) << within]
        for j in range(size):
            into[j] = source[order[j] ^ low] ** 2 * factor


@compiled
@no_type_check
def weighted(state, within, stride, order, flips, chain, weights, bra):
    """Write the derivative of the weighted probabilities with respect to the state before the last chain."""
    size = 1 << within
    for block in range(weights.shape[0] >> within):
        first, low = _place(block, flips, within, stride, chain)
        source, into = state[first : first + size], bra[first : first + size]
        factors = weights[block << within : (block + 1) << within]
        for j in range(size):
            into[order[j] ^ low] = factors[j]
        for i in range(size):
            into[i] *= 2 * source[i]


@compiled
@no_type_check
def _place(block, flips, within, stride, chain):
    """Return where a block is read, and the bits to flip within."""
    place = (block << within) ^ flips
    if chain:
        place ^= place >> 1
    return (place >> within) * stride, np.uint32(place & ((1 << within) - 1))
