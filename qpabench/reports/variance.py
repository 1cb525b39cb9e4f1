"""Gradient variances of a run as ladders: one observable and ansatz over qubits, or over repetitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from qpabench.errors import RecordError
from qpabench.records.record import Record
from qpabench.records.store import RunDirectory
from qpabench.reports.groups import canonical, flat
from qpabench.reports.trends import FEWEST_SIZES, HEAVY, Estimate, Floats, Trend, estimate, trend

Direction = Literal["n_qubits", "n_layers"]
SYMBOL: dict[Direction, str] = {"n_qubits": "N", "n_layers": "L"}
_OTHER: dict[Direction, Direction] = {"n_qubits": "n_layers", "n_layers": "n_qubits"}
_NAMES = {"local": "local observable (Z on qubit 0)", "global": "global observable (projector on 0…0)"}
#: what sizes are made of, and what gradients at random angles don't depend on
_SIZES = ("generator.chunk_size", "generator.n_layers")
_PARTS = ("model", "dataset", "target", "generator", "backend")


@dataclass(frozen=True, eq=False)
class Point:
    """One observable of one circuit size.

    Args:
        what: the observable, or which loss.
        ansatz: of the circuit.
        n_qubits, n_layers: its size.
        squares: (draws,) mean square over angles.
        estimate: the variance; None where it is zero but for rounding.
        record: id.
    """

    what: str
    ansatz: str
    n_qubits: int
    n_layers: int
    squares: Floats
    estimate: Estimate | None
    record: str

    def at(self, direction: Direction) -> int:
        """Return qubits or repetitions."""
        return self.n_qubits if direction == "n_qubits" else self.n_layers


@dataclass(frozen=True, eq=False)
class Ladder:
    """Points that differ in one size alone.

    Args:
        what, ansatz: of all of them.
        direction: which size.
        fixed: the other size.
        points: by size; those with a variance.
        zeros: sizes at which it is zero but for rounding.
    """

    what: str
    ansatz: str
    direction: Direction
    fixed: int
    points: tuple[Point, ...]
    zeros: tuple[int, ...]

    @property
    def estimates(self) -> list[Estimate]:
        """One a point."""
        return [point.estimate for point in self.points if point.estimate is not None]

    @cached_property
    def variance(self) -> Trend:
        """The trend of the variance."""
        return self._trend(median=False)

    @cached_property
    def median(self) -> Trend:
        """The trend of what a typical draw has."""
        return self._trend(median=True)

    @property
    def heavy(self) -> int:
        """At how many sizes one draw makes much of the variance."""
        return sum(one.largest > HEAVY for one in self.estimates)

    def _trend(self, *, median: bool) -> Trend:
        xs = [float(point.at(self.direction)) for point in self.points]
        return trend(xs, [point.squares for point in self.points], median=median)


def points_of(records: Sequence[Record], directory: RunDirectory, problems: list[str]) -> list[Point]:
    """Return every point measured.

    Args:
        records: of a run.
        directory: where their series are.
        problems: gets a line for each series that can't be read.
    """
    losses = _loss_names([record for record in records if _is_loss(record)])
    found: list[Point] = []
    for record in records:
        if record.status != "ok":
            continue
        try:
            series = directory.series(record.id)
        except RecordError:
            problems.append(f"{record.label}: records/{record.id}.npz cannot be read; it is left out")
            continue
        for name in _asked(record).get("observables") or []:
            squares = np.asarray(series.get(f"square_{name}", ()), dtype=np.float64)
            size = [record.metrics.get(key) for key in ("n_qubits", "n_layers")]
            if squares.ndim != 1 or not len(squares) or size[0] is None or size[1] is None:
                problems.append(f"{record.label}: its draws of {name} are missing; it is left out")
                continue
            what = losses[record.id] if _is_loss(record) else _NAMES.get(name, str(name))
            n_qubits, n_layers = int(size[0]), int(size[1])
            x = estimate(n_qubits, squares)
            found.append(
                Point(what, str(record.cell.get("ansatz")), n_qubits, n_layers, squares, x, record.id)
            )
    return found


def ladders(points: Sequence[Point], direction: Direction) -> list[Ladder]:
    """Return the ladders with enough sizes, losses first, in the order of the points.

    Args:
        points: of a run.
        direction: over qubits or over repetitions.
    """
    rungs: dict[tuple[str, int, str], dict[int, Point]] = {}
    for point in points:
        own = rungs.setdefault((point.what, point.at(_OTHER[direction]), point.ansatz), {})
        before = own.get(point.at(direction))
        if before is None or len(before.squares) < len(point.squares):
            own[point.at(direction)] = point
    found = []
    for (what, fixed, ansatz), by_size in rungs.items():
        ordered = [by_size[x] for x in sorted(by_size)]
        there = tuple(point for point in ordered if point.estimate is not None)
        zeros = tuple(point.at(direction) for point in ordered if point.estimate is None)
        if len(ordered) >= FEWEST_SIZES:
            found.append(Ladder(what, ansatz, direction, fixed, there, zeros))
    return sorted(found, key=lambda one: one.what in _NAMES.values())


def _asked(record: Record) -> Mapping[str, Any]:
    asked = record.cell.get("gradients")
    return asked if isinstance(asked, Mapping) else {}


def _is_loss(record: Record) -> bool:
    return _asked(record).get("cell") is not None


def _loss_names(records: Sequence[Record]) -> dict[str, str]:
    """Name losses by their protocol, and by what else tells them apart."""
    settings = {record.id: _settings(record) for record in records}
    presets: dict[str, list[dict[str, object]]] = {}
    for own in settings.values():
        presets.setdefault(str(own["protocol"]), []).append(own)
    names = {}
    for cell_id, own in settings.items():
        alike = presets[str(own["protocol"])]
        keys = dict.fromkeys(key for other in alike for key in other)
        differing = [k for k in keys if len({canonical(other.get(k)) for other in alike}) > 1]
        said = [f"{key} = {own.get(key)}" for key in differing]
        names[cell_id] = ", ".join([f"loss, {own['protocol']}", *said])
    return names


def _settings(record: Record) -> dict[str, object]:
    cell = record.cell
    options = cell.get("options")
    options = options if isinstance(options, Mapping) else {}
    found: dict[str, object] = {"protocol": cell.get("protocol")}
    for part in _PARTS:
        found |= {part: cell.get(part)} | flat(options.get(part), part)
    return {key: value for key, value in found.items() if key not in _SIZES}
