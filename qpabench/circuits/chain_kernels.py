"""Compiled loops for circuits of RY rotations and CNOT chains; ``qpabench.circuits.chain`` prepares them.

Rotations are [[1, -t], [t, 1]], |t| <= 1: the states grow, ``prepare`` says by how much.
"""

# numba: with tiles.py 170b4aa8ca23180a

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import int64

from qpabench.circuits.lanes import LANES, parity
from qpabench.circuits.tiles import (
    BYTES,
    compiled,
    turn_block,
    turn_both_block,
    turn_both_tiles,
    turn_tiles,
)
from qpabench.vectors import address

__all__ = ["LANES", "backward", "forward", "prepare", "probabilities", "weighted"]

ROOM = 2.0**200  # a state that grew beyond is scaled by the inverse, without rounding


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
def forward(state, layout, begin, chains, tangents, scales):
    """Turn the layers from ``begin`` on.

    Args:
        state: (2**(N - within) * stride,) float64, changed.
        layout: qubits of a block; where each block begins; qubits of each level above a block, outermost
            first, as ``turn_tiles`` takes them.
        begin: first layer.
        chains: (R + 1,) as in ``prepare``.
        tangents: (R, N).
        scales: (R,).
    """
    within, places, levels = layout
    n, last = tangents.shape[1], levels.shape[0] - 1
    inner = levels[last, 0] if last >= 0 else 0  # with these qubits blocks stay in a second-level cache
    x = address(state)
    for r in range(begin, tangents.shape[0]):
        t, chain, q = address(tangents) + r * n * BYTES, chains[r], n - within - inner
        for outer in range(1 << q):
            for block in range(outer << inner, (outer + 1) << inner):
                place = x + places[block] * BYTES
                turn_block(place, place, within, chain, parity(block), t + (q + inner) * BYTES)
            if inner:
                place = x + places[outer << inner] * BYTES
                turn_tiles(place, parity(outer), _tiles(levels, last), chain, t + q * BYTES)
        for level in range(last - 1, -1, -1):
            q -= levels[level, 0]
            for outer in range(1 << q):
                place = x + places[outer << (n - within - q)] * BYTES
                turn_tiles(place, parity(outer), _tiles(levels, level), chain, t + q * BYTES)
        if scales[r] != 1:
            for i in range(state.shape[0]):
                state[i] *= scales[r]


@compiled
@no_type_check
def backward(kept, ket, bra, layout, begin, chains, tangents, sums, growth, cosines):
    """Take the layers back to ``begin``, and the chain before it.

    Args:
        kept: the final ket.
        ket: room for it.
        bra: the final bra; changed.
        layout: these as in ``forward``, but ``tangents`` are negative.
        sums: (R, N * 8) to which the slopes are added before they are weighted.
        growth: of both states, and
        cosines: (R, N) left out.

    Returns:
        (R, N) weights of the sums; how much the bra has grown.
    """
    within, places, levels = layout
    n, last = tangents.shape[1], levels.shape[0] - 1
    inner = levels[last, 0] if last >= 0 else 0
    weights = np.zeros(tangents.shape)
    y, z, ahead = address(ket), address(bra), places[1] if inner else 0
    for r in range(tangents.shape[0] - 1, begin - 1, -1):
        t, slopes = address(tangents) + r * n * BYTES, address(sums) + r * n * LANES * BYTES
        chain, q = chains[r], int64(0)
        k = address(kept) if r + 1 == tangents.shape[0] else y
        for level in range(last):
            for outer in range(1 << q):
                place = places[outer << (n - within - q)] * BYTES
                turn_both_tiles(
                    k + place, z + place, y + place, parity(outer), _tiles(levels, level), chain,
                    t + q * BYTES, slopes + q * LANES * BYTES,
                )  # fmt: skip
            k = y
            q += levels[level, 0]
        for outer in range(1 << q):
            source = k
            if inner:
                place = places[outer << inner] * BYTES
                turn_both_tiles(
                    k + place, z + place, y + place, parity(outer), _tiles(levels, last), chain,
                    t + q * BYTES, slopes + q * LANES * BYTES,
                )  # fmt: skip
                source = y
            for block in range(outer << inner, (outer + 1) << inner):
                place = places[block] * BYTES
                turn_both_block(
                    source + place, z + place, y + place, z + place, within, chain, parity(block),
                    t + (q + inner) * BYTES, ahead, slopes + (q + inner) * LANES * BYTES,
                )  # fmt: skip
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
def probabilities(state, ends, growth, result):
    """Square the amplitudes of the state after the last chain.

    Args:
        state: before it.
        ends: qubits of a block; where each begins; (2**within,) unsigned, where the chain reads within one;
            the bits of the index to flip afterwards; whether there is a chain.
        growth: of the state.
        result: (2**N,) room for the probabilities.
    """
    within, places, order, flips, chain = ends
    size, factor = 1 << within, 1 / growth / growth
    for block in range(result.shape[0] >> within):
        first, low = _place(block, flips, within, places, chain)
        source, into = state[first : first + size], result[block << within : (block + 1) << within]
        for j in range(size):
            into[j] = source[order[j] ^ low] ** 2 * factor


@compiled
@no_type_check
def weighted(state, ends, weights, bra):
    """Write the derivative of the weighted probabilities with respect to the state before the last chain."""
    within, places, order, flips, chain = ends
    size = 1 << within
    for block in range(weights.shape[0] >> within):
        first, low = _place(block, flips, within, places, chain)
        source, into = state[first : first + size], bra[first : first + size]
        factors = weights[block << within : (block + 1) << within]
        for j in range(size):
            into[order[j] ^ low] = factors[j]
        for i in range(size):
            into[i] *= 2 * source[i]


@compiled
@no_type_check
def _tiles(levels, level):
    return levels[level, 0], levels[level, 1], levels[level, 2], levels[level, 3]


@compiled
@no_type_check
def _place(block, flips, within, places, chain):
    """Return where a block is read, and the bits to flip within."""
    place = (block << within) ^ flips
    if chain:
        place ^= place >> 1
    return places[place >> within], np.uint32(place & ((1 << within) - 1))
