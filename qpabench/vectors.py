"""Vectors for numba: memory read and written by vector instructions that its loops can't ask for.

Memory is given by its address, places within it are counted in numbers. An array handed from function to
function would be counted as in use and as no longer in use, by instructions that wait until all memory is
written; whoever takes an address keeps the array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, no_type_check

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

INT, WORD = ir.IntType(32), ir.IntType(64)
_BYTE = ir.IntType(8)
_FUSED = ("contract",)  # a * b + c may be rounded once


class Vector(types.Type):
    """The numba type of a vector.

    Args:
        element: the type of its numbers.
        lanes: how many.
    """

    def __init__(self, element: Any, lanes: int) -> None:
        super().__init__(name=f"{element} x {lanes}")
        self.vector = ir.VectorType(element, lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    @no_type_check
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.vector)


class Memory:
    """The numbers from an address on.

    Args:
        builder: of the function that reads or writes them.
        address: of the first.
        element: their type.
        lanes: how many to read and write at once.
    """

    def __init__(self, builder: Any, address: Any, element: Any, lanes: int = 1) -> None:
        self.builder = builder
        self.vector = ir.VectorType(element, lanes)
        self.align = 4 if isinstance(element, ir.FloatType) else 8
        self.data = builder.inttoptr(address, element.as_pointer())

    def _at(self, place: Any, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.data, [place]), kind.as_pointer())

    def load(self, place: Any) -> Any:
        """Read a vector."""
        return self.builder.load(self._at(place, self.vector), align=self.align)

    def store(self, value: Any, place: Any) -> None:
        """Write a vector."""
        self.builder.store(value, self._at(place, self.vector), align=self.align)

    def fetch(self, place: Any) -> None:
        """Say that a vector will be read soon; it may lie behind the memory's end."""
        kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), INT, INT, INT])
        function = self.builder.module.declare_intrinsic("llvm.prefetch", [_BYTE.as_pointer()], kind)
        self.builder.call(function, [self._at(place, _BYTE), INT(0), INT(3), INT(1)])

    def number(self, place: Any) -> Any:
        """Read one number of a table, which no loop writes: it may stay in a register."""
        number = self.builder.load(self.builder.gep(self.data, [place]))
        number.set_metadata("invariant.load", self.builder.module.add_metadata([]))
        return number


@intrinsic
@no_type_check
def address(typing, array):
    """Return the address of an array's first number."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, WORD)

    return types.int64(array), code


def zeros(kind: Vector, count: int) -> Any:
    """Return a function that makes so many vectors of zeros."""

    @intrinsic
    @no_type_check
    def make(typing):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            nothing = [ir.Constant(kind.vector, [0.0] * kind.vector.count)] * count
            return context.make_tuple(builder, signature.return_type, nothing)

        return types.UniTuple(kind, count)(), code

    return make


def apart(builder: Any, first: Any, step: Any, count: int) -> list[Any]:
    """Return so many places, a step from each to the next."""
    return [builder.add(first, builder.mul(step, WORD(i))) for i in range(count)]


def shuffled(builder: Any, value: Any, lanes: Sequence[int]) -> Any:
    """Return a vector of the given lanes of another."""
    return builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(INT, len(lanes)), list(lanes)))


def spread(builder: Any, number: Any, lanes: int) -> Any:
    """Return a vector with a number in all lanes."""
    nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    return shuffled(builder, builder.insert_element(nothing, number, INT(0)), [0] * lanes)


def plus(builder: Any, c: Any, a: Any, b: Any) -> Any:
    """Return c + a b."""
    return builder.fadd(c, builder.fmul(a, b, flags=_FUSED), flags=_FUSED)


def minus(builder: Any, c: Any, a: Any, b: Any) -> Any:
    """Return c - a b."""
    return builder.fsub(c, builder.fmul(a, b, flags=_FUSED), flags=_FUSED)
