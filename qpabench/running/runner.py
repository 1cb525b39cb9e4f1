"""Runs what a plan says: every planned cell ends with a record."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qpabench.errors import DamagedError, RecordError
from qpabench.hooks.manager import Registry
from qpabench.records.record import Record
from qpabench.records.store import MANIFEST_VERSION, RunDirectory
from qpabench.running.executor import CHECKPOINT_MINUTES, Events, Executor, Job, Limits
from qpabench.suite.plan import FAILURES, Plan, PlannedCell
from qpabench.suite.variance import Point
from qpabench.training.keys import features_key


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        statuses: how many cells ended how, cached ones included.
        failures: (label, status, reason) of those that count as failures.
        refused: how many cells a (status, reason) pair kept from running.
        complaints: one line for each plugin whose event hook raised, and each checkpoint set aside.
    """

    statuses: dict[str, int]
    failures: list[tuple[str, str, str]]
    refused: dict[tuple[str, str], int]
    complaints: list[str]

    @property
    def exit_code(self) -> int:
        """0 when every cell is ok, unsupported or unavailable; else 1."""
        return 1 if self.failures else 0


class _Told:
    """Passes events on to the display and to plugins."""

    def __init__(self, inner: Events, registry: Registry, directory: RunDirectory) -> None:
        self.inner, self.registry, self.directory = inner, registry, directory
        self.complaints: list[str] = []

    def started(self, job: Job, what: str) -> None:
        """Tell display and plugins."""
        self.inner.started(job, what)
        if what == "cell":
            self.complaints += self.registry.tell("qpabench_cell_started", cell=dict(job.cell))

    def progress(self, job: Job, what: str, done: int, total: int, loss: float | None) -> None:
        """Tell the display."""
        self.inner.progress(job, what, done, total, loss)

    def finished(self, job: Job) -> None:
        """Tell display and plugins."""
        self.inner.finished(job)
        with suppress(RecordError):
            record = self.directory.read(job.id)
            if record is None:
                return
            self.complaints += record.timing.get("checkpoint_trouble", [])
            self.complaints += self.registry.tell("qpabench_cell_finished", record=as_mapping(record))

    def warn(self, text: str) -> None:
        """Tell the display."""
        self.inner.warn(text)


def as_mapping(record: Record) -> dict[str, Any]:
    """Return a record as plugins see it."""
    return {
        "cell": dict(record.cell),
        "status": record.status,
        "reason": record.reason,
        "metrics": dict(record.metrics),
        "timing": dict(record.timing),
        "provenance": dict(record.provenance),
    }


def run_plan(
    plan: Plan,
    registry: Registry,
    root: Path,
    events: Events,
    *,
    command: str,
    executor: str = "local",
    jobs: int = 1,
    fresh: bool = False,
) -> Outcome:
    """Run what is missing.

    Args:
        plan: from ``make_plan``.
        registry: where the executor is, and who listens.
        root: the run directory.
        events: a display.
        command: what was typed, for the report.
        executor: a name.
        jobs: cells at a time.
        fresh: cells run although they have a record.

    Returns:
        How the planned cells ended, those that were there already included.

    Raises:
        StorageError: a file can't be written or read; what was measured stays, the rest runs next time.
    """
    directory = RunDirectory(root)
    directory.sweep()
    directory.write_manifest(
        {
            "schema_version": MANIFEST_VERSION,
            "suite": plan.document.name,
            "title": plan.document.title,
            "summary": plan.document.summary,
            "version": plan.document.version,
            "profile": plan.document.profile,
            "command": command,
            "cells": [planned.cell.id for planned in plan.cells],
            **({"verdict": plan.verdict} if plan.verdict else {}),
            **({"variance": True} if plan.document.variance else {}),
            **({"members": list(plan.members)} if plan.members else {}),
            **({"figures": [dict(one) for one in plan.document.figures]} if plan.document.figures else {}),
            "select": {"validation": [p.cell.id for p in plan.cells if p.cell.select == "validation"]},
        }
    )
    limits = dict(plan.document.limits)
    minutes = limits.pop("checkpoint_minutes", CHECKPOINT_MINUTES)
    queue = []
    for planned in plan.cells:
        if planned.status in ("unsupported", "unavailable"):
            _record_refusal(directory, planned)
        elif planned.status == "run":
            key, known = _features(planned), directory.stamp(planned.cell.id)
            queue.append(Job(planned.cell.to_json(), key, root.absolute(), fresh, minutes, known))
    told = _Told(events, registry, directory)
    if queue:
        component = registry.find("executor", executor).entry.component()
        runner: Executor = component(jobs=jobs, limits=Limits(**limits))
        runner.run(queue, told)
    return _outcome(plan, directory, told.complaints)


def _features(planned: PlannedCell) -> str:
    """Return the key of the features a cell needs; empty for circuits on their own."""
    cell = planned.cell.cell if isinstance(planned.cell, Point) else planned.cell
    return "" if cell is None else features_key(cell)


def _record_refusal(directory: RunDirectory, planned: PlannedCell) -> None:
    """Write why a cell can't run, unless something measured is there."""
    try:
        present = directory.read(planned.cell.id)
    except DamagedError:
        present = None
    if present is None or present.status not in ("ok", *FAILURES):
        directory.write(Record(planned.cell.to_json(), planned.status, planned.reason))  # type: ignore[arg-type]


def _outcome(plan: Plan, directory: RunDirectory, complaints: list[str]) -> Outcome:
    statuses: Counter[str] = Counter()
    failures: list[tuple[str, str, str]] = []
    refused: Counter[tuple[str, str]] = Counter()
    for planned in plan.cells:
        status, reason = "failed", "no record was written"
        try:
            record = directory.read(planned.cell.id)
        except DamagedError as error:
            reason = str(error)
        else:
            if record is not None:
                status, reason = record.status, record.reason
        statuses[status] += 1
        if status in FAILURES:
            failures.append((planned.cell.label, status, reason))
        elif status != "ok":
            refused[status, reason] += 1
    return Outcome(dict(statuses), failures, dict(refused), complaints)
