"""The figures a suite asks for: one panel a metric, the untrained base as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from qpabench.reports.figures import LOG_FROM_RATIO, Drawn, families_of, legend_below
from qpabench.reports.groups import Context, Group
from qpabench.reports.metrics import metric
from qpabench.reports.numbers import significant
from qpabench.reports.published_points import Points, points_of, split_far
from qpabench.reports.statistics import mean_and_spread
from qpabench.reports.style import (
    GREY,
    MARKERS,
    PALETTE,
    WIDTH_INCHES,
    figure_text,
    readable_log,
    short,
)

#: an axis of these is linear: a logarithm is in them already
_LINEAR = ("n_qubits",)
#: of published points, one for each model or condition
STARS = ("*", "h")
#: an axis of these has ticks at whole numbers
_DISCRETE = ("n_qubits", "n_layers", "target.rank")
_TITLES = {
    "n_trainable": "trainable parameters",
    "n_qubits": "qubits N",
    "n_layers": "repetitions L",
    "target.rank": "rank",
    "perplexity_padded": "padded perplexity (the paper's)",
    "perplexity_masked": "masked perplexity (text alone)",
    "gradient_variance_theta": "variance of the angles' gradient",
}
#: options that make a line of their own where they differ
_LINES_BY = (
    ("backend", "shots_per_state", "shots {} × 2^N"),
    ("backend", "device", "{}"),
    ("generator", "n_layers", "L = {}"),
    ("generator", "chunk_size", "chunk {}"),
    ("train", "epochs", "epochs {}"),
)
#: these axes are the other's own: qubits and parameters follow from the chunk size
_AXIS_OF = {
    "n_layers": ("generator.n_layers",),
    "n_trainable": ("generator.chunk_size",),
    "n_qubits": ("generator.chunk_size",),
}


def draw_asked(context: Context, asked: Mapping[str, object], suite: object = None) -> Drawn | None:
    """Draw one figure of ``[[figures]]`` from one context's cells, with the points that the paper prints.

    Args:
        context: cells that may be compared.
        asked: ``x`` and ``y`` as in the manifest.
        suite: its name, by which published values say whose figure they belong to.

    Returns:
        The figure; None where no cell has what it shows.
    """
    x = str(asked.get("x"))
    ys = asked.get("y")
    names = [str(y) for y in ys] if isinstance(ys, Sequence) else []
    names = [y for y in names if any(at(g, x) is not None and _values(g, y) for g in context.groups)]
    if not names:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 3.6), layout="constrained")
    lines = _lines(context.groups, x)
    handles: dict[str, Line2D] = {}
    far: list[str] = []
    for number, y in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), number)
        printed = points_of(suite, context, x, y)
        far += _panel(axes, context, lines, x, y, printed, handles)
    figure.suptitle(figure_text(context.title, 80), x=0.01, ha="left", fontsize=10, fontweight="bold")
    legend_below(figure, list(handles.values()))
    several = any(group.n > 1 for group in context.groups)
    note = "Error bars: standard deviation over seeds." if several else "One run a point: no inference."
    what = " and ".join(_title(y) for y in names)
    return Drawn(figure, " ".join([f"{what[0].upper()}{what[1:]} over {_title(x)}. {note}", *far]))


def at(group: Group, name: str) -> float | None:
    """Return a count, an option (``target.rank``) or a metric's mean of a group."""
    part, dot, option = name.partition(".")
    value = _option(group, part, option) if dot else group.counted(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return None if dot else group.mean(name)


def _panel(
    axes: Axes,
    context: Context,
    lines: Mapping[str, Sequence[Group]],
    x: str,
    y: str,
    printed: Sequence[Points],
    handles: dict[str, Line2D],
) -> list[str]:
    """Draw one panel; return what its caption must say of published points that it leaves out."""
    xs_all: list[float] = []
    ys_all: list[float] = []
    base = context.base.get(y)
    if base:
        axes.axhline(base, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
        label = "untrained base"
        handles.setdefault(label, Line2D([], [], color=GREY, linestyle=(0, (5, 3)), label=label))
        ys_all.append(base)
    for index, (name, members) in enumerate(lines.items()):
        colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        points = sorted((at(g, x), *mean_and_spread(_values(g, y))) for g in members if _drawn(g, x, y))
        for group in members:
            if at(group, x) is None and (values := _values(group, y)):
                axes.axhline(mean_and_spread(values)[0], color=colour, linewidth=1.1, zorder=2)
                ys_all.append(mean_and_spread(values)[0])
                handles.setdefault(name, Line2D([], [], color=colour, label=figure_text(name, 60)))
        if not points:
            continue
        xs, means = [float(p[0] or 0) for p in points], [p[1] for p in points]
        alone = len(set(xs)) < len(xs)
        axes.errorbar(
            xs,
            means,
            yerr=[p[2] or 0.0 for p in points] if any(p[2] for p in points) else None,
            color=colour,
            marker=marker,
            markersize=5 if y not in _DISCRETE else 5 + 3 * (len(lines) - 1 - index),  # counts coincide
            markeredgecolor="white",
            linestyle="none" if alone else "-",
            linewidth=1.0,
            capsize=3,
            zorder=3,
        )
        look = Line2D([], [], color=colour, marker=marker, markeredgecolor="white")
        look.set_label(figure_text(name, 60))
        handles.setdefault(name, look)
        xs_all += xs
        ys_all += means
    kinds = list(lines)
    printed = [one for one in printed if any(name.startswith(one.kind) for name in kinds)]
    drawn, far = split_far(printed, [value for value in ys_all if value > 0] or [1.0])
    labels = list(dict.fromkeys(one.label for one in drawn))
    for one in drawn:
        _published(axes, one, kinds, STARS[labels.index(one.label) % len(STARS)], handles)
        xs_all += [place for place, _ in one.at]
        ys_all += [value for _, value in one.at]
    _scale_x(axes, x, xs_all)
    if y in _DISCRETE:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    elif min(ys_all) > 0 and max(ys_all) > LOG_FROM_RATIO * min(ys_all):
        readable_log(axes, "y", min(ys_all), max(ys_all))
    elif max(ys_all) >= 1e4:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.margins(y=0.1)
    axes.set_xlabel(_title(x))
    axes.set_ylabel(_title(y))
    if base:
        axes.set_title(f"untrained base: {significant(base)}", fontsize=8.5, fontweight="normal")
    return _left_out(far, y)


def _scale_x(axes: Axes, x: str, values: Sequence[float]) -> None:
    """Make the horizontal axis logarithmic where the paper's is; few values are ticks themselves."""
    low, high = min(values), max(values)
    if x in _LINEAR:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    if low <= 0:
        return
    axes.set_xlim(low / 1.3, high * 1.3)
    readable_log(axes, "x", low / 1.3, high * 1.3)
    if x in _DISCRETE or low == high:
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
        axes.xaxis.set_minor_locator(NullLocator())
    elif high > 30 * low:
        axes.xaxis.set_major_locator(LogLocator(base=10))
    else:
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))


