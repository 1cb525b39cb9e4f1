"""Compiled passes over blocks and tiles of a state, for circuits of RY rotations and CNOT chains.

The chain CNOT(0, 1), CNOT(1, 2) ... is new[m] = old[m ^ (m >> 1)]. Cut the qubits into levels, the last ones
within a contiguous block: the chain then permutes within each level, and differs only by whether the last
qubit of the level above is set. So every pass over memory reads a tile, in the order that the chain wants,
turns the qubits of its level and writes the tile where it was.
"""

# numba: with lanes.py d2cfceeaf4a42fe9

from __future__ import annotations

from typing import Any, no_type_check

import numba

from qpabench.circuits.lanes import adder, align_stack, both_closer, both_turner, opener, turner, zeros

COLUMNS = 16  # numbers of a row in a tile
QUAD = 32  # numbers in the four vectors of five qubits

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
def _turn_rows(x, x_first, x_rows, spare, spare_rows, y, y_first, y_rows, width, qubits, t, q, ahead):
    """Turn the qubits that a tile's row number stands for."""
    align_stack()
    done = 0
    while done < qubits:
        radix = _radix(qubits - done)
        low = qubits - done - radix
        step, now = 1 << low, q + done
        to, to_first, to_rows = (spare, 0, spare_rows) if low else (y, y_first, y_rows)
        for high in range(0, 1 << qubits, step << radix):
            for row in range(high, high + step):
                for column in range(0, width, 8):
                    u, v = x_first + column, to_first + column
                    if radix == 3:
                        _three(x, u, x_rows, to, v, to_rows, row, step, t, now, ahead)
                    elif radix == 2:
                        _two(x, u, x_rows, to, v, to_rows, row, step, t, now, ahead)
                    else:
                        _one(x, u, x_rows, to, v, to_rows, row, step, t, now, ahead)
        x, x_first, x_rows, ahead = spare, 0, spare_rows, 0
        done += radix


@compiled
@no_type_check
def _turn_both_rows(
    k, b, x_first, x_rows, spare, spare_rows, y, z, y_first, y_rows, width, qubits, t, q, ahead, slopes
):  # fmt: skip
    """Do the same with ket and bra, and add to the slopes."""
    align_stack()
    done = 0
    while done < qubits:
        radix = _radix(qubits - done)
        low = qubits - done - radix
        step, now = 1 << low, q + done
        to_k, to_b, to_first, to_rows = (y, z, y_first, y_rows)
        if low:
            to_k, to_b, to_first, to_rows = spare[0], spare[1], 0, spare_rows
        one, two, three = _zeros_1(), _zeros_2(), _zeros_3()
        for high in range(0, 1 << qubits, step << radix):
            for row in range(high, high + step):
                for column in range(0, width, 8):
                    u, v = x_first + column, to_first + column
                    if radix == 3:
                        three = _both_three(
                            k, b, u, x_rows, to_k, to_b, v, to_rows, row, step, t, now, ahead, three
                        )
                    elif radix == 2:
                        two = _both_two(
                            k, b, u, x_rows, to_k, to_b, v, to_rows, row, step, t, now, ahead, two
                        )
                    else:
                        one = _both_one(
                            k, b, u, x_rows, to_k, to_b, v, to_rows, row, step, t, now, ahead, one
                        )
        if radix == 3:
            _add(three, slopes, now * 8)
        elif radix == 2:
            _add(two, slopes, now * 8)
        else:
            _add(one, slopes, now * 8)
        k, b, x_first, x_rows, ahead = spare[0], spare[1], 0, spare_rows, 0
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
    _turn_rows(spare, 0, quads, spare, quads, y, y_first, quads, QUAD, within - 5, t, q, 0)


@compiled
@no_type_check
def turn_both_block(k, b, y, z, first, within, chain, odd, spare, quads, t, q, slopes):
    """Turn all qubits of a block of both states, and write it as it was before the chain."""
    align_stack()
    flip = odd << (within - 4)
    last, u, v = q + within - 5, spare[0], spare[1]
    _turn_both_rows(
        k, b, first, quads, spare, quads, u, v, 0, quads, QUAD, within - 5, t, q, 1 << within, slopes
    )  # fmt: skip
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
def turn_tiles(x, start, odd, qubits, table, chain, columns, spare, t, q):
    """Read the rows of a level from one place on, after the chain if there is one, turn it and write them."""
    rows, below = table[1 + odd if chain else 0], table[0, 1]
    for first in range(start, start + below, COLUMNS):
        _turn_rows(
            x, first, rows, spare, columns, x, first, table[0], COLUMNS, qubits, t, q, 2 * COLUMNS
        )  # fmt: skip


@compiled
@no_type_check
def turn_both_tiles(k, b, y, start, odd, qubits, table, chain, columns, spare, t, q, slopes):
    """Turn a level of both states, and write its rows as they were before the chain; the ket to y."""
    rows, below, ahead = table[1 + odd if chain else 0], table[0, 1], 2 * COLUMNS
    for first in range(start, start + below, COLUMNS):
        _turn_both_rows(
            k, b, first, table[0], spare, columns, y, b, first, rows, COLUMNS, qubits, t, q, ahead, slopes
        )  # fmt: skip
