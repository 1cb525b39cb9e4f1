"""``gradient-variance.md``: what follows from the draws, in sentences, and every number they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qpabench.reports.markdown import Markdown, lead, link, table
from qpabench.reports.numbers import MINUS, significant
from qpabench.reports.trends import DECISIVE, FEWEST_SIZES, HEAVY, Line, Outcome, Trend
from qpabench.reports.variance import SYMBOL, Ladder, Point

#: points further from the line than this factor are said to be
FAR_OFF = 1.5
_OVER = {"n_qubits": "over qubits", "n_layers": "over repetitions"}
_PER = {"n_qubits": "per qubit", "n_layers": "per repetition"}
_OUTCOMES: tuple[Outcome, ...] = ("exponential", "polynomial", "constant", "undecided", "too few")


def conclusions(found: Sequence[Ladder]) -> list[Markdown]:
    """Return one paragraph for each observable and direction: which ansatz does what, with its numbers.

    Args:
        found: ladders of one direction.
    """
    gathered: dict[tuple[str, int], list[Ladder]] = {}
    for one in found:
        gathered.setdefault((one.what, one.fixed), []).append(one)
    return [_paragraph(own) for own in gathered.values()]


def _paragraph(own: Sequence[Ladder]) -> Markdown:
    first = own[0]
    symbol, other = SYMBOL[first.direction], "L" if first.direction == "n_qubits" else "N"
    parts = []
    for outcome in _OUTCOMES:
        named = [one for one in own if one.variance.outcome == outcome]
        if named:
            listed = "; ".join(f"{one.ansatz} ({numbers(one.variance, symbol)})" for one in named)
            parts.append(f"{_said(outcome, symbol)} for {listed}.")
    heavy = [one for one in own if one.heavy]
    if heavy:
        where = ", ".join(f"{one.ansatz} at {one.heavy} of {len(one.points)} sizes" for one in heavy)
        listed = "; ".join(
            f"{one.ansatz} {_said(one.median.outcome, symbol)} ({numbers(one.median, symbol)})"
            for one in heavy
        )
        parts.append(
            f"Where one draw makes more than {100 * HEAVY:.0f} % of a variance, it says little of a typical "
            f"draw ({where}); by the median over draws: {listed}."
        )
    zeros = [f"{one.ansatz} at {symbol} = {', '.join(map(str, one.zeros))}" for one in own if one.zeros]
    if zeros:
        parts.append(f"Zero but for rounding, and left out of the fits: {'; '.join(zeros)}.")
    what = first.what[0].upper() + first.what[1:]
    return lead(f"{what}, {_OVER[first.direction]} at {other} = {first.fixed}:", " ".join(parts))


def _said(outcome: Outcome, symbol: str) -> str:
    return {
        "exponential": f"exponential in {symbol}",
        "polynomial": f"a power of {symbol}",
        "constant": f"no trend in {symbol} beyond the scatter",
        "undecided": "undecided",
        "too few": f"no inference (fewer than {FEWEST_SIZES} sizes with a variance)",
    }[outcome]


def numbers(found: Trend, symbol: str) -> str:
    """Return what a trend's outcome rests on.

    Args:
        found: with its two lines.
        symbol: N or L.
    """
    exponential, polynomial = found.exponential, found.polynomial
    if exponential is None or polynomial is None:
        return "no fit"
    per = _PER["n_qubits" if symbol == "N" else "n_layers"]
    as_exponential = f"2^{_interval(exponential, 1 / math.log(2))} {per}"
    as_power = f"{symbol}^{_interval(polynomial, 1.0)}"
    if found.outcome == "exponential":
        return f"{_moves(exponential)} {as_exponential}, AIC {_favoured(found, 1)}{_off(exponential)}"
    if found.outcome == "polynomial":
        return f"{_moves(polynomial)} {as_power}, AIC {_favoured(found, -1)}{_off(polynomial)}"
    if found.outcome == "constant":
        return f"{as_exponential}"
    return f"{as_exponential} or {as_power}, AIC {_favoured(found, 1)}"


def fits_table(found: Sequence[Ladder]) -> Markdown:
    """Return both lines of each ladder, of the variance and of the median.

    Args:
        found: of both directions.
    """
    header = ["observable", "over", "at", "ansatz", "sizes", "exponential: 2^", "off", "power", "off"]
    header += ["AIC, power − exponential", "AIC, constant − best", "outcome", "outcome by the median"]
    rows: list[list[object]] = []
    for one in found:
        symbol, other = SYMBOL[one.direction], "L" if one.direction == "n_qubits" else "N"
        size = [f"{p.at(one.direction)}" for p in one.points]
        cells: list[object] = [one.what, symbol, f"{other} = {one.fixed}", one.ansatz, ", ".join(size)]
        trend = one.variance
        if trend.exponential is None or trend.polynomial is None:
            rows.append([*cells, *[""] * 6, trend.outcome, one.median.outcome])
            continue
        best = min(trend.exponential.aicc, trend.polynomial.aicc)
        cells += [_interval(trend.exponential, 1 / math.log(2)), f"× {trend.exponential.off:.2f}"]
        cells += [_interval(trend.polynomial, 1.0), f"× {trend.polynomial.off:.2f}"]
        cells += [_favoured(trend, 1), _short(trend.constant - best), trend.outcome, one.median.outcome]
        rows.append(cells)
    return table(header, rows)


def points_table(points: Sequence[Point]) -> Markdown:
    """Return every point with its interval and its record."""
    header = ["observable", "ansatz", "N", "L", "draws", "variance", "95 % interval", "median"]
    header += ["largest draw's share", "record"]
    rows: list[list[object]] = []
    for point in points:
        found = point.estimate
        cells: list[object] = [point.what, point.ansatz, point.n_qubits, point.n_layers, len(point.squares)]
        if found is None:
            cells += ["0 but for rounding", "", "", ""]
        else:
            interval = f"[{significant(found.low, 3)}, {significant(found.high, 3)}]"
            cells += [significant(found.variance, 3), interval, significant(found.median, 3)]
            cells.append(f"{100 * found.largest:.0f} %")
        rows.append([*cells, link("record", f"records/{point.record}.json")])
    return table(header, rows, [False, False, *[True] * 7])


def _moves(line: Line) -> str:
    if line.high < 0:
        return "falls as"
    return "rises as" if line.low > 0 else "goes as"


def _interval(line: Line, unit: float) -> str:
    ends = [_short(value * unit, 2) for value in (line.slope, line.low, line.high)]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def _favoured(found: Trend, sign: int) -> str:
    ends = sorted((sign * found.low, sign * found.high))
    return f"{_short(sign * found.difference)} [{_short(ends[0])}, {_short(ends[1])}]"


def _off(line: Line) -> str:
    return f", points off it by a factor of {line.off:.1f}" if line.off > FAR_OFF else ""


def _short(value: float, digits: int = 1) -> str:
    if digits == 2 and abs(value) < 0.1:
        digits = 3
    return f"{value:.{digits}f}".replace("-", MINUS)


RULE = (
    f"**Outcome:** *exponential* or *polynomial* where its AIC is lower by {DECISIVE:g} or more, the "
    "interval of that difference over draws lies on one side of zero, and a constant's AIC is higher by "
    f"{DECISIVE:g} or more; *constant* where a constant has the lowest AIC; else *undecided*."
)
