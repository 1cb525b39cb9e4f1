"""The verdict's figures: differences with their intervals, and what a trainable parameter buys."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from qpabench.reports.figures import Drawn, families_of, names_within
from qpabench.reports.groups import Group
from qpabench.reports.numbers import significant
from qpabench.reports.statistics import mean_and_spread
from qpabench.reports.style import (
    GREY,
    MARKERS,
    PALETTE,
    WIDTH_INCHES,
    few_lines,
    figure_text,
    place_labels,
    readable_log,
)
from qpabench.reports.verdict import EQUAL_BUDGET, Comparison, Verdict, base_nats_of, nats_of

MOST_COMPARISONS = 40
MOST_NAMED = 24
_COLOURS = {
    "better": PALETTE[2],
    "worse": PALETTE[1],
    "equivalent": PALETTE[0],
    "undecided": GREY,
    "no inference": GREY,
}
_DECIDED = ("better", "worse", "equivalent")
BAND = "#DDE8F2"
AROUND = 2.0  # the axis goes on beyond the points by this factor: room for their names
#: points of one budget stand this share of the axis apart
SIDE_BY_SIDE = 0.014


def forest(verdict: Verdict) -> Drawn | None:
    """Each comparison's difference with its 95 % interval, the margin as a band, one frame a question."""
    blocks = [
        (family, found)
        for family in verdict.families
        if (found := [one for one in family.comparisons if one.estimate is not None][:MOST_COMPARISONS])
    ]
    if not blocks:
        return None
    sizes = [len(found) + 1.6 for _, found in blocks]
    figure = Figure(figsize=(WIDTH_INCHES, 0.6 + 0.3 * sum(sizes)), layout="constrained")
    grid = figure.subplots(len(blocks), squeeze=False, gridspec_kw={"height_ratios": sizes})
    for axes, (family, found) in zip(grid[:, 0], blocks, strict=True):
        _block(axes, found, verdict.margin_nats)
        axes.set_title(figure_text(f"{family.name}: {family.method.name} against", 90))
    grid[-1, 0].set_xlabel(
        "difference in masked NLL, nats per token\n(left of zero: the method in the title is better)"
    )
    handles: list[Line2D | Patch] = [Patch(color=BAND, label=f"margin ±{verdict.margin_nats:g}")]
    for outcome in dict.fromkeys(one.outcome for _, found in blocks for one in found):
        face = _COLOURS[outcome] if outcome in _DECIDED else "white"
        handles.append(
            Line2D([], [], color=_COLOURS[outcome], marker="o", markerfacecolor=face, label=outcome)
        )
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), handlelength=1.8)
    note = (
        "Point: mean over seeds; line: 95 % interval over seeds and test rows, of each difference by itself."
    )
    return Drawn(figure, f"{note} Each frame has its own scale.")


