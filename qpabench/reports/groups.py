"""Records put side by side: runs of one cell over seeds, and the cells that may be compared."""

from __future__ import annotations

import json
import math
import re
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
    """Whether no other cell ran beside it, as far as the record says."""
    return record.timing.get("alone") is True


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
        """Whether every run had the machine to itself."""
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

    @property
    def base_nats(self) -> float | None:
        """Masked NLL per token of the untrained model, nats."""
        value = self.base.get(RANKED_BY)
        return math.log(value) if value is not None and value > 0 else None

    def against_base(self, group: Group) -> Difference | None:
        """Compare a cell with the untrained model."""
        if group.log_perplexity is None or self.base_nats is None:
            return None
        values = [math.log(value) - self.base_nats for value in group.values(RANKED_BY) if value > 0]
        interval = over_seeds(values) or _rows_interval(group.base_nll, group.nll)
        return Difference(group.log_perplexity - self.base_nats, interval)

    def references(self, group: Group) -> list[Group]:
        """Return the direct cells of the same target, best first; of the same protocol if any is."""
        target, protocol = group.cell.get("target"), group.cell.get("protocol")
        same = [g for g in self.groups if g.is_reference and g.cell.get("target") == target]
        same = [g for g in same if g is not group and g.log_perplexity is not None]
        return [g for g in same if g.cell.get("protocol") == protocol] or same

    def nearest_reference(self, group: Group) -> Group | None:
        """Return the directly trained cell of the same target that is nearest in trainable parameters."""
        own = group.counted("n_trainable")
        sized = [(g, g.counted("n_trainable")) for g in self.references(group)]
        near = [(abs(math.log(size / own)), i) for i, (_, size) in enumerate(sized) if own and size]
        return sized[min(near)[1]][0] if near else None


def difference(group: Group, other: Group) -> Difference | None:
    """Compare two cells: paired by seed where they share two, else by test row."""
    if group.log_perplexity is None or other.log_perplexity is None:
        return None
    by_seed = [
        {r.cell.get("seed"): r.metrics[RANKED_BY] for r in g.records if r.metrics.get(RANKED_BY, 0) > 0}
        for g in (group, other)
    ]
    shared = [seed for seed in by_seed[0] if seed in by_seed[1]]
    paired = over_seeds([math.log(by_seed[0][seed] / by_seed[1][seed]) for seed in shared])
    return Difference(
        group.log_perplexity - other.log_perplexity, paired or _rows_interval(other.nll, group.nll)
    )


def _rows_interval(a: Mapping[str, RowSums], b: Mapping[str, RowSums]) -> Interval | None:
    mean_a, mean_b = average(list(a.values())), average(list(b.values()))
    return None if mean_a is None or mean_b is None else paired_bootstrap(mean_a, mean_b)
