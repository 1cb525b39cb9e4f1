"""Which published numbers can stand as points on a figure's axes, and how they must be labelled there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qpabench.reports.groups import Context
from qpabench.reports.published import Published, family_of, ledger_of, nearest_measured, published

#: a published value further from all measured ones than this factor would only squash them
FAR_FACTOR = 20.0
#: read back from the counts, the same on any machine and for any text
COUNTED = ("n_trainable", "n_qubits", "chunk_size", "target.rank")


@dataclass(frozen=True)
class Points:
    """Published points of one kind on one pair of axes.

    Args:
        label: for the legend.
        comparable: False where they were measured under other conditions.
        kind: target and generator, as a line is named.
        at: (x, y) of each.
    """

    label: str
    comparable: bool
    kind: str
    at: tuple[tuple[float, float], ...]


def points_of(suite: object, context: Context, x: str, y: str) -> list[Points]:
    """Return the published points that belong on a figure of a suite.

    Args:
        suite: its name; a published value says whose figure it belongs to, qubits over parameters fit any.
        context: whose cells are drawn; a model of another family than the published one gets no points
            unless it belongs to none, as SmolLM2.
        x, y: of the axes.
    """
    found: dict[tuple[str, bool, str], set[tuple[float, float]]] = {}
    for value in published():
        own = suite in value.suites or ((x, y) == ("n_trainable", "n_qubits") and x in value.values)
        where = (_at(value, x), _at(value, y)) if own and _fits(value, context) else (None, None)
        if where[0] is None or where[1] is None:
            continue
        comparable, apart = _conditions(value, context, x, y)
        label = f"published, {value.column.split()[0]}{apart}"
        kind = f"{value.cell['target']} · {value.cell['generator']}"
        found.setdefault((label, comparable, kind), set()).add((where[0], where[1]))
    return [Points(*key, tuple(sorted(at))) for key, at in found.items()]


def split_far(points: Sequence[Points], measured: Sequence[float]) -> tuple[list[Points], list[Points]]:
    """Return those to draw, and those whose values lie far off the measured ones and aren't comparable.

    Args:
        points: of one pair of axes.
        measured: values on the axis of y, positive.
    """
    low, high = min(measured) / FAR_FACTOR, max(measured) * FAR_FACTOR
    near = [one for one in points if one.comparable or all(low <= y <= high for _, y in one.at)]
    return near, [one for one in points if one not in near]


def _conditions(value: Published, context: Context, x: str, y: str) -> tuple[bool, str]:
    if x in COUNTED and y in COUNTED:
        return True, ""
    nearest = nearest_measured(value, [context])
    if nearest is not None and not nearest.apart:
        return True, ""
    models = {group.cell.get("model") for group in context.groups}
    return False, " (other conditions)" if value.cell["model"] in models else " (other model)"


def _fits(value: Published, context: Context) -> bool:
    """Whether a value is of a context's model, or the context's model is of no published family."""
    families = {family_of(str(group.cell.get("model"))) for group in context.groups}
    models = {group.cell.get("model") for group in context.groups}
    if families & {family_of(value.cell["model"])}:
        of_one = {one.cell["model"] for one in published()} & models
        return not of_one or value.cell["model"] in of_one
    return families == {None}


def _at(value: Published, name: str) -> float | None:
    """Return a published value's place on an axis; None where the paper prints none."""
    if name in value.values:
        return value.values[name]
    if name == "target.rank":
        rank: float | None = value.cell.get("rank")
        return rank
    counts: Mapping[str, float | None] = ledger_of(value)
    return counts.get(name)
