"""The verdict's figures: differences with their intervals, and what a trainable parameter buys."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
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
from qpabench.reports.verdict import Comparison, Verdict, base_nats_of, nats_of

MOST_COMPARISONS = 40
MOST_NAMED = 24
_COLOURS = {
    "better": PALETTE[2],
    "worse": PALETTE[1],
    "equivalent": PALETTE[0],
    "undecided": GREY,
    "no inference": GREY,
}
#: an interval this many times the margin isn't drawn to its end
_WIDEST = 40.0


def forest(verdict: Verdict) -> Drawn | None:
    """Each comparison's difference with its 95 % interval, the margin as a band, one block a question."""
    rows: list[tuple[str, Comparison | None]] = []
    for family in verdict.families:
        found = [one for one in family.comparisons if one.estimate is not None]
        if found:
            rows.append((f"{family.name}: {family.method.label}", None))
            rows += [(one.other.label, one) for one in found]
    rows = rows[:MOST_COMPARISONS]
    shown = [one for _, one in rows if one is not None]
    if not shown:
        return None
    labels = [figure_text(text, 95) if one is None else few_lines(text, 46) for text, one in rows]
    heights = [
        1.25 if one is None else 0.6 + 0.4 * (1 + label.count("\n"))
        for label, (_, one) in zip(labels, rows, strict=True)
    ]
    middles = np.cumsum(heights) - np.array(heights) / 2
    figure = Figure(figsize=(WIDTH_INCHES, 1.3 + 0.27 * sum(heights)), layout="constrained")
    axes = figure.add_subplot()
    margin = verdict.margin_nats
    axes.axvspan(-margin, margin, color="#DDE8F2", zorder=0)
    axes.axvline(0, color=GREY, linewidth=1.0, zorder=1)
    for y, one in zip(middles, (one for _, one in rows), strict=True):
        if one is None or one.estimate is None:
            continue
        colour = _COLOURS[one.outcome]
        if one.estimate.interval is not None:
            axes.plot(
                one.estimate.interval, (y, y), color=colour, linewidth=2.0, solid_capstyle="butt", zorder=2
            )
        filled = one.outcome not in ("undecided", "no inference")
        face = colour if filled else "white"
        axes.plot(one.estimate.nats, y, "o", color=colour, markerfacecolor=face, markersize=6, zorder=3)
    ends = [
        abs(end) for one in shown if one.estimate for end in (one.estimate.interval or (one.estimate.nats,))
    ]
    reach = max(
        1.6 * margin, 1.08 * min(max(ends), _WIDEST * max(margin, max(abs(_nats(one)) for one in shown)))
    )
    axes.set_xlim(-reach, reach)
    axes.set_ylim(sum(heights) + 0.1, -0.1)
    ticks = [(y, label) for y, label, (_, one) in zip(middles, labels, rows, strict=True) if one is not None]
    axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks], fontsize=8)
    for y, label, (_, one) in zip(middles, labels, rows, strict=True):
        if one is None:
            axes.annotate(
                label,
                (0.0, y),
                xycoords=("figure fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                fontsize=8.5,
                fontweight="bold",
                va="center",
                annotation_clip=False,
            )
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("difference in masked NLL, nats per token (left: the method in bold is better)")
    used = dict.fromkeys(one.outcome for one in shown)
    handles: list[Line2D | Patch] = [Patch(color="#DDE8F2", label=f"margin ±{significant(margin)}")]
    for outcome in used:
        filled = outcome not in ("undecided", "no inference")
        face = _COLOURS[outcome] if filled else "white"
        handles.append(
            Line2D([], [], color=_COLOURS[outcome], marker="o", markerfacecolor=face, label=outcome)
        )
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), handlelength=1.8)
    note = (
        "Point: mean over seeds; line: 95 % interval over seeds and test rows, of each difference by itself."
    )
    return Drawn(figure, note)


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
    readable_log(axes, "x", min(sizes) / 1.6, max(sizes) * 1.6)
    axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
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
    found = {id(g): (n, mean, spread) for g, n, (mean, spread) in points}
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
        names = names_within(members) if len(points) <= MOST_NAMED and len(members) > 1 else []
        named += [
            (n, mean, figure_text(text, 24), colour) for (n, mean, _), text in zip(own, names, strict=False)
        ]
    axes.margins(y=0.1)
    axes.set_xlabel("trainable parameters")
    axes.set_ylabel("masked NLL, nats per token (lower is better)")
    axes.set_title(figure_text(title, 80))
    figure.set_figheight(figure.get_figheight() + 0.21 * math.ceil(len(handles) / 2))
    figure.legend(handles=handles, loc="outside lower left", ncols=2, columnspacing=1.6)
    if named:
        figure.draw_without_rendering()
        place_labels(axes, [one for one in named if one[2]], bars=several)
    note = "Error bars: standard deviation over seeds." if several else "One run a point: no inference."
    return Drawn(
        figure, f"Masked NLL over trainable parameters, each method at its chosen learning rate. {note}"
    )


def _front(sizes: Sequence[float], heights: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the corners of the lowest height reached with at most so many parameters."""
    xs: list[float] = []
    ys: list[float] = []
    for size, height in sorted(zip(sizes, heights, strict=True)):
        if not ys or height < ys[-1]:
            xs.append(size)
            ys.append(height)
    return [*xs, max(sizes) * 1.6], [*ys, ys[-1]]


def _nats(one: Comparison) -> float:
    return 0.0 if one.estimate is None else one.estimate.nats
