"""How figures look, and how they come out the same byte for byte."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from qpabench.errors import one_line

#: Okabe and Ito's colours, distinguishable with any colour vision; yellow is left out, too pale on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: as many as share no divisor with the colours, so that pairs don't repeat before all are used
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
HATCH = "////"
GREY = "#555555"
WIDTH_INCHES = 7.0
DPI = 150
LONGEST_LABEL = 102
_STYLE: dict[Any, object] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs everywhere
    "font.size": 9.0,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 6.5,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "qpabench",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a label with $ in it is not a formula
}


@contextmanager
def plain_style() -> Iterator[None]:
    """Draw with this style whatever the reader's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def svg_and_png(figure: Figure) -> dict[str, bytes]:
    """Return a figure as SVG and PNG without dates or versions in them."""
    found = {}
    for suffix, metadata in (("svg", {"Date": None, "Creator": "qpabench"}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=metadata, facecolor="white")
        found[suffix] = buffer.getvalue()
    return found


def figure_text(text: object, longest: int = LONGEST_LABEL) -> str:
    """Make text safe to draw: one line, only glyphs that the font has."""
    glyphs = _glyphs()
    return "".join(char if ord(char) in glyphs else "□" for char in one_line(text, longest))


def few_lines(text: object, width: int = 42) -> str:
    """Make text safe to draw beside an axis: at most three lines, cut with an ellipsis."""
    return "\n".join(wrap(figure_text(text, 4 * width), width, max_lines=3, placeholder=" …"))


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())


def readable_log(axis_of: Axes, which: str, low: float, high: float) -> None:
    """Put plain numbers on a logarithmic axis, at 1, 2 and 5 when it spans little."""
    axis = axis_of.xaxis if which == "x" else axis_of.yaxis
    (axis_of.set_xscale if which == "x" else axis_of.set_yscale)("log")
    span = high / low
    steps = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0) if span < 8 else (1.0, 2.0, 5.0) if span < 1e3 else (1.0,)
    if span < 3:
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(base=10, subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """Write an axis tick: 2 k, 1.5 M, 40."""
    for limit, factor, unit in ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if abs(value) >= limit:
            return f"{value / factor:.4g}{unit}"
    return f"{value:,.6g}"


def place_labels(axes: Axes, points: Sequence[tuple[float, float, str, str]], *, bars: bool) -> None:
    """Write a label beside each point, where it covers no point and no other label, or not at all.

    Args:
        axes: with final limits.
        points: x, y, text, colour; all of them, those without text too.
        bars: points carry error bars, so straight above and below are taken.
    """
    figure = axes.figure
    canvas = figure.canvas
    renderer = canvas.get_renderer() if hasattr(canvas, "get_renderer") else None
    taken = [(*axes.transData.transform((x, y)), 6.0, 6.0) for x, y, _, _ in points]
    frame = axes.get_window_extent(renderer)
    offsets = _OFFSETS[2:] if bars else _OFFSETS
    for x, y, text, colour in points:
        for dx, dy, ha, va in offsets if text else ():
            note = axes.annotate(
                text,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=ha,
                va=va,
                fontsize=8,
                color=colour,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
                zorder=3.5,
            )
            box = note.get_window_extent(renderer)
            middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, box.width / 2, box.height / 2)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(_overlap(middle, other) for other in taken):
                taken.append(middle)
                break
            note.remove()


_OFFSETS: tuple[tuple[float, float, str, str], ...] = (
    (0, 7, "center", "bottom"),
    (0, -7, "center", "top"),
    (8, 0, "left", "center"),
    (-8, 0, "right", "center"),
    (7, 7, "left", "bottom"),
    (-7, 7, "right", "bottom"),
    (7, -7, "left", "top"),
    (-7, -7, "right", "top"),
)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return abs(a[0] - b[0]) < a[2] + b[2] and abs(a[1] - b[1]) < a[3] + b[3]
