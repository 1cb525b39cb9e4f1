"""The report's figures, each drawn from one context's cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from qpabench.reports.groups import Context, Group, canonical, phases
from qpabench.reports.metrics import RANKED_BY
from qpabench.reports.numbers import seconds, significant
from qpabench.reports.statistics import mean_and_spread, smoothed
from qpabench.reports.style import (
    GREY,
    HATCH,
    MARKERS,
    PALETTE,
    WIDTH_INCHES,
    few_lines,
    figure_text,
    place_labels,
    readable_log,
)

MOST_LINES = 10
MOST_BARS = 30
MOST_NAMED_POINTS = 24
MOST_BIG_POINTS = 80
MOST_LEGEND_ROWS = 14
COVERED_PIXELS = 4.0  # a point so near to another can't be seen
#: perplexities spread wider than this need a logarithmic axis
LOG_FROM_RATIO = 2.5
_STYLED_BY = ("target", "generator", "backend", "ansatz", "protocol", "start")
Series = Callable[[str], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Drawn:
    """A figure with what its caption must add.

    Args:
        figure: ready to be saved.
        caption: what was drawn and what was left out.
    """

    figure: Figure
    caption: str


def perplexity_over_parameters(context: Context) -> Drawn | None:
    """Masked perplexity over trainable parameters, the untrained base as a line."""
    points = [(g, g.counted("n_trainable"), g.values(RANKED_BY)) for g in context.groups]
    shown = [(g, n, values) for g, n, values in points if n and values]
    if not shown:
        return None
    figure, axes = _canvas(4.4)
    base = context.base.get(RANKED_BY)
    highs = [mean_and_spread(values)[0] for _, _, values in shown] + ([base] if base else [])
    sized = {id(g): n for g, n, _ in shown}
    sizes = list(sized.values())
    axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
    readable_log(axes, "x", min(sizes) / 1.6, max(sizes) * 1.6)
    if max(highs) > LOG_FROM_RATIO * min(highs):
        readable_log(axes, "y", min(highs), max(highs))
    several = any(len(values) > 1 for _, _, values in shown)
    handles: list[Line2D] = []
    if base:
        line = axes.axhline(base, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
        line.set_label(f"untrained base: {significant(base)}")
        handles.append(line)
    named: list[tuple[float, float, str, str]] = []
    crowded = len(shown) > MOST_BIG_POINTS
    looks: dict[str, Any] = {"markersize": 3.0} if crowded else {"markeredgecolor": "white"}
    families = families_of([g for g, _, _ in shown])
    for index, (name, members) in enumerate(families.items()):
        colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        own = [(sized[id(g)], *mean_and_spread(g.values(RANKED_BY)), g) for g in members]
        own.sort(key=lambda point: point[:2])
        xs, ys = [n for n, *_ in own], [mean for _, mean, *_ in own]
        if len(set(xs)) == len(xs) and not crowded:
            axes.plot(xs, ys, color=colour, linewidth=0.9, alpha=0.55, zorder=2)
        spreads = [spread or 0.0 for _, _, spread, _ in own]
        if any(spreads):
            axes.errorbar(xs, ys, yerr=spreads, fmt="none", ecolor=colour, capsize=3, linewidth=1.1, zorder=3)
        axes.plot(xs, ys, linestyle="none", marker=marker, color=colour, zorder=4, **looks)
        handles.append(
            Line2D([], [], color=colour, marker=marker, markeredgecolor="white", label=figure_text(name))
        )
        names = names_within([g for *_, g in own]) if len(shown) <= MOST_NAMED_POINTS else [""] * len(own)
        named += [(x, y, figure_text(name, 24), colour) for x, y, name in zip(xs, ys, names, strict=True)]
    axes.margins(y=0.12)
    axes.set_xlabel("trainable parameters")
    axes.set_ylabel("masked perplexity, test text (lower is better)")
    axes.set_title(figure_text(context.title, 80))
    legend_below(figure, handles)
    figure.draw_without_rendering()
    place_labels(axes, named, bars=several)
    note = "Error bars: standard deviation over seeds." if several else "One run a point: no inference."
    if len(handles) > MOST_LEGEND_ROWS:
        note += f" The legend has the first {MOST_LEGEND_ROWS} of {len(handles)} entries."
    hidden = _hidden(axes, [(sized[id(g)], mean_and_spread(values)[0]) for g, _, values in shown])
    if hidden:
        note += f" {hidden} of {len(shown)} points lie under others; the ranking tells them apart."
    return Drawn(figure, f"Masked perplexity over trainable parameters. {note}")


def _hidden(axes: Axes, points: Sequence[tuple[float, float]]) -> int:
    """Count the points that lie under another's marker."""
    places = np.round(axes.transData.transform(np.array(points)) / COVERED_PIXELS)
    return len(points) - len(np.unique(places, axis=0))


