"""Reads a run directory and sorts its records into groups and contexts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qpabench.errors import RecordError
from qpabench.records.record import Record
from qpabench.records.store import RunDirectory
from qpabench.reports.groups import Context, Group, canonical, flat
from qpabench.reports.metrics import BASE_PREFIX
from qpabench.reports.names import without_shared
from qpabench.reports.statistics import RowSums, row_sums

#: base values of one context further apart than this (relative) deserve a warning
BASE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Run:
    """Everything a report is made from.

    Args:
        manifest: ``run.json``.
        records: in plan order.
        named: the same, their labels without what all cells share.
        shared: that.
        usual: options that a generator has wherever it occurs, left out of names too.
        absent: planned cell ids without a readable record, with what is known of it.
        contexts: the ok records, grouped.
        problems: series that couldn't be read.
    """

    manifest: Mapping[str, Any]
    records: tuple[Record, ...]
    named: tuple[Record, ...]
    shared: tuple[str, ...]
    usual: tuple[str, ...]
    absent: tuple[tuple[str, str], ...]
    contexts: tuple[Context, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> list[Record]:
        """Records of cells that ended well."""
        return [record for record in self.records if record.status == "ok"]


def load_run(root: Path, member: Mapping[str, Any] | None = None) -> Run:
    """Read a run directory.

    Args:
        root: the directory.
        member: one of the manifest's ``members``; only its cells are read then.

    Raises:
        InputError: it isn't one.
    """
    directory = RunDirectory(root)
    manifest = directory.manifest()
    if member is not None:
        planned = set(manifest["cells"])
        cells = [str(cell) for cell in member["cells"] if cell in planned]
        manifest = {**manifest, **member, "suite": member["name"], "cells": cells, "verdict": None}
    records: list[Record] = []
    absent: list[tuple[str, str]] = []
    for cell_id in dict.fromkeys(manifest["cells"]):
        try:
            record = directory.read(cell_id)
        except RecordError as error:
            # a damaged file has been set aside and will be absent next time: say the same both times
            note = str(error).removeprefix(f"{directory.records / (cell_id + '.json')}: ")
            record = None
        else:
            note = "no record yet"
        if record is not None:
            records.append(record)
        elif (directory.records / "damaged" / f"{cell_id}.json").exists():
            absent.append((cell_id, "its record was damaged and lies in records/damaged"))
        else:
            absent.append((cell_id, note))
    problems: list[str] = []
    named, shared, usual = without_shared(records)
    contexts = _contexts([record for record in named if record.status == "ok"], directory, problems)
    return Run(manifest, tuple(records), named, shared, usual, tuple(absent), contexts, tuple(problems))


def _contexts(records: Iterable[Record], directory: RunDirectory, problems: list[str]) -> tuple[Context, ...]:
    by_context: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        runs = by_context.setdefault(canonical(_context_of(record)), {})
        runs.setdefault(canonical(_without_seed(record)), []).append(record)
    settings = [flat(_context_of(next(iter(runs.values()))[0])) for runs in by_context.values()]
    return tuple(
        _context(_title(own, settings), list(runs.values()), directory, problems)
        for own, runs in zip(settings, by_context.values(), strict=True)
    )


def _context(
    title: str, runs: Sequence[list[Record]], directory: RunDirectory, problems: list[str]
) -> Context:
    groups = [_group(sorted(some, key=_seed), directory, problems) for some in runs]
    groups.sort(key=lambda g: (g.log_perplexity is None, g.log_perplexity or 0.0, g.label))
    base: dict[str, float] = {}
    apart: list[str] = []
    for name in sorted(
        {n for g in groups for r in g.records for n in r.metrics if n.startswith(BASE_PREFIX)}
    ):
        values = sorted(value for group in groups for value in group.values(name))
        base[name.removeprefix(BASE_PREFIX)] = values[len(values) // 2]
        if values[-1] - values[0] > BASE_TOLERANCE * abs(values[-1]):
            apart.append(f"{name} ranges from {values[0]:.6g} to {values[-1]:.6g}")
    warnings: tuple[str, ...] = ()
    if apart:
        warnings = (
            f"Cells disagree on the untrained base ({'; '.join(apart)}): they were not evaluated alike, "
            "look at their hardware and versions before comparing them. The median is shown.",
        )
    return Context(title, tuple(groups), base, warnings)


def _group(records: Sequence[Record], directory: RunDirectory, problems: list[str]) -> Group:
    nll: dict[str, RowSums] = {}
    base_nll: dict[str, RowSums] = {}
    for record in records:
        try:
            series = directory.series(record.id)
        except RecordError:
            problems.append(f"{record.label}: records/{record.id}.npz cannot be read; intervals leave it out")
            continue
        for name, sums in (("test_nll", nll), ("base_test_nll", base_nll)):
            if name in series and "test_row" in series:
                summed = row_sums(series[name], series["test_row"])
                if summed is not None:
                    sums[record.id] = summed
    return Group(tuple(records), nll, base_nll)


def _context_of(record: Record) -> dict[str, Any]:
    cell = record.cell
    options = cell.get("options")
    options = options if isinstance(options, Mapping) else {}
    return {
        "model": cell.get("model"),
        "dataset": cell.get("dataset"),
        "data": cell.get("data"),
        "options": {part: options.get(part) for part in ("model", "dataset", "evaluate")},
    }


def _seed(record: Record) -> tuple[bool, int, str]:
    seed = record.cell.get("seed")
    return (True, seed, "") if isinstance(seed, int) else (False, 0, str(seed))


def _without_seed(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.cell.items() if key not in ("id", "label", "seed")}


def _title(own: Mapping[str, Any], settings: Sequence[Mapping[str, Any]]) -> str:
    title = f"{own.get('model')} on {own.get('dataset')}"
    alike = [
        s for s in settings if (s.get("model"), s.get("dataset")) == (own.get("model"), own.get("dataset"))
    ]
    differing = [k for k in own if any(canonical(s.get(k)) != canonical(own[k]) for s in alike)]
    shown = [f"{key.removeprefix('options.')} = {own[key]}" for key in differing]
    return f"{title} ({', '.join(shown)})" if shown else title
