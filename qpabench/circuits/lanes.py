"""Turns of qubits in vectors of eight numbers; numba compiles them into the loops that call them.

Each function reads a few vectors, turns the qubits that tell them apart while they are in registers, and
writes them. A rotation is [[1, -t], [t, 1]], t = tan(theta / 2). Functions for both states, ket and bra, also
return sums of bra_1 ket_0 - bra_0 ket_1 of each qubit from just before its turn; their tangents are those of
the way back, negative.
"""

# numba: with vectors.py d7700f29e66da6a5

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, no_type_check

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from qpabench.vectors import WORD, Memory, Vector, apart, minus, plus, shuffled, spread

LANES = 8
_NUMBER = ir.DoubleType()
COLUMNS = 16  # numbers of a row that are turned at once
_COLUMNS = [WORD(column) for column in range(0, COLUMNS, LANES)]
_QUAD = 4  # vectors that the five least significant qubits tell apart, three of them by lane

VECTOR = Vector(_NUMBER, LANES)
_VECTOR = VECTOR.vector


def _numbers(builder: Any, *addresses: Any) -> list[Memory]:
    return [Memory(builder, each, _NUMBER, LANES) for each in addresses]


def _rows(builder: Any, tables: Sequence[Any], first: Any, step: Any, qubits: int) -> list[list[Any]]:
    """Return from each table where the rows first, first + step ... are."""
    rows = apart(builder, first, step, 1 << qubits)
    return [[table.number(row) for row in rows] for table in (Memory(builder, each, WORD) for each in tables)]


def _tangents(builder: Any, t: Memory, count: int) -> list[Any]:
    """Read numbers, each into all lanes of a vector."""
    return [spread(builder, t.number(WORD(i)), LANES) for i in range(count)]


def _fetch(builder: Any, states: Sequence[Memory], places: Sequence[Any], ahead: Any) -> None:
    """Fetch what will be read soon, unless it is here."""
    with builder.if_then(builder.icmp_signed("!=", ahead, WORD(0))):
        for state in states:
            for place in places:
                for column in _COLUMNS:
                    state.fetch(builder.add(builder.add(place, ahead), column))


def _turn(builder: Any, states: Sequence[list[Any]], tangents: Sequence[Any], sums: list[Any]) -> None:
    """Turn qubits one after the other, the first of which stands for the highest bit of the row number."""
    for qubit, t in enumerate(tangents):
        step = len(states[0]) >> (qubit + 1)
        for i in range(len(states[0])):
            if i & step:
                continue
            if sums:
                kets, bras = states
                sums[qubit] = plus(builder, sums[qubit], bras[i + step], kets[i])
                sums[qubit] = minus(builder, sums[qubit], bras[i], kets[i + step])
            for rows in states:
                a, b = rows[i], rows[i + step]
                rows[i], rows[i + step] = minus(builder, a, t, b), plus(builder, b, t, a)


def _signs(qubit: int) -> Any:
    bit = LANES >> (qubit + 1)
    return ir.Constant(_VECTOR, [1.0 if lane & bit else -1.0 for lane in range(LANES)])


def _turn_lanes(builder: Any, states: Sequence[list[Any]], tangents: Sequence[Any], sums: list[Any]) -> None:
    """Do the same with the three qubits within a vector; the lanes of their sums lack their signs."""
    for qubit, t in enumerate(tangents):
        bit, signed = LANES >> (qubit + 1), builder.fmul(t, _signs(qubit))
        for i in range(len(states[0])):
            swapped = [shuffled(builder, rows[i], [lane ^ bit for lane in range(LANES)]) for rows in states]
            if sums:
                sums[qubit] = plus(builder, sums[qubit], states[1][i], swapped[0])
            for rows, other in zip(states, swapped, strict=True):
                rows[i] = plus(builder, rows[i], signed, other)


def _gray(number: int) -> int:
    return number ^ (number >> 1)


def _sent(row: int) -> list[int]:
    """Return by which lanes the CNOT chain makes a vector of a quad from one before it."""
    return [_gray(lane) ^ (row & 1) << 2 for lane in range(LANES)]


def turner(qubits: int) -> Any:
    """Return a function that turns so many qubits (1 to 3) of one state.

    It reads x from x_rows[row] on, for the rows first, first + step ..., fetches what lies ``ahead`` of these
    unless that is 0, and writes y from y_rows[row] on; t has the tangents.
    """

    @intrinsic
    @no_type_check
    def turn(typing, x, x_rows, y, y_rows, t, first, step, ahead):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, x_rows, y, y_rows, t, first, step, ahead = args
            x, y, t = _numbers(builder, x, y, t)
            sources, targets = _rows(builder, (x_rows, y_rows), first, step, qubits)
            _fetch(builder, [x], sources, ahead)
            tangents = _tangents(builder, t, qubits)
            for column in _COLUMNS:
                values = [x.load(builder.add(place, column)) for place in sources]
                _turn(builder, [values], tangents, [])
                for value, place in zip(values, targets, strict=True):
                    y.store(value, builder.add(place, column))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), code

    return turn


