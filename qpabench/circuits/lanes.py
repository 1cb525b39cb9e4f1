"""Vectors of eight numbers for numba: what its loops can't say of vector instructions, and no more.

``turned`` is made for a radix 2**r: it reads 2**r vectors, turns r qubits while they are in registers, and
writes them. A rotation is [[1, -t], [t, 1]], t = tan(theta / 2): whoever calls knows the cosine left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

LANES = 8
_DOUBLE = ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, LANES)
_WORD = ir.IntType(64)
_FUSED = ("contract",)  # a * b + c may be rounded once


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="float64x8")


vector = _Vector()


@register_default(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


class _Memory:
    """The numbers of a one-dimensional array, by vector."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self.builder = builder
        self.data = context.make_array(kind)(context, builder, array).data

    def at(self, index: Any) -> Any:
        place = self.builder.gep(self.data, [index], inbounds=True)
        return self.builder.bitcast(place, _VECTOR.as_pointer())

    def load(self, index: Any) -> Any:
        return self.builder.load(self.at(index), align=8)

    def store(self, value: Any, index: Any) -> None:
        self.builder.store(value, self.at(index), align=8)

    def fetch(self, index: Any) -> None:
        """Ask for a vector that will be read soon."""
        prefetch = self.builder.module.declare_intrinsic("llvm.prefetch", [ir.IntType(8).as_pointer()], ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()] + [ir.IntType(32)] * 3))
        place = self.builder.gep(self.data, [index])
        place = self.builder.bitcast(place, ir.IntType(8).as_pointer())
        self.builder.call(prefetch, [place, *(ir.IntType(32)(each) for each in (0, 3, 1))])

    def number(self, index: Any) -> Any:
        """Read one number of a table, which nothing writes while the caller runs: it may stay in a register."""
        number = self.builder.load(self.builder.gep(self.data, [index], inbounds=True))
        number.set_metadata("invariant.load", self.builder.module.add_metadata([]))
        return number


def _splat(builder: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.IntType(32)(0))
    return _shuffled(builder, one, [0] * LANES)


