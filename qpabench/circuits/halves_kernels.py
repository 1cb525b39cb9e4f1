"""Compiled loops for the two halves of a register; ``qpabench.circuits.halves`` says what they are."""

# numba: with tiles.py 170b4aa8ca23180a

from __future__ import annotations

from typing import no_type_check

from numba import int64

from qpabench.circuits.lanes import LANES
from qpabench.circuits.tiles import BYTES, compiled, turn_block, turn_both_block
from qpabench.vectors import address


@compiled
@no_type_check
def forward(left, right, odd, n_layers, tangents):
    """Turn layers of both halves, with the chain between two.

    Args:
        left: (terms * 2**a,) float64; the first 2**a are the start.
        right: (terms * 2**b,) likewise.
        odd: (2**a,) whether a number has an odd count of set bits.
        n_layers: terms are 2**(n_layers - 1).
        tangents: (R, a + b).
    """
    size, none = odd.shape[0], int64(0)
    above = tangents.shape[1]
    while 1 << above > size:
        above -= 1
    within = tangents.shape[1] - above
    x, y = address(left), address(right)
    for r in range(n_layers):
        rows, t = 1 << r, address(tangents) + r * tangents.shape[1] * BYTES
        half = rows >> 1
        for row in range(half):
            for i in range(size):
                value = left[row * size + i]
                left[(row + half) * size + i] = value if odd[i] else 0.0
                left[row * size + i] = 0.0 if odd[i] else value
        for row in range(rows - 1, -1, -1):  # from the end: a row is read before it's overwritten
            flip = int64(half > 0 and row >= half)
            place = x + row * size * BYTES
            turn_block(place, place, above, r > 0, none, t)
            source, place = y + ((row - flip * half) << within) * BYTES, y + (row << within) * BYTES
            turn_block(source, place, within, r > 0, flip, t + above * BYTES)


@compiled
@no_type_check
def backward(kets, bras, odd, n_layers, tangents, sums, weights, growth, cosines):
    """Take the layers back and write their slopes.

    Args:
        kets: both halves as ``forward`` left them; changed.
        bras: the derivatives with respect to both; changed.
        odd: these as in ``forward``, but for ``tangents``, of negative angles.
        sums: (R, N * 8), weights (R, N), cosines (R, N): as in ``chain_kernels``.
        growth: of the bra times that of the ket.
    """
    left, right = kets
    left_bra, right_bra = bras
    size, none = odd.shape[0], int64(0)
    above = tangents.shape[1]
    while 1 << above > size:
        above -= 1
    within = tangents.shape[1] - above
    left_growth, right_growth = growth, growth
    for r in range(n_layers - 1, -1, -1):
        rows, t = 1 << r, address(tangents) + r * tangents.shape[1] * BYTES
        half, slopes = rows >> 1, address(sums) + r * tangents.shape[1] * LANES * BYTES
        for row in range(rows):
            flip = int64(half > 0 and row >= half)
            k, b = address(left) + row * size * BYTES, address(left_bra) + row * size * BYTES
            turn_both_block(k, b, k, b, above, r > 0, none, t, 0, slopes)
            k, b = address(right) + (row << within) * BYTES, address(right_bra) + (row << within) * BYTES
            turn_both_block(
                k, b, k, b, within, r > 0, flip, t + above * BYTES, 0,
                slopes + above * LANES * BYTES,
            )  # fmt: skip
        for i in range(half * size):
            if odd[i & (size - 1)]:
                left[i], left_bra[i] = left[half * size + i], left_bra[half * size + i]
        for i in range(half << within):
            right_bra[i] += right_bra[(half << within) + i]
        for q in range(tangents.shape[1]):
            if q < above:
                weights[r, q] = 0.5 / left_growth
                left_growth /= cosines[r, q] ** 2
            else:
                weights[r, q] = 0.5 / right_growth
                right_growth /= cosines[r, q] ** 2
