"""Compiled passes over blocks and tiles of a state, for circuits of RY rotations and CNOT chains.

The chain CNOT(0, 1), CNOT(1, 2) ... is new[m] = old[m ^ (m >> 1)]. Cut the qubits into levels, the last ones
within a contiguous block: the chain then permutes within each level, and differs only by whether the last
qubit of the level above is set. So every pass over memory reads a tile, in the order that the chain wants,
turns the qubits of its level and writes the tile where it was.

Arguments are addresses (see ``vectors``), but for the tables of tiles: x, k and b of what is read, y and z of
what is written, u and v of spare room, t of tangents, slopes of their sums, quads and columns of where rows
are in a block and in spare room.
"""

# numba: with lanes.py 5d92c0255fbf68af

from __future__ import annotations

from typing import Any, no_type_check

import numba

from qpabench.circuits.lanes import (
    COLUMNS,
    LANES,
    VECTOR,
    adder,
    align_stack,
    both_closer,
    both_turner,
    opener,
    turner,
)
from qpabench.vectors import address, zeros

QUAD = 32  # numbers in the four vectors of five qubits
BYTES = 8  # of a number

_one, _two, _three = turner(1), turner(2), turner(3)
_both_one, _both_two, _both_three = both_turner(1), both_turner(2), both_turner(3)
_open, _open_chain = opener(False), opener(True)
_close, _close_chain = both_closer(False), both_closer(True)
_add, _add_lanes = adder(0), adder(3)
_zeros_1, _zeros_2, _zeros_3, _zeros_5 = (zeros(VECTOR, count) for count in (1, 2, 3, 5))


def compiled(function: Any) -> Any:
    """Compile a loop, kept on disk."""
    return numba.njit(cache=True, error_model="numpy")(function)


@compiled
@no_type_check
def parity(number):
    """Return whether an odd number of bits is set, 0 or 1."""
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
def _turn_rows(x, x_rows, spare, spare_rows, y, y_rows, width, qubits, t, ahead):
    """Turn the qubits that a tile's row number stands for."""
    align_stack()
    done = 0
    while done < qubits:
        radix = _radix(qubits - done)
        low = qubits - done - radix
        step, now = 1 << low, t + done * BYTES
        to, to_rows = (spare, spare_rows) if low else (y, y_rows)
        for place in range(0, width * BYTES, COLUMNS * BYTES):
            u, v = x + place, to + place
            for high in range(0, 1 << qubits, step << radix):
                for row in range(high, high + step):
                    if radix == 3:
                        _three(u, x_rows, v, to_rows, now, row, step, ahead)
                    elif radix == 2:
                        _two(u, x_rows, v, to_rows, now, row, step, ahead)
                    else:
                        _one(u, x_rows, v, to_rows, now, row, step, ahead)
        x, x_rows, ahead = spare, spare_rows, 0
        done += radix


@compiled
@no_type_check
def _turn_both_rows(
    k, b, x_rows, spare_k, spare_b, spare_rows, y, z, y_rows, width, qubits, t, ahead, slopes
):  # fmt: skip
    """Do the same with ket and bra, and add to the slopes."""
    align_stack()
    done = 0
    while done < qubits:
        radix = _radix(qubits - done)
        low = qubits - done - radix
        step, now = 1 << low, t + done * BYTES
        to_k, to_b, to_rows = (spare_k, spare_b, spare_rows) if low else (y, z, y_rows)
        one, two, three = _zeros_1(), _zeros_2(), _zeros_3()
        for place in range(0, width * BYTES, COLUMNS * BYTES):
            u, v, u_to, v_to = k + place, b + place, to_k + place, to_b + place
            for high in range(0, 1 << qubits, step << radix):
                for row in range(high, high + step):
                    if radix == 3:
                        three = _both_three(u, v, x_rows, u_to, v_to, to_rows, now, row, step, ahead, three)
                    elif radix == 2:
                        two = _both_two(u, v, x_rows, u_to, v_to, to_rows, now, row, step, ahead, two)
                    else:
                        one = _both_one(u, v, x_rows, u_to, v_to, to_rows, now, row, step, ahead, one)
        if radix == 3:
            _add(three, slopes)
        elif radix == 2:
            _add(two, slopes)
        else:
            _add(one, slopes)
        slopes += radix * LANES * BYTES
        k, b, x_rows, ahead = spare_k, spare_b, spare_rows, 0
        done += radix


@compiled
@no_type_check
def turn_block(x, y, within, chain, odd, u, quads, t):
    """Read a block, after the chain if there is one, turn all its qubits and write it."""
    align_stack()
    flip = odd << (within - 4)
    last = t + (within - 5) * BYTES
    for quad in range(0, 1 << (within - 3), 4):
        place = u + quad * LANES * BYTES
        if chain:
            _open_chain(x, quad ^ (quad >> 1) ^ flip, place, last)
        else:
            _open(x, quad, place, last)
    _turn_rows(u, quads, u, quads, y, quads, QUAD, within - 5, t, 0)


@compiled
@no_type_check
def turn_both_block(k, b, y, z, within, chain, odd, u, v, quads, t, slopes):
    """Turn all qubits of a block of both states, and write it as it was before the chain."""
    align_stack()
    flip = odd << (within - 4)
    last = (within - 5) * BYTES
    _turn_both_rows(k, b, quads, u, v, quads, u, v, quads, QUAD, within - 5, t, 0, slopes)
    sums = _zeros_5()
    for quad in range(0, 1 << (within - 3), 4):
        place = quad * LANES * BYTES
        if chain:
            target = quad ^ (quad >> 1) ^ flip
            sums = _close_chain(u + place, v + place, y, z, target, t + last, sums)
        else:
            sums = _close(u + place, v + place, y, z, quad, t + last, sums)
    _add_lanes(sums, slopes + last * LANES)


@compiled
@no_type_check
def turn_tiles(x, odd, qubits, table, chain, columns, u, t, ahead):
    """Read the rows of a level, after the chain if there is one, turn it and write them where they were."""
    plain, rows = address(table[0]), address(table[1 + odd if chain else 0])
    for first in range(0, table[0, 1], COLUMNS):
        place = x + first * BYTES
        _turn_rows(place, rows, u, columns, place, plain, COLUMNS, qubits, t, ahead)


@compiled
@no_type_check
def turn_both_tiles(k, b, y, odd, qubits, table, chain, columns, u, v, t, ahead, slopes):
    """Turn a level of both states, and write its rows as they were before the chain; the ket to y."""
    plain, rows = address(table[0]), address(table[1 + odd if chain else 0])
    for first in range(0, table[0, 1], COLUMNS):
        place = first * BYTES
        _turn_both_rows(
            k + place, b + place, plain, u, v, columns, y + place, b + place, rows, COLUMNS, qubits, t,
            ahead, slopes,
        )  # fmt: skip