def _shuffled(builder: Any, value: Any, lanes: Sequence[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(lanes))
    return builder.shuffle_vector(value, value, mask)


def _plus(builder: Any, c: Any, a: Any, b: Any) -> Any:
    return builder.fadd(c, builder.fmul(a, b, flags=_FUSED), flags=_FUSED)


def _minus(builder: Any, c: Any, a: Any, b: Any) -> Any:
    return builder.fsub(c, builder.fmul(a, b, flags=_FUSED), flags=_FUSED)


def _turn(builder: Any, states: Sequence[list[Any]], angles: Sequence[Any], sums: list[Any]) -> None:
    """Turn qubits one after the other, of which the first stands for the highest bit of the row number.

    Of two states, ket and bra, each qubit's bra_1 ket_0 - bra_0 ket_1 from just before its turn is added to
    its sum.
    """
    for qubit, t in enumerate(angles):
        step = len(states[0]) >> (qubit + 1)
        for i in range(len(states[0])):
            if i & step:
                continue
            if len(states) == 2:
                kets, bras = states
                sums[qubit] = _plus(builder, sums[qubit], bras[i + step], kets[i])
                sums[qubit] = _minus(builder, sums[qubit], bras[i], kets[i + step])
            for rows in states:
                a, b = rows[i], rows[i + step]
                rows[i], rows[i + step] = _minus(builder, a, t, b), _plus(builder, b, t, a)


def _signs(qubit: int) -> Any:
    bit = LANES >> (qubit + 1)
    return ir.Constant(_VECTOR, [1.0 if lane & bit else -1.0 for lane in range(LANES)])


def _turn_lanes(builder: Any, states: Sequence[list[Any]], angles: Sequence[Any], sums: list[Any]) -> None:
    """Do the same with the three qubits within a vector; a sum's lanes lack their signs."""
    for qubit, t in enumerate(angles):
        bit, signed = LANES >> (qubit + 1), builder.fmul(t, _signs(qubit))
        for i in range(len(states[0])):
            swapped = [_shuffled(builder, rows[i], [lane ^ bit for lane in range(LANES)]) for rows in states]
            if len(states) == 2:
                sums[qubit] = _plus(builder, sums[qubit], states[1][i], swapped[0])
            for rows, other in zip(states, swapped, strict=True):
                rows[i] = _plus(builder, rows[i], signed, other)


def _grey(number: int) -> int:
    return number ^ (number >> 1)


def _tangents(builder: Any, memory: _Memory, first: Any, count: int) -> list[Any]:
    places = [builder.add(first, _WORD(i)) for i in range(count)]
    return [_splat(builder, memory.number(place)) for place in places]


def _apart(builder: Any, first: Any, step: Any, count: int) -> list[Any]:
    return [builder.add(first, builder.mul(step, _WORD(i))) for i in range(count)]


def turner(qubits: int) -> Any:
    """Return a function that turns so many qubits (1 to 3) of one state.

    It reads x at column + rows[first], column + rows[first + step] ... and writes y[y_first], y[y_first +
    y_step] ...; the angles are tangents[qubit], tangents[qubit + 1] ...
    """

    @intrinsic  # type: ignore[misc]
    def turn(typing, x, column, rows, first, step, y, y_first, y_step, tangents, qubit, ahead):  # type: ignore
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, rows, y, t = (_Memory(context, builder, signature.args[i], args[i]) for i in (0, 2, 5, 8))
            places = [rows.number(each) for each in _apart(builder, args[3], args[4], 1 << qubits)]
            for place in places:
                x.fetch(builder.add(builder.add(place, args[1]), args[10]))
            values = [x.load(builder.add(place, args[1])) for place in places]
            _turn(builder, [values], _tangents(builder, t, args[9], qubits), [])
            for value, place in zip(values, _apart(builder, args[6], args[7], 1 << qubits), strict=True):
                y.store(value, place)
            return context.get_dummy_value()

        word = types.int64
        return types.void(x, word, rows, word, word, y, word, word, tangents, word, word), code

    return turn


def both_turner(qubits: int) -> Any:
    """Return what ``turner`` does, for ket and bra, with the sums of the slopes as last argument and result."""

    @intrinsic  # type: ignore[misc]
    def turn(typing, k, b, column, rows, first, step, y, z, y_first, y_step, tangents, qubit, ahead, sums):  # type: ignore
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            ahead = args[12]
            k, b, rows, y, z, t = (
                _Memory(context, builder, signature.args[i], args[i]) for i in (0, 1, 3, 6, 7, 10)
            )
            places = [rows.number(each) for each in _apart(builder, args[4], args[5], 1 << qubits)]
            places = [builder.add(place, args[2]) for place in places]
            for state in (k, b):
                for place in places:
                    state.fetch(builder.add(place, ahead))
            kets, bras = ([state.load(place) for place in places] for state in (k, b))
            totals = cgutils.unpack_tuple(builder, args[13], qubits)
            angles = _tangents(builder, t, args[11], qubits)
            _turn(builder, (kets, bras), angles, totals)
            for target, values in ((y, kets), (z, bras)):
                for value, place in zip(values, _apart(builder, args[8], args[9], 1 << qubits), strict=True):
                    target.store(value, place)
            return context.make_tuple(builder, signature.return_type, totals)

        word, result = types.int64, types.UniTuple(vector, qubits)
        return result(k, b, word, rows, word, word, y, z, word, word, tangents, word, word, result), code

    return turn


def opener(permuted: bool) -> Any:
    """Return a function that reads four vectors as the CNOT chain sends them, and turns five qubits."""

    @intrinsic  # type: ignore[misc]
    def turn(typing, x, x_first, source, y, y_first, tangents, qubit):  # type: ignore
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, x_first, source, y, y_first, tangents, qubit = args
            kinds = signature.args
            memory, target = (_Memory(context, builder, kinds[i], args[i]) for i in (0, 3))
            rows = []
            for i in range(4):
                place = builder.xor(source, _WORD(_grey(i) if permuted else i))
                row = memory.load(builder.add(x_first, builder.shl(place, _WORD(3))))
                if permuted:
                    row = _shuffled(builder, row, [_grey(lane) ^ (i & 1) << 2 for lane in range(LANES)])
                rows.append(row)
            angles = _tangents(builder, _Memory(context, builder, kinds[5], tangents), qubit, 5)
            _turn_lanes(builder, [rows], angles[2:], [])
            _turn(builder, [rows], angles[:2], [])
            for row, place in zip(rows, _apart(builder, y_first, _WORD(LANES), 4), strict=True):
                target.store(row, place)
            return context.get_dummy_value()

        word = types.int64
        return types.void(x, word, word, y, word, tangents, word), code

    return turn


def both_closer(permuted: bool) -> Any:
    """Return a function that turns five qubits of ket and bra and writes them as they were before the chain."""

    @intrinsic  # type: ignore[misc]
    def turn(typing, k, b, x_first, y, z, y_first, target, tangents, qubit, sums):  # type: ignore
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            k, b, x_first, y, z, y_first, target, tangents, qubit, sums = args
            kinds = signature.args
            states = []
            for i in (0, 1):
                source = _Memory(context, builder, kinds[i], args[i])
                places = _apart(builder, x_first, _WORD(LANES), 4)
                states.append([source.load(place) for place in places])
            angles = _tangents(builder, _Memory(context, builder, kinds[7], tangents), qubit, 5)
            totals = cgutils.unpack_tuple(builder, sums, 5)
            pair, three = totals[:2], totals[2:]
            _turn(builder, states, angles[:2], pair)
            _turn_lanes(builder, states, angles[2:], three)
            for i, rows in zip((3, 4), states, strict=True):
                memory = _Memory(context, builder, kinds[i], args[i])
                for j, row in enumerate(rows):
                    place = builder.xor(target, _WORD(_grey(j) if permuted else j))
                    if permuted:
                        sent = [_grey(lane) ^ (j & 1) << 2 for lane in range(LANES)]
                        row = _shuffled(builder, row, [sent.index(lane) for lane in range(LANES)])
                    memory.store(row, builder.add(y_first, builder.shl(place, _WORD(3))))
            return context.make_tuple(builder, signature.return_type, [*pair, *three])

        word = types.int64
        result = types.UniTuple(vector, 5)
        return result(k, b, word, y, z, word, word, tangents, word, result), code

    return turn


def zeros(count: int) -> Any:
    """Return a function that makes so many vectors of zeros."""

    @intrinsic  # type: ignore[misc]
    def make(typing):  # type: ignore
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            nothing = [ir.Constant(_VECTOR, [0.0] * LANES)] * count
            return context.make_tuple(builder, signature.return_type, nothing)

        return types.UniTuple(vector, count)(), code

    return make


def adder(within: int) -> Any:
    """Return a function that adds vectors to as many rows of eight numbers.

    Args:
        within: so many of the last vectors are sums of qubits within a vector, and get their signs.
    """

    @intrinsic  # type: ignore[misc]
    def add(typing, sums, array, first):  # type: ignore
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memory = _Memory(context, builder, signature.args[1], args[1])
            for i, total in enumerate(cgutils.unpack_tuple(builder, args[0], sums.count)):
                qubit = i - (sums.count - within)
                if qubit >= 0:
                    total = builder.fmul(total, _signs(qubit))
                place = builder.add(args[2], _WORD(i * LANES))
                memory.store(builder.fadd(memory.load(place), total), place)
            return context.get_dummy_value()

        return types.void(sums, array, types.int64), code

    return add


@intrinsic  # type: ignore[misc]
def align_stack(typing):  # type: ignore
    """Make the stack begin at a cache line: vectors put aside there then don't lie across two."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with builder.goto_entry_block():
            room = builder.alloca(_VECTOR)
            room.align = LANES * 8
        kind = ir.FunctionType(ir.VoidType(), [room.type])
        builder.asm(kind, "", "r", [room], side_effect=True)
        return context.get_dummy_value()

    return types.void(), code
