"""Records put side by side: runs of one cell over seeds, and the cells that may be compared."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from qpabench.records.record import Record
from qpabench.reports.metrics import RANKED_BY
from qpabench.reports.statistics import (
    Interval,
    RowSums,
    average,
    mean_and_spread,
    over_seeds,
    paired_bootstrap,
)

#: the generator whose numbers are trained as they are: classical PEFT, what the others are held against
REFERENCE_GENERATOR = "direct"
_SEED_TEXT = re.compile(r"[\s,;·|/-]*\bseed[\s=:]*\d+\b")


def flat(value: object, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys; lists stay whole."""
    if isinstance(value, Mapping):
        merged: dict[str, Any] = {}
        for key, inner in value.items():
            merged |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return merged
    return {prefix: value}


def canonical(value: object) -> str:
    """Return a value as JSON with sorted keys, for comparing and grouping."""
    return json.dumps(value, sort_keys=True, default=str)


def alone(record: Record) -> bool:
    """Whether it ran in one go with no other cell beside it, as far as the record says."""
    return record.timing.get("alone") is True and not resumed(record)


def resumed(record: Record) -> bool:
    """Whether it was stopped and went on from a checkpoint."""
    return bool(record.timing.get("resumed_at_steps"))


def phases(record: Record) -> dict[str, float]:
    """Return the seconds of each phase, in the record's own terms."""
    found = record.timing.get("phases")
    if not isinstance(found, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
    }


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one cell that differ in their seed alone.

    Args:
        records: ok records, by seed.
        nll: NLL per test row of each record that kept it.
        base_nll: the same of the untrained base.
    """

    records: tuple[Record, ...]
    nll: Mapping[str, RowSums] = field(default_factory=dict)
    base_nll: Mapping[str, RowSums] = field(default_factory=dict)

    @property
    def cell(self) -> Mapping[str, Any]:
        """The cell of the first seed."""
        return self.records[0].cell

    @property
    def n(self) -> int:
        """How many runs."""
        return len(self.records)

    @cached_property
    def label(self) -> str:
        """The cells' label, without the seed when there are several."""
        labels = {record.label for record in self.records}
        if len(labels) > 1:
            labels = {_SEED_TEXT.sub("", label).strip() for label in labels}
        return min(labels)

    @property
    def is_reference(self) -> bool:
        """Whether the target's numbers are trained directly."""
        return self.cell.get("generator") == REFERENCE_GENERATOR

    @property
    def kind(self) -> str:
        """What is compared as a method: target and generator."""
        return f"{self.cell.get('target')} by {self.cell.get('generator')}"

    @property
    def alone(self) -> bool:
        """Whether every run had the machine to itself, in one go."""
        return all(alone(record) for record in self.records)

    def values(self, name: str) -> list[float]:
        """Return a metric of each run that has it."""
        return [float(record.metrics[name]) for record in self.records if name in record.metrics]

    def mean(self, name: str) -> float | None:
        """Return a metric's mean over runs; None when no run has it."""
        values = self.values(name)
        return mean_and_spread(values)[0] if values else None

    def counted(self, name: str) -> float | None:
        """Return a count that is a metric or a field of the cell."""
        found = self.records[0].metrics.get(name, self.cell.get(name))
        return float(found) if isinstance(found, (int, float)) else None

    def trained(self, key: str) -> object:
        """Return an option of the training; None where the record doesn't have it."""
        found: object = self.cell
        for part in ("options", "train", key):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    @cached_property
    def log_perplexity(self) -> float | None:
        """Mean masked NLL per token over runs, nats: what cells are ranked by."""
        values = [math.log(value) for value in self.values(RANKED_BY) if value > 0]
        return mean_and_spread(values)[0] if values else None


