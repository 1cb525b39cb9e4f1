"""A comparison as Markdown, or as lines for a terminal."""

from __future__ import annotations

from qpabench.errors import one_line
from qpabench.reports.compare import STATUS, Change, Comparison
from qpabench.reports.markdown import escape, table
from qpabench.reports.metrics import metric
from qpabench.reports.numbers import count, of_kind, signed, signed_percent

_HEADER = ("cell", "metric", "A", "B", "B against A", "95 % interval", "tolerance", "verdict")
_RIGHT = (False, False, True, True, True, True, True, False)
_DIRECTION = {True: " ↓", False: " ↑", None: ""}


def to_markdown(found: Comparison, *, everything: bool = False) -> str:
    """Return a comparison as Markdown.

    Args:
        found: the comparison.
        everything: also list what stayed the same.
    """
    rows = _rows(found, everything)
    parts = ["# Comparison", f"A: {escape(found.a)}  \nB: {escape(found.b)}", escape(summary(found))]
    parts += [table(_HEADER, rows, _RIGHT)] if rows else []
    return "\n\n".join([*parts, _LEGEND]) + "\n"


def to_text(found: Comparison, *, everything: bool = False) -> str:
    """Return a comparison as lines of aligned columns for a terminal.

    Args:
        found: the comparison.
        everything: also list what stayed the same.
    """
    rows = [list(_HEADER), *_rows(found, everything)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, _RIGHT, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*(lines if len(rows) > 1 else []), summary(found)]) + "\n"


def summary(found: Comparison) -> str:
    """Say in one line what the comparison found."""
    verdicts = [change.verdict for change in found.changes]
    words = ("worse", "vanished", "better", "changed", "same", "not compared", "new")
    parts = [f"{count(verdicts.count(word))} {word}" for word in words if word in verdicts]
    return f"{count(found.n_paired)} cells paired: {', '.join(parts) or 'nothing to compare'}."


_LEGEND = (
    "↓ lower is better, ↑ higher is better. A change within the tolerance is none. The interval is that of "
    "B minus A over test rows, both cells scored on the same rows; a change whose interval holds zero is no "
    "regression. Times are compared only where both cells ran alone and in one go, on the same hardware "
    "and thread count."
)


def _rows(found: Comparison, everything: bool) -> list[list[str]]:
    shown = [c for c in found.changes if everything or c.verdict not in ("same", "not compared")]
    return [_row(change) for change in shown]


def _row(change: Change) -> list[str]:
    described = metric(change.metric)
    name = STATUS if change.metric == STATUS else change.metric + _DIRECTION[described.lower_is_better]
    difference = ""
    if change.difference is not None:
        relative = change.relative
        difference = signed(change.difference) if relative is None else signed_percent(relative)
    interval = change.interval
    return [
        one_line(change.label, 80),
        one_line(name, 60),
        *(_value(change.metric, value) for value in (change.a, change.b)),
        difference,
        "" if interval is None else f"{signed(interval.low)} to {signed(interval.high)}",
        "" if change.tolerance is None else f"{100 * change.tolerance:g} %",
        f"{change.verdict}: {change.note}" if _worth_saying(change) else change.verdict,
    ]


def _worth_saying(change: Change) -> bool:
    return bool(change.note) and change.verdict != "same"


def _value(name: str, value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return of_kind(metric(name).kind, value)