def both_turner(qubits: int) -> Any:
    """Return what ``turner`` does for both states, with the sums as last argument and result."""

    @intrinsic
    @no_type_check
    def turn(typing, k, b, x_rows, y, z, y_rows, t, first, step, ahead, sums):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            k, b, x_rows, y, z, y_rows, t, first, step, ahead, sums = args
            k, b, y, z, t = _numbers(builder, k, b, y, z, t)
            sources, targets = _rows(builder, (x_rows, y_rows), first, step, qubits)
            _fetch(builder, [k, b], sources, ahead)
            tangents, totals = _tangents(builder, t, qubits), cgutils.unpack_tuple(builder, sums, qubits)
            for column in _COLUMNS:
                states = [[state.load(builder.add(place, column)) for place in sources] for state in (k, b)]
                _turn(builder, states, tangents, totals)
                for target, values in zip((y, z), states, strict=True):
                    for value, place in zip(values, targets, strict=True):
                        target.store(value, builder.add(place, column))
            return context.make_tuple(builder, signature.return_type, totals)

        result = types.UniTuple(VECTOR, qubits)
        return result(*[types.int64] * 10, result), code

    return turn


def _quad_places(builder: Any, number: Any, order: Sequence[int]) -> list[Any]:
    """Return where vectors number ^ order[i] of a block are."""
    return [builder.shl(builder.xor(number, WORD(each)), WORD(3)) for each in order]


def opener(chain: bool) -> Any:
    """Return a function that reads a quad of one state, as the CNOT chain sends it, and turns it.

    It reads vector ``source`` and those beside it of a block x, and writes to y.
    """

    @intrinsic
    @no_type_check
    def turn(typing, x, source, y, t):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, source, y, t = args
            x, y, t = _numbers(builder, x, y, t)
            order = [_gray(i) if chain else i for i in range(_QUAD)]
            rows = [x.load(place) for place in _quad_places(builder, source, order)]
            if chain:
                rows = [shuffled(builder, row, _sent(i)) for i, row in enumerate(rows)]
            tangents = _tangents(builder, t, 5)
            _turn_lanes(builder, [rows], tangents[2:], [])
            _turn(builder, [rows], tangents[:2], [])
            for row, place in zip(rows, apart(builder, WORD(0), WORD(LANES), _QUAD), strict=True):
                y.store(row, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), code

    return turn


def both_closer(chain: bool) -> Any:
    """Return a function that turns a quad of both states, and writes it as before the CNOT chain.

    It reads k and b, and writes vector ``target`` and those beside it of the blocks y and z.
    """

    @intrinsic
    @no_type_check
    def turn(typing, k, b, y, z, target, t, sums):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            k, b, y, z, target, t, sums = args
            k, b, y, z, t = _numbers(builder, k, b, y, z, t)
            places = apart(builder, WORD(0), WORD(LANES), _QUAD)
            states = [[state.load(place) for place in places] for state in (k, b)]
            totals = cgutils.unpack_tuple(builder, sums, 5)
            pair, three = totals[:2], totals[2:]
            tangents = _tangents(builder, t, 5)
            _turn(builder, states, tangents[:2], pair)
            _turn_lanes(builder, states, tangents[2:], three)
            order = [_gray(i) if chain else i for i in range(_QUAD)]
            for memory, rows in zip((y, z), states, strict=True):
                for i, place in enumerate(_quad_places(builder, target, order)):
                    back = [_sent(i).index(lane) for lane in range(LANES)]
                    memory.store(shuffled(builder, rows[i], back) if chain else rows[i], place)
            return context.make_tuple(builder, signature.return_type, [*pair, *three])

        result = types.UniTuple(VECTOR, 5)
        return result(*[types.int64] * 6, result), code

    return turn


def adder(within: int) -> Any:
    """Return a function that adds sums to memory, eight numbers each.

    Args:
        within: so many of the last ones are of qubits within a vector, and get their signs.
    """

    @intrinsic
    @no_type_check
    def add(typing, sums, slopes):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (memory,) = _numbers(builder, args[1])
            for i, total in enumerate(cgutils.unpack_tuple(builder, args[0], sums.count)):
                qubit = i - (sums.count - within)
                signed = builder.fmul(total, _signs(qubit)) if qubit >= 0 else total
                place = WORD(i * LANES)
                memory.store(builder.fadd(memory.load(place), signed), place)
            return context.get_dummy_value()

        return types.void(sums, types.int64), code

    return add


@intrinsic
@no_type_check
def align_stack(typing):
    """Make the stack begin at a cache line: a vector put aside there that lies across two costs double."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with builder.goto_entry_block():
            room = builder.alloca(_VECTOR)
            room.align = LANES * 8
        kind = ir.FunctionType(ir.VoidType(), [room.type])
        builder.asm(kind, "", "r", [room], side_effect=True)  # no instruction: the room is kept
        return context.get_dummy_value()

    return types.void(), code
