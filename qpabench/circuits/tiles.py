"""Compiled passes over blocks and tiles of a state, for circuits of RY rotations and CNOT chains.

The chain CNOT(0, 1), CNOT(1, 2) ... is new[m] = old[m ^ (m >> 1)]. Cut the qubits into levels, the last ones
within a contiguous block: the chain then permutes within each level, and differs only by whether the last
qubit of the level above is set. The same holds for two or three qubits of a level. So every pass turns such a
few where the state lies, read in the order that the chain wants. Forward, the lowest come first: those above
are still as before the chain, and the last of them is set after it where they have an odd count of set bits.
On the way back, the highest come first, and are then as before the chain as well.

Arguments are addresses (see ``vectors``): x, k and b of what is read, y and z of what is written, t of
tangents, slopes of their sums; or numbers of bytes, as steps; ``odd`` is 1 if the qubit above is set, else 0.
"""

# numba: with lanes.py a803d35808b1dbb7

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
    parity,
    turner,
)
from qpabench.vectors import zeros

QUAD = 32  # numbers in the four vectors of five qubits
BYTES = 8  # of a number

_one, _two, _three = (turner(qubits, False) for qubits in (1, 2, 3))
_one_chain, _two_chain, _three_chain = (turner(qubits, True) for qubits in (1, 2, 3))
_both_one, _both_two, _both_three = (both_turner(qubits, False) for qubits in (1, 2, 3))
_both_one_chain, _both_two_chain, _both_three_chain = (both_turner(qubits, True) for qubits in (1, 2, 3))
_open, _open_chain = opener(False), opener(True)
_close, _close_chain = both_closer(False), both_closer(True)
_add, _add_lanes = adder(0), adder(3)
_zeros_1, _zeros_2, _zeros_3, _zeros_5 = (zeros(VECTOR, count) for count in (1, 2, 3, 5))


def compiled(function: Any) -> Any:
    """Compile a loop, kept on disk."""
    return numba.njit(cache=True, error_model="numpy")(function)


@compiled
@no_type_check
def _radix(qubits):
    return 2 if qubits == 4 else min(qubits, 3)


@compiled
@no_type_check
def _turn_rows(x, step, width, qubits, chain, odd, t):
    """Turn the qubits that a row number stands for, lowest first, read after the chain if there is one."""
    align_stack()
    low = 0
    while low < qubits:
        radix = _radix(qubits - low)
        now, gap = t + (qubits - low - radix) * BYTES, step << low
        for upper in range(1 << (qubits - low - radix)):
            above = odd ^ parity(upper)
            first = x + (upper << radix) * gap
            for row in range(first, first + gap, step):
                for place in range(row, row + width * BYTES, COLUMNS * BYTES):
                    if chain:
                        if radix == 3:
                            _three_chain(place, gap, above, now)
                        elif radix == 2:
                            _two_chain(place, gap, above, now)
                        else:
                            _one_chain(place, gap, above, now)
                    elif radix == 3:
                        _three(place, gap, above, now)
                    elif radix == 2:
                        _two(place, gap, above, now)
                    else:
                        _one(place, gap, above, now)
        low += radix


@compiled
@no_type_check
def _turn_both_rows(k, b, y, z, step, width, qubits, chain, odd, t, slopes):
    """Do the same with ket and bra, highest qubit first, and add to the slopes; from k and b to y and z."""
    align_stack()
    low = qubits
    while low > 0:
        radix = _radix(low)
        low -= radix
        done = qubits - low - radix
        now, gap = t + done * BYTES, step << low
        one, two, three = _zeros_1(), _zeros_2(), _zeros_3()
        for upper in range(1 << done):
            above = odd ^ parity(upper)
            first = (upper << radix) * gap
            for row in range(first, first + gap, step):
                for place in range(row, row + width * BYTES, COLUMNS * BYTES):
                    u, v, u_to, v_to = k + place, b + place, y + place, z + place
                    if chain:
                        if radix == 3:
                            three = _both_three_chain(u, v, u_to, v_to, gap, above, now, three)
                        elif radix == 2:
                            two = _both_two_chain(u, v, u_to, v_to, gap, above, now, two)
                        else:
                            one = _both_one_chain(u, v, u_to, v_to, gap, above, now, one)
                    elif radix == 3:
                        three = _both_three(u, v, u_to, v_to, gap, above, now, three)
                    elif radix == 2:
                        two = _both_two(u, v, u_to, v_to, gap, above, now, two)
                    else:
                        one = _both_one(u, v, u_to, v_to, gap, above, now, one)
        if radix == 3:
            _add(three, slopes)
        elif radix == 2:
            _add(two, slopes)
        else:
            _add(one, slopes)
        slopes += radix * LANES * BYTES
        k, b = y, z


@compiled
@no_type_check
def turn_block(x, y, within, chain, odd, t):
    """Read a block, after the chain if there is one, turn all its qubits and write it."""
    align_stack()
    last, size = t + (within - 5) * BYTES, QUAD * BYTES
    for quad in range(1 << (within - 5)):
        place = quad * size
        if chain:
            _open_chain(x + place, y + place, odd ^ parity(quad), last)
        else:
            _open(x + place, y + place, odd, last)
    _turn_rows(y, size, QUAD, within - 5, chain, odd, t)


@compiled
@no_type_check
def turn_both_block(k, b, y, z, within, chain, odd, t, ahead, slopes):
    """Turn all qubits of a block of both states, and write it as it was before the chain.

    So many numbers ``ahead`` is the next block, which is fetched meanwhile; 0 if there is none.
    """
    align_stack()
    last, size = (within - 5) * BYTES, QUAD * BYTES
    _turn_both_rows(k, b, y, z, size, QUAD, within - 5, chain, odd, t, slopes)
    sums = _zeros_5()
    for quad in range(1 << (within - 5)):
        place = quad * size
        if chain:
            sums = _close_chain(y + place, z + place, odd ^ parity(quad), t + last, ahead, sums)
        else:
            sums = _close(y + place, z + place, odd, t + last, ahead, sums)
    _add_lanes(sums, slopes + last * LANES)


@compiled
@no_type_check
def turn_tiles(x, odd, tiles, chain, t):
    """Read the rows of a level, after the chain if there is one, turn it and write them where they were.

    Args:
        x: first number.
        odd: whether the qubit above is set.
        tiles: qubits of the level; numbers from row to row, of a row, and of it in a tile.
        chain: whether there is one.
        t: tangents.
    """
    qubits, stride, columns, width = tiles
    for place in range(x, x + columns * BYTES, width * BYTES):
        _turn_rows(place, stride * BYTES, width, qubits, chain, odd, t)


@compiled
@no_type_check
def turn_both_tiles(k, b, y, odd, tiles, chain, t, slopes):
    """Turn a level of both states, and write its rows as they were before the chain; the ket to y."""
    qubits, stride, columns, width = tiles
    for place in range(0, columns * BYTES, width * BYTES):
        u, v, to = k + place, b + place, y + place
        _turn_both_rows(u, v, to, v, stride * BYTES, width, qubits, chain, odd, t, slopes)
