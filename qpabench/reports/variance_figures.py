"""Variances over qubits and over repetitions, one panel an observable, with the line that is favoured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from qpabench.reports.figures import Drawn
from qpabench.reports.style import GREY, MARKERS, PALETTE, WIDTH_INCHES, figure_text, short
from qpabench.reports.variance import Ladder

COLUMNS = 2
PANEL_INCHES = 2.35
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: points of one size stand this far apart, as a share of a qubit or as a factor
APART, APART_FACTOR = 0.13, 1.05


def draw_ladders(found: Sequence[Ladder]) -> Drawn | None:
    """Draw each observable's ladders in a panel of its own.

    Args:
        found: of one direction; None where there is nothing to draw.
    """
    panels: dict[tuple[str, int], list[Ladder]] = {}
    for one in found:
        if one.points:
            panels.setdefault((one.what, one.fixed), []).append(one)
    if not panels:
        return None
    ansatze = list(dict.fromkeys(one.ansatz for one in found))
    direction = found[0].direction
    other = "L" if direction == "n_qubits" else "N"
    n_rows = math.ceil(len(panels) / COLUMNS)
    n_columns = min(COLUMNS, len(panels))
    figure = Figure(figsize=(WIDTH_INCHES, 0.5 + PANEL_INCHES * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, ((what, fixed), own) in zip(grid.flat, panels.items(), strict=False):
        for one in own:
            _ladder(axes, one, ansatze.index(one.ansatz), len(ansatze))
        _axes(axes, own)
        axes.set_title(figure_text(f"{what}, {other} = {fixed}", 60), fontsize=7.8)
        axes.set_xlabel("qubits N" if direction == "n_qubits" else "repetitions L")
    for row in grid:
        row[0].set_ylabel("variance of the gradient")
    handles = [
        Line2D([], [], color=_colour(i), marker=_marker(i), markeredgecolor="white", linestyle="none")
        for i in range(len(ansatze))
    ]
    labels = [figure_text(name, 40) for name in ansatze]
    handles += [Line2D([], [], color=GREY), Line2D([], [], color=GREY, linestyle=(0, (4, 2)))]
    labels += ["exponential favoured", "power favoured"]
    figure.legend(handles, labels, loc="outside lower left", ncols=len(handles), columnspacing=1.4)
    return Drawn(
        figure,
        "Point: mean over draws of the squared derivative, averaged over angles; bar: 95 % interval over "
        "draws. A line only where one kind is favoured. Each panel has its own scale.",
    )


def _ladder(axes: Axes, one: Ladder, index: int, count: int) -> None:
    step = index - (count - 1) / 2
    over_qubits = one.direction == "n_qubits"
    sizes = np.array([float(point.at(one.direction)) for point in one.points])
    shifted = sizes + step * APART if over_qubits else sizes * APART_FACTOR**step
    values = np.array([found.variance for found in one.estimates])
    lows = np.array([found.low for found in one.estimates])
    highs = np.array([found.high for found in one.estimates])
    axes.errorbar(
        shifted,
        values,
        yerr=np.stack([np.maximum(values - lows, 0), np.maximum(highs - values, 0)]),
        fmt=_marker(index),
        color=_colour(index),
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linewidth=1.0,
        zorder=3,
    )
    trend = one.variance
    line = {"exponential": trend.exponential, "polynomial": trend.polynomial}.get(trend.outcome)
    if line is None:
        return
    ends = (sizes.min(), sizes.max())
    along = np.linspace(*ends, 100) if over_qubits else np.geomspace(*ends, 100)
    fitted = np.exp(
        line.intercept + line.slope * (along if trend.outcome == "exponential" else np.log(along))
    )
    style = "-" if trend.outcome == "exponential" else (0, (4, 2))
    axes.plot(along, fitted, color=_colour(index), linestyle=style, linewidth=1.0, zorder=2)


def _axes(axes: Axes, own: Sequence[Ladder]) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power_of_ten(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    sizes = sorted({point.at(one.direction) for one in own for point in one.points})
    if own[0].direction == "n_qubits":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _power_of_ten(value: float) -> str:
    """Write a decade without markup, which no label here has."""
    return "10" + str(round(math.log10(value))).translate(_SUPERSCRIPT)


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]