def _published(
    axes: Axes, points: Points, names: Sequence[str], marker: str, handles: dict[str, Line2D]
) -> None:
    """Draw published points hollow and large in the colour of their line, under what was measured."""
    place = next(i for i, name in enumerate(names) if name.startswith(points.kind))
    colour = PALETTE[place % len(PALETTE)]
    look: dict[str, Any] = {
        "marker": marker,
        "markersize": 13,
        "markerfacecolor": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 1.2,
        "linestyle": "none",
    }
    axes.plot(*zip(*points.at, strict=True), zorder=2.5, **look)
    label = f"{points.kind}: {points.label}"
    handles.setdefault(label, Line2D([], [], label=figure_text(label, 60), **look))


def _left_out(far: Sequence[Points], y: str) -> list[str]:
    if not far:
        return []
    values = [value for points in far for _, value in points.at]
    spread = dict.fromkeys(f"{value:.4g}" for value in (min(values), max(values)))
    labels = ", ".join(dict.fromkeys(points.label for points in far))
    return [f"Left out, far off the axis: {labels}, {_title(y)} {' to '.join(spread)}."]


def _lines(groups: Sequence[Group], x: str) -> dict[str, list[Group]]:
    """Gather cells into lines: families, split by what else differs and isn't the axis."""
    lines: dict[str, list[Group]] = {}
    for name, members in families_of(groups).items():
        ranks = {_option(g, "target", "rank") for g in members if not g.is_reference}
        for group in members:
            extra = [
                text.format(value)
                for part, option, text in _LINES_BY
                if (value := _option(group, part, option)) is not None
                and len(
                    {_option(g, part, option) for g in groups if part == "backend" or g.cell.get("n_qubits")}
                )
                > 1
                and f"{part}.{option}" not in (x, *_AXIS_OF.get(x, ()))
            ]
            if len(ranks) > 1 and x != "target.rank":
                extra.append(f"rank {_option(group, 'target', 'rank')}")
            lines.setdefault(" · ".join([name, *extra]), []).append(group)
    return lines


def _drawn(group: Group, x: str, y: str) -> bool:
    return at(group, x) is not None and bool(_values(group, y))


def _values(group: Group, name: str) -> list[float]:
    measured = group.values(name)
    counted = group.counted(name)
    return measured or ([counted] if counted is not None else [])


def _option(group: Group, part: str, option: str) -> object:
    options = group.cell.get("options")
    own = options.get(part) if isinstance(options, Mapping) else None
    return own.get(option) if isinstance(own, Mapping) else None


def _title(name: str) -> str:
    return _TITLES.get(name) or metric(name.rpartition(".")[2]).title