def training_loss(context: Context, series: Series) -> Drawn | None:
    """Training loss over steps, smoothed, for the best cells."""
    curves = []
    for group in context.groups:
        losses = [found for record in group.records if (found := _loss(series(record.id))) is not None]
        if losses:
            curves.append((group, losses))
        if len(curves) == MOST_LINES:
            break
    if not curves:
        return None
    figure, axes = _canvas(3.9)
    ends, handles = [], []
    for index, (group, losses) in enumerate(curves):
        length = min(len(loss) for loss in losses)
        window = max(1, length // 20)
        mean = smoothed(np.mean([loss[:length] for loss in losses], axis=0), window)
        steps = np.arange(1, length + 1)
        keep = np.unique(np.linspace(0, length - 1, min(length, 400)).astype(int))
        colour = PALETTE[index % len(PALETTE)]
        dashes = "-" if index < len(PALETTE) else (0, (4, 2))
        (line,) = axes.plot(steps[keep], mean[keep], color=colour, linestyle=dashes, linewidth=1.3)
        line.set_label(figure_text(group.label))
        handles.append(line)
        ends.append(mean[keep])
    values = np.concatenate(ends)
    if values.min() > 0 and values.max() > 4 * values.min():
        readable_log(axes, "y", float(values.min()), float(values.max()))
    axes.set_xlabel("training step")
    axes.set_ylabel("training loss, nats per scored position")
    axes.set_title(figure_text(context.title, 80))
    legend_below(figure, handles)
    left_out = sum(bool(g.records) for g in context.groups) - len(curves)
    more = (
        f" The best {len(curves)} cells by masked NLL." if left_out > 0 and len(curves) == MOST_LINES else ""
    )
    text = (
        "Training loss, running mean over a twentieth of the steps. Protocols score different positions, so "
    )
    return Drawn(figure, f"{text}curves compare within a protocol only.{more}")


def where_the_time_goes(context: Context) -> Drawn | None:
    """Seconds of each phase as stacked bars; cells that ran beside others are hatched."""
    timed = [(group, _mean_phases(group)) for group in context.groups]
    timed = [(group, found) for group, found in timed if sum(found.values()) > 0]
    shown = timed[:MOST_BARS]
    if not shown:
        return None
    totals: dict[str, float] = {}
    for _, found in timed:
        for name, value in found.items():
            totals[name] = totals.get(name, 0.0) + value
    names = [name for name in sorted(totals, key=lambda n: (-totals[n], n)) if totals[name] > 0]
    labels = [few_lines(group.label) for group, _ in shown]
    figure, axes = _canvas(1.2 + sum(0.25 + 0.13 * label.count("\n") for label in labels))
    rows = np.arange(len(shown))
    left = np.zeros(len(shown))
    for index, name in enumerate(names):
        widths = np.array([found.get(name, 0.0) for _, found in shown])
        colour = PALETTE[index % len(PALETTE)]
        bars = axes.barh(rows, widths, left=left, height=0.7, color=colour, edgecolor="white", linewidth=0.5)
        for bar, (group, _) in zip(bars, shown, strict=True):
            if not group.alone:
                bar.set_hatch(HATCH)
        left += widths
    for row, total in zip(rows, left, strict=True):
        axes.annotate(
            seconds(float(total)),
            (total, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(rows, labels, fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, float(left.max()) * 1.12)
    axes.set_xlabel("seconds")
    axes.set_title(figure_text(context.title, 80))
    handles = [
        Patch(facecolor=PALETTE[i % len(PALETTE)], label=figure_text(name, 24))
        for i, name in enumerate(names)
    ]
    if not all(group.alone for group, _ in shown):
        label = "ran beside other cells, or resumed: not comparable"
        handles.append(Patch(facecolor="white", edgecolor=GREY, hatch=HATCH, label=label))
    legend_below(figure, handles)
    more = f" The first {MOST_BARS} of {len(timed)} cells by masked NLL." if len(timed) > MOST_BARS else ""
    return Drawn(figure, f"Where the time goes, mean over seeds.{more}")


def _canvas(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    return figure, figure.add_subplot()


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """Put a legend under the axes and make room for it."""
    kept = list(handles[:MOST_LEGEND_ROWS])
    longest = max(len(str(handle.get_label())) for handle in kept)
    columns = max(1, min(4, len(kept), 100 // (longest + 8)))
    height = 0.21 * -(-len(kept) // columns) + 0.1
    figure.set_figheight(figure.get_figheight() + height)
    figure.legend(handles=kept, loc="outside lower left", ncols=columns, handlelength=2.2, columnspacing=1.6)


def families_of(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Gather cells that share everything drawn as one colour, named by what tells the families apart."""
    styles = {id(group): _style(group) for group in groups}
    values = {key: {style[key] for style in styles.values()} - {""} for key in _STYLED_BY}
    named = [key for key in _STYLED_BY if key in ("target", "generator") or len(values[key]) > 1]
    families: dict[str, list[Group]] = {}
    for group in sorted(groups, key=lambda g: (not g.is_reference, g.kind, g.label)):
        style = styles[id(group)]
        families.setdefault(" · ".join(style[key] for key in named if style[key]), []).append(group)
    return families


def _style(group: Group) -> dict[str, str]:
    options = group.cell.get("options")
    generator = options.get("generator") if isinstance(options, Mapping) else None
    start = generator.get("start") if isinstance(generator, Mapping) else None
    style = {key: str(group.cell.get(key) or "") for key in _STYLED_BY}
    return style | {"start": f"start {start}" if start else ""}


def names_within(members: Sequence[Group]) -> list[str]:
    """Name points by what differs within their family (rank, chunk size, layers), and from most of it."""
    said: list[list[str]] = [[] for _ in members]
    for part in ("target", "generator", "train"):
        options = [((group.cell.get("options") or {}).get(part)) or {} for group in members]
        for key in sorted({key for own in options for key in own}):
            values = [canonical(own.get(key)) for own in options]
            (usual, times), *others = Counter(values).most_common()
            if not others:
                continue
            for words, own, value in zip(said, options, values, strict=True):
                if key in own and not (value == usual and times > len(values) / 2):
                    words.append(f"{key.replace('_', ' ')} {own[key]}")
    return [", ".join(words[:2]) for words in said]


def _loss(found: Mapping[str, NDArray[Any]]) -> NDArray[np.float64] | None:
    loss = found.get("train_loss")
    if loss is None or loss.ndim != 1 or loss.size < 2 or loss.dtype.kind not in "fiu":
        return None
    values = loss.astype(np.float64)
    return values if np.isfinite(values).all() else None


def _mean_phases(group: Group) -> dict[str, float]:
    all_phases = [phases(record) for record in group.records]
    names = dict.fromkeys(name for found in all_phases for name in found)
    return {name: sum(found.get(name, 0.0) for found in all_phases) / len(all_phases) for name in names}
