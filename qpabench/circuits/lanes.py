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

from qpabench.vectors import WORD, Memory, Vector, minus, plus, shuffled, spread

LANES = 8
_NUMBER = ir.DoubleType()
COLUMNS = 16  # numbers of a row that are turned at once
_COLUMNS = [WORD(column) for column in range(0, COLUMNS, LANES)]
_QUAD = 4  # vectors that the five least significant qubits tell apart, three of them by lane

VECTOR = Vector(_NUMBER, LANES)
_VECTOR = VECTOR.vector


def _numbers(builder: Any, *addresses: Any) -> list[Memory]:
    return [Memory(builder, each, _NUMBER, LANES) for each in addresses]


def _hidden(builder: Any, number: Any) -> Any:
    """Return a number as one that the compiler knows nothing of: it would keep all its sums, on the stack."""
    return builder.asm(ir.FunctionType(WORD, [WORD]), "", "=r,0", [number], side_effect=False)


def _rows(builder: Any, first: Any, step: Any, qubits: int) -> list[Any]:
    """Return the addresses of rows, a step from each to the next."""
    bases = [first, _hidden(builder, builder.add(first, builder.mul(step, WORD(4))))]
    return [builder.add(bases[i >> 2], builder.mul(step, WORD(i & 3))) for i in range(1 << qubits)]


def _sent_rows(builder: Any, first: Any, step: Any, qubits: int, odd: Any) -> list[Any]:
    """Return the addresses of rows in the order of the CNOT chain, ``odd`` if the qubit above them is set."""
    top = 1 << (qubits - 1)
    half = builder.mul(step, WORD(top))
    turned = builder.mul(odd, half)  # with it set, the halves change places
    near = builder.add(first, turned)
    far = _hidden(builder, builder.sub(builder.add(near, half), builder.add(turned, turned)))
    sent = [_gray(i) for i in range(1 << qubits)]
    return [builder.add((near, far)[i // top], builder.mul(step, WORD(i % top))) for i in sent]


def _tangents(builder: Any, t: Any, count: int) -> list[Any]:
    """Read numbers, each into all lanes of a vector."""
    (memory,) = _numbers(builder, t)
    return [spread(builder, memory.number(WORD(i)), LANES) for i in range(count)]


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


def turner(qubits: int, chain: bool) -> Any:
    """Return a function that turns so many qubits (1 to 3) of one state where they are.

    The rows, a step from each to the next, are read in the order of the CNOT chain if there is one; ``odd``
    if the qubit above is set; t has the tangents.
    """

    @intrinsic
    @no_type_check
    def turn(typing, x, step, odd, t):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, step, odd, t = args
            targets = _numbers(builder, *_rows(builder, x, step, qubits))
            sources = targets
            if chain:
                sources = _numbers(builder, *_sent_rows(builder, x, step, qubits, odd))
            tangents = _tangents(builder, t, qubits)
            for column in _COLUMNS:
                values = [source.load(column) for source in sources]
                _turn(builder, [values], tangents, [])
                for value, target in zip(values, targets, strict=True):
                    target.store(value, column)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), code

    return turn


def both_turner(qubits: int, chain: bool) -> Any:
    """Return a function that turns so many qubits of both states; their sums are last argument and result.

    It reads k and b, and writes y and z, in the order from before the CNOT chain if there is one; the rest is
    as for ``turner``.
    """

    @intrinsic
    @no_type_check
    def turn(typing, k, b, y, z, step, odd, t, sums):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            k, b, y, z, step, odd, t, sums = args
            sources = [_numbers(builder, *_rows(builder, state, step, qubits)) for state in (k, b)]
            if chain:
                targets = [
                    _numbers(builder, *_sent_rows(builder, state, step, qubits, odd)) for state in (y, z)
                ]
            else:
                targets = [_numbers(builder, *_rows(builder, state, step, qubits)) for state in (y, z)]
            tangents, totals = _tangents(builder, t, qubits), cgutils.unpack_tuple(builder, sums, qubits)
            for column in _COLUMNS:
                states = [[row.load(column) for row in rows] for rows in sources]
                _turn(builder, states, tangents, totals)
                for rows, values in zip(targets, states, strict=True):
                    for row, value in zip(rows, values, strict=True):
                        row.store(value, column)
            return context.make_tuple(builder, signature.return_type, totals)

        result = types.UniTuple(VECTOR, qubits)
        return result(*[types.int64] * 7, result), code

    return turn


def _quad_places(builder: Any, odd: Any, chain: bool) -> list[Any]:
    """Return where the vectors of a quad are, in the order of the CNOT chain if there is one."""
    if not chain:
        return [WORD(i * LANES) for i in range(_QUAD)]
    flip = builder.mul(odd, WORD(_QUAD // 2))
    return [builder.mul(builder.xor(flip, WORD(_gray(i))), WORD(LANES)) for i in range(_QUAD)]


def opener(chain: bool) -> Any:
    """Return a function that reads a quad x, after the CNOT chain if there is one, turns it and writes y."""

    @intrinsic
    @no_type_check
    def turn(typing, x, y, odd, t):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y, odd, t = args
            x, y = _numbers(builder, x, y)
            rows = [x.load(place) for place in _quad_places(builder, odd, chain)]
            if chain:
                rows = [shuffled(builder, row, _sent(i)) for i, row in enumerate(rows)]
            tangents = _tangents(builder, t, 5)
            _turn_lanes(builder, [rows], tangents[2:], [])
            _turn(builder, [rows], tangents[:2], [])
            for row, place in zip(rows, _quad_places(builder, odd, False), strict=True):
                y.store(row, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), code

    return turn


def both_closer(chain: bool) -> Any:
    """Return a function that turns a quad of both states, and writes it as before the CNOT chain, if any.

    It fetches the quads that lie so many numbers ``ahead``, unless that is 0.
    """

    @intrinsic
    @no_type_check
    def turn(typing, y, z, odd, t, ahead, sums):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            y, z, odd, t, ahead, sums = args
            y, z = _numbers(builder, y, z)
            places = _quad_places(builder, odd, False)
            with builder.if_then(builder.icmp_signed("!=", ahead, WORD(0))):
                for state in (y, z):
                    for place in places:
                        state.fetch(builder.add(ahead, place))
            states = [[state.load(place) for place in places] for state in (y, z)]
            totals = cgutils.unpack_tuple(builder, sums, 5)
            pair, three = totals[:2], totals[2:]
            tangents = _tangents(builder, t, 5)
            _turn(builder, states, tangents[:2], pair)
            _turn_lanes(builder, states, tangents[2:], three)
            for memory, rows in zip((y, z), states, strict=True):
                for i, place in enumerate(_quad_places(builder, odd, chain)):
                    back = [_sent(i).index(lane) for lane in range(LANES)]
                    memory.store(shuffled(builder, rows[i], back) if chain else rows[i], place)
            return context.make_tuple(builder, signature.return_type, [*pair, *three])

        result = types.UniTuple(VECTOR, 5)
        return result(*[types.int64] * 5, result), code

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


@intrinsic
@no_type_check
def parity(typing, number):
    """Return whether an odd count of bits is set, 0 or 1."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.and_(builder.ctpop(args[0]), WORD(1))

    return types.int64(types.int64), code