def _block(axes: Axes, found: Sequence[Comparison], margin: float) -> None:
    axes.axvspan(-margin, margin, color=BAND, zorder=0)
    axes.axvline(0, color=GREY, linewidth=1.0, zorder=1)
    reach = 1.6 * margin
    for y, one in enumerate(found):
        assert one.estimate is not None
        colour = _COLOURS[one.outcome]
        ends = one.estimate.interval or (one.estimate.nats, one.estimate.nats)
        axes.plot(ends, (y, y), color=colour, linewidth=2.0, solid_capstyle="butt", zorder=2)
        face = colour if one.outcome in _DECIDED else "white"
        axes.plot(one.estimate.nats, y, "o", color=colour, markerfacecolor=face, markersize=6, zorder=3)
        reach = max(reach, 1.08 * max(map(abs, ends)))
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_yticks(range(len(found)), [few_lines(one.other.name, 34) for one in found], fontsize=8)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def pareto(title: str, groups: Sequence[Group]) -> Drawn | None:
    """Masked NLL over trainable parameters; a line joins what nothing smaller beats.

    Args:
        title: which model on which data.
        groups: at the learning rate chosen for them.
    """
    points = [
        (g, n, mean_and_spread(values))
        for g in groups
        if (n := g.counted("n_trainable")) and (values := nats_of(g))
    ]
    if not points:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 4.6), layout="constrained")
    axes = figure.add_subplot()
    sizes, heights = [n for _, n, _ in points], [mean for *_, (mean, _) in points]
    readable_log(axes, "x", min(sizes) / AROUND, max(sizes) * AROUND)
    axes.set_xlim(min(sizes) / AROUND, max(sizes) * AROUND)
    handles: list[Line2D] = []
    bases = [base for g, *_ in points if (base := base_nats_of(g)) is not None]
    if bases:
        line = axes.axhline(bases[0], color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
        line.set_label(f"untrained base: {significant(bases[0])}")
        handles.append(line)
    front = _front(sizes, heights)
    axes.plot(*front, color="#BBBBBB", linewidth=1.4, drawstyle="steps-post", zorder=1.5)
    handles.append(Line2D([], [], color="#BBBBBB", label="lowest NLL at most so many parameters"))
    several = any(spread is not None for *_, (_, spread) in points)
    places = _dodged(sizes)
    found = {id(g): (x, mean, spread) for x, (g, _, (mean, spread)) in zip(places, points, strict=True)}
    named: list[tuple[float, float, str, str]] = []
    for index, (name, members) in enumerate(families_of([g for g, *_ in points]).items()):
        colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        own = [found[id(g)] for g in members]
        axes.errorbar(
            [n for n, *_ in own],
            [mean for _, mean, _ in own],
            yerr=[spread or 0.0 for *_, spread in own],
            fmt=marker,
            color=colour,
            markeredgecolor="white",
            capsize=3 if several else 0,
            linewidth=1.1,
            zorder=3,
        )
        handles.append(
            Line2D([], [], color=colour, marker=marker, linestyle="none", label=figure_text(name, 60))
        )
        told_apart = len(points) <= MOST_NAMED and len(members) > 1
        names = names_within(members) if told_apart else [""] * len(own)
        named += [
            (n, mean, figure_text(text, 24), colour) for (n, mean, _), text in zip(own, names, strict=True)
        ]
    axes.margins(y=0.1)
    axes.set_xlabel("trainable parameters")
    axes.set_ylabel("masked NLL, nats per token (lower is better)")
    axes.set_title(figure_text(title, 80))
    figure.set_figheight(figure.get_figheight() + 0.21 * math.ceil(len(handles) / 2))
    figure.legend(handles=handles, loc="outside lower left", ncols=2, columnspacing=1.6)
    figure.draw_without_rendering()
    place_labels(axes, named, bars=several)
    note = "Error bars: standard deviation over seeds." if several else "One run a point: no inference."
    what = "Masked NLL over trainable parameters, each method at its chosen learning rate"
    return Drawn(figure, f"{what}; points of one budget stand side by side. {note}")


def _front(sizes: Sequence[float], heights: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the corners of the lowest height reached with at most so many parameters."""
    xs: list[float] = []
    ys: list[float] = []
    for size, height in sorted(zip(sizes, heights, strict=True)):
        if not ys or height < ys[-1]:
            xs.append(size)
            ys.append(height)
    return [*xs, max(sizes) * AROUND], [*ys, ys[-1]]


def _dodged(sizes: Sequence[float]) -> list[float]:
    """Move points of one budget apart, so that each can be seen."""
    places: list[float] = [0.0] * len(sizes)
    step = (AROUND**2 * max(sizes) / min(sizes)) ** SIDE_BY_SIDE
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    while order:
        near = [i for i in order if sizes[i] <= sizes[order[0]] * (1 + EQUAL_BUDGET)]
        for rank, index in enumerate(near):
            places[index] = sizes[index] * step ** (rank - (len(near) - 1) / 2)
        order = order[len(near) :]
    return places
