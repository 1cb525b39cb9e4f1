"""The table of targets as text, as Markdown, and as a figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from ratios import Baseline, Clock, Ratio

from qpabench.records.provenance import hardware
from qpabench.reports.style import GREY, PALETTE, plain_style, readable_log, svg_and_png

INTRODUCTION = """\
# Speed

Made by `tox run -e {env}`. Each figure is a ratio of median times of rivals that took turns within one run;
± is the half-width of its interval in that run. Times belong to this machine and this hour; ratios travel to
machines of the same kind, so each kind of processor has its own baseline. "In torch" means without compiled
loops.
"""


def _row(each: Ratio, baseline: Baseline) -> tuple[str, ...]:
    sign = "at most" if each.better == "low" else "at least"
    target = "" if each.target is None else f"{sign} {each.target:g}"
    reached = {None: "", True: "yes", False: "NO"}[each.reached]
    before = baseline.get(each.name)
    kept = "" if before is None else f"{before['value']:.3g}"
    return each.name, target, f"{each.value:.3g} ± {each.noise:.0%}", reached, each.shown, kept


HEADER = ("ratio", "target", "measured", "reached", "medians", "baseline")


def table(measured: Sequence[Ratio], baseline: Baseline) -> str:
    """Return the table as text in columns."""
    rows = [HEADER, *(_row(each, baseline) for each in measured)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def write_report(
    folder: Path,
    measured: Sequence[Ratio],
    baseline: Baseline,
    load: tuple[float, float, float],
    source: str,
) -> Path:
    """Write ``bench.md`` and ``bench/targets.svg``, of a GPU ``gpu-bench.md`` likewise; return the former."""
    name = "gpu-bench" if Clock.on_gpu() else "bench"
    (folder / name).mkdir(parents=True, exist_ok=True)
    with plain_style():
        (folder / name / "targets.svg").write_bytes(svg_and_png(_figure(measured))["svg"])
    found = hardware()
    clock = "time that passed" if Clock.wall else "processor time"
    machine = f"{found.get('cpu', 'unknown processor')}, {os.cpu_count()} cores"
    if Clock.on_gpu():
        machine = f"{Clock.gpu()}, beside {machine}"
    rows = [HEADER, ("---",) * len(HEADER), *(_row(each, baseline) for each in measured)]
    lines = [
        INTRODUCTION.format(env=name),
        f"{machine}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {clock}; load average at the end {load[0]:.1f}; {source}.",
        "",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"![Each ratio over its target: right of the line is better]({name}/targets.svg)",
    ]
    path = folder / f"{name}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _figure(measured: Sequence[Ratio]) -> Figure:
    """Draw how many times better than its target each ratio is."""
    aimed = [each for each in measured if each.target is not None][::-1]
    margins = [
        each.value / each.target if each.better == "high" else each.target / each.value for each in aimed
    ]
    figure = Figure(figsize=(7.0, 0.9 + 0.3 * len(aimed)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(
        [each.name for each in aimed],
        [margin - 1 for margin in margins],
        left=1,
        color=[PALETTE[0] if each.reached else PALETTE[1] for each in aimed],
        height=0.6,
    )
    low, high = min([*margins, 0.8]) / 1.1, max([*margins, 1.25]) * 1.1
    readable_log(axes, "x", low, high)
    axes.set_xlim(low, high)
    axes.axvline(1, color=GREY, linewidth=1)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("times better than the target")
    return figure