@dataclass(frozen=True)
class Difference:
    """How one cell's masked NLL differs from another's; negative is better.

    Args:
        nats: difference of the means, nats per token.
        interval: its 95 % interval, where it can be had.
    """

    nats: float
    interval: Interval | None

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, ``not told apart`` or ``equal``."""
        if self.interval is not None and not self.interval.excludes_zero:
            return "equal" if self.nats == 0 else "not told apart"
        return "better" if self.nats < 0 else "worse" if self.nats > 0 else "equal"


@dataclass(frozen=True, eq=False)
class Context:
    """Cells whose numbers may be compared: same model, data and evaluation.

    Args:
        title: which model on which data.
        groups: by masked NLL, best first, those without one last.
        base: metrics of the untrained model.
        warnings: what a reader must know before comparing.
    """

    title: str
    groups: tuple[Group, ...]
    base: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    _known: dict[tuple[Group, Group | None], Difference] = field(default_factory=dict, repr=False)
    _sorted: dict[tuple[Group, ...], list[tuple[float, Group]]] = field(default_factory=dict, repr=False)

    @property
    def base_nats(self) -> float | None:
        """Masked NLL per token of the untrained model, nats."""
        value = self.base.get(RANKED_BY)
        return math.log(value) if value is not None and value > 0 else None

    def place(self, group: Group) -> int:
        """Return a ranked cell's place, 1 being the best."""
        return self._places[group]

    @cached_property
    def _places(self) -> dict[Group, int]:
        return {group: place for place, group in enumerate(self.groups, start=1)}

    def against_base(self, group: Group) -> Difference | None:
        """Compare a cell with the untrained model."""
        if group.log_perplexity is None or self.base_nats is None:
            return None
        if (group, None) not in self._known:
            values = [math.log(value) - self.base_nats for value in group.values(RANKED_BY) if value > 0]
            interval = over_seeds(values) or _rows_interval(group.base_nll, group.nll)
            self._known[group, None] = Difference(group.log_perplexity - self.base_nats, interval)
        return self._known[group, None]

    def against(self, group: Group, other: Group) -> Difference | None:
        """Compare two cells: paired by seed where they share two, else by test row."""
        if group.log_perplexity is None or other.log_perplexity is None:
            return None
        if (group, other) not in self._known:
            interval = over_seeds(_paired_by_seed(group, other)) or _rows_interval(other.nll, group.nll)
            self._known[group, other] = Difference(group.log_perplexity - other.log_perplexity, interval)
        return self._known[group, other]

    def best_reference(self, group: Group) -> Group | None:
        """Return the best direct cell of the same target, and of the same protocol if there is one."""
        found = self._references_of(group)
        return found[0] if found else None

    def nearest_reference(self, group: Group) -> Group | None:
        """Return the one of those nearest in trainable parameters, of the same loss if there is one."""
        own = group.counted("n_trainable")
        found = self._references_of(group)
        found = tuple(one for one in found if one.trained("loss") == group.trained("loss")) or found
        if not own or not found:
            return None
        by_size = self._by_size(found)
        place = bisect_left(by_size, own, key=lambda one: one[0])
        near = by_size[max(0, place - 1) : place + 1]
        return min(near, key=lambda one: max(one[0], own) / min(one[0], own))[1] if near else None

    def _by_size(self, groups: tuple[Group, ...]) -> list[tuple[float, Group]]:
        if groups not in self._sorted:
            sized = [(size, group) for group in groups if (size := group.counted("n_trainable"))]
            self._sorted[groups] = sorted(sized, key=lambda one: one[0])
        return self._sorted[groups]

    def _references_of(self, group: Group) -> tuple[Group, ...]:
        target, protocol = group.cell.get("target"), group.cell.get("protocol")
        same = self._references.get((target, protocol)) or self._references.get((target, None)) or ()
        return () if group.is_reference else same

    @cached_property
    def _references(self) -> dict[tuple[object, object], tuple[Group, ...]]:
        found: dict[tuple[object, object], list[Group]] = {}
        for group in self.groups:
            if group.is_reference and group.log_perplexity is not None:
                for protocol in (group.cell.get("protocol"), None):
                    found.setdefault((group.cell.get("target"), protocol), []).append(group)
        return {key: tuple(groups) for key, groups in found.items()}


def _paired_by_seed(group: Group, other: Group) -> list[float]:
    ours, theirs = (
        {r.cell.get("seed"): r.metrics[RANKED_BY] for r in g.records if r.metrics.get(RANKED_BY, 0) > 0}
        for g in (group, other)
    )
    return [math.log(value / theirs[seed]) for seed, value in ours.items() if seed in theirs]


def _rows_interval(a: Mapping[str, RowSums], b: Mapping[str, RowSums]) -> Interval | None:
    mean_a, mean_b = average(list(a.values())), average(list(b.values()))
    return None if mean_a is None or mean_b is None else paired_bootstrap(mean_a, mean_b)
