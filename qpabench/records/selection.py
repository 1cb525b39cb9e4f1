"""Chooses learning rates on the validation split, from records alone; test figures play no part.

Cells that differ in nothing but their learning rates (and seed) are candidates for one another. The candidate
with the lowest mean validation NLL over seeds is selected, if it has a figure for every seed that any
candidate was planned with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from qpabench.records.record import Record

CRITERION = "validation_perplexity_masked"
#: what candidates may differ in, under ``options.train``
RATES = ("learning_rate", "learning_rate_theta")


@dataclass(frozen=True)
class Candidate:
    """Runs of one cell that differ in their seed alone.

    Args:
        records: whatever their status, by seed.
        nats: mean validation NLL per token over seeds; None where a seed has no figure.
    """

    records: tuple[Record, ...]
    nats: float | None

    @property
    def rates(self) -> tuple[float | None, ...]:
        """Learning rate, and that of theta where it was set."""
        train = _train(self.records[0])
        return tuple(train.get(name) for name in RATES)

    @property
    def validation(self) -> float | None:
        """exp of ``nats``: the validation perplexity it is chosen by."""
        return None if self.nats is None else math.exp(self.nats)


@dataclass(frozen=True)
class Selection:
    """Candidates for one another, in the order of the plan, and the one selected.

    Args:
        candidates: at least one.
        chosen: None where no candidate has all its figures.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate | None


def selections(records: Iterable[Record], wanted: Collection[str]) -> list[Selection]:
    """Choose among the records of a run.

    Args:
        records: of any status.
        wanted: ids of the cells for which the suite says ``select = "validation"``.

    Returns:
        One selection for each set of cells that differ only in learning rates and seed.
    """
    families: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        if record.id in wanted:
            rates = [_train(record).get(name) for name in RATES]
            family = families.setdefault(_family(record), {})
            family.setdefault(json.dumps(rates), []).append(record)
    return [_select(list(family.values())) for family in families.values()]


def _select(runs: list[list[Record]]) -> Selection:
    seeds = {record.cell.get("seed") for records in runs for record in records}
    candidates = tuple(_candidate(records, seeds) for records in runs)
    with_figures = [one for one in candidates if one.nats is not None]
    chosen = min(with_figures, key=lambda one: one.nats or 0.0, default=None)
    return Selection(candidates, chosen)


def _candidate(records: list[Record], seeds: set[Any]) -> Candidate:
    found = {
        record.cell.get("seed"): math.log(record.metrics[CRITERION])
        for record in records
        if record.status == "ok" and record.metrics.get(CRITERION, 0) > 0
    }
    nats = sum(found.values()) / len(found) if found.keys() == seeds else None
    return Candidate(tuple(sorted(records, key=lambda record: str(record.cell.get("seed")))), nats)


def _train(record: Record) -> dict[str, Any]:
    options = record.cell.get("options")
    train = options.get("train") if isinstance(options, dict) else None
    return train if isinstance(train, dict) else {}


def _family(record: Record) -> str:
    cell = {key: value for key, value in record.cell.items() if key not in ("id", "label", "seed", "options")}
    options = record.cell.get("options")
    options = dict(options) if isinstance(options, dict) else {}
    options["train"] = {key: value for key, value in _train(record).items() if key not in RATES}
    return json.dumps([cell, options], sort_keys=True, default=str)
