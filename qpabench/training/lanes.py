"""Exponentials in vectors of sixteen numbers; numba compiles them into the loops that call them.

Numba's own vectors are half as wide on some processors.
"""

# numba: with vectors.py d7700f29e66da6a5

from __future__ import annotations

from typing import Any, no_type_check

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from qpabench.vectors import INT, WORD, Memory, Vector, apart, plus, shuffled, spread, zeros

LANES = 16
GROUP = 4  # columns of a low-rank term that are taken at once
AHEAD = 512  # numbers: logits come from memory, the next ones are fetched while these are worked on
_NUMBER = ir.FloatType()
_WHOLE = ir.VectorType(INT, LANES)

_LOWEST, _HIGHEST = -126.0, 127.0  # exponents of float32
#: y + this has y, rounded, in its last bits, plus what float32 adds to an exponent
_ROUNDING = 1.5 * 2.0**23 + 127
#: 2**f = 1 + f (C1 + ...) for |f| <= 1/2 to 9e-8 of its value: least squares, reweighted until it is minimax
_C1, _C2, _C3, _C4, _C5 = (
    0.6931469775880017, 0.24022242074651426, 0.05550733756851838, 0.009671513243965217, 0.001326472422644484,
)  # fmt: skip

_vector = Vector(_NUMBER, LANES)
_VECTOR = _vector.vector
no_sums = zeros(_vector, GROUP + 1)


def _all(number: float) -> Any:
    return ir.Constant(_VECTOR, [number] * LANES)


def _power_of_two(builder: Any, y: Any) -> Any:
    """Return 2**y, at least 2**-126 and at most 2**127; NaN for NaN."""
    for comparison, bound in (("<", _all(_LOWEST)), (">", _all(_HIGHEST))):
        y = builder.select(builder.fcmp_ordered(comparison, y, bound), bound, y)
    shifted = builder.fadd(y, _all(_ROUNDING))
    f = builder.fsub(y, builder.fsub(shifted, _all(_ROUNDING)))
    square = builder.fmul(f, f)
    low, middle, high = (plus(builder, _all(a), f, _all(b)) for a, b in ((1.0, _C1), (_C2, _C3), (_C4, _C5)))
    power = plus(builder, low, square, plus(builder, middle, square, high))
    exponent = builder.shl(builder.bitcast(shifted, _WHOLE), ir.Constant(_WHOLE, [23] * LANES))
    return builder.fmul(power, builder.bitcast(exponent, _VECTOR))


@intrinsic
@no_type_check
def exponentiate(typing, z, factor, base, u, B, stride, e, place, sums):
    """Take sixteen outputs of a token: see ``kernels.exponentials``.

    Reads z from ``place`` on and four columns of B, ``stride`` numbers apart, writes
    e = 2**(z factor + base + u . B), and returns the sums with e's products with the columns and e added.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        z, factor, base, u, B, stride, e, place, sums = args
        z, B, e = (Memory(builder, each, _NUMBER, LANES) for each in (z, B, e))
        z.fetch(builder.add(place, WORD(AHEAD)))
        columns = [B.load(each) for each in apart(builder, place, stride, GROUP)]
        weights = [spread(builder, each, LANES) for each in cgutils.unpack_tuple(builder, u, GROUP)]
        y = plus(builder, spread(builder, base, LANES), z.load(place), spread(builder, factor, LANES))
        for k in range(0, GROUP, 2):
            pair = plus(builder, _all(0.0), weights[k + 1], columns[k + 1])
            y = builder.fadd(y, plus(builder, pair, weights[k], columns[k]))
        power = _power_of_two(builder, y)
        e.store(power, place)
        *totals, total = cgutils.unpack_tuple(builder, sums, GROUP + 1)
        totals = [plus(builder, *each, power) for each in zip(totals, columns, strict=True)]
        return context.make_tuple(builder, signature.return_type, [*totals, builder.fadd(total, power)])

    word, number, result = types.int64, types.float32, types.UniTuple(_vector, GROUP + 1)
    return result(word, number, number, types.UniTuple(number, GROUP), word, word, word, word, result), code


@intrinsic
@no_type_check
def added_up(typing, sums):
    """Return the sum of all lanes of each sum."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = []
        for total in cgutils.unpack_tuple(builder, args[0], GROUP + 1):
            width = LANES
            while width > 1:  # the upper half to the lower one
                width //= 2
                total = builder.fadd(total, shuffled(builder, total, [i ^ width for i in range(LANES)]))
            numbers.append(builder.extract_element(total, INT(0)))
        return context.make_tuple(builder, signature.return_type, numbers)

    return types.UniTuple(types.float32, GROUP + 1)(sums), code
