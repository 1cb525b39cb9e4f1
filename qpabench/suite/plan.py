"""What would run: each cell with its status and reason, from the suite and the records alone."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from qpabench.errors import InputError, one_line
from qpabench.hooks.manager import Registry
from qpabench.hub import forbidden_hub
from qpabench.suite.cell import Cell, Choice
from qpabench.suite.document import Document, read_document
from qpabench.suite.expand import MAX_CELLS, expand_parts
from qpabench.suite.select import selection
from qpabench.suite.variance import Point, points_of
from qpabench.suite.verdict import resolve

PlanStatus = Literal["run", "cached", "unsupported", "unavailable"]
#: Statuses that are tried anew only with ``--retry-failed``.
FAILURES = ("failed", "timeout", "out-of-memory")


class Finished(Protocol):
    """What the plan asks of the records: (status, reason) of a cell that has one, else None."""

    def __call__(self, cell_id: str, /) -> tuple[str, str] | None: ...


@dataclass(frozen=True)
class PlannedCell:
    """A cell and what would be done with it."""

    cell: Cell | Point
    status: PlanStatus
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields of ``plan --json``."""
        return {**self.cell.summary(), "status": self.status, "reason": self.reason}


@dataclass(frozen=True)
class Plan:
    """A suite's cells in order.

    Args:
        document: the suite.
        cells: those selected.
        verdict: what shall be decided, by cell ids; empty when the suite has no ``[verdict]``.
        members: where a suite includes others, of each part with cells ``name``, ``title``, ``summary``,
            ``figures`` and ``cells`` (ids).
    """

    document: Document
    cells: tuple[PlannedCell, ...]
    verdict: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[Mapping[str, Any], ...] = ()


def make_plan(
    path: Path,
    registry: Registry,
    *,
    profile: str | None = None,
    settings: Sequence[str] = (),
    only: str | None = None,
    max_cells: int = MAX_CELLS,
    finished: Finished | None = None,
    retry_failed: bool = False,
    fresh: bool = False,
) -> Plan:
    """Read a suite and decide what to do with each cell; loads neither weights nor data.

    Args:
        path, profile, settings: as in ``read_document``.
        registry: where the components are.
        only: an expression, see ``selection``.
        max_cells: as in ``expand``.
        finished: looks up records.
        retry_failed: cells that failed earlier run again.
        fresh: every cell runs again.

    Raises:
        InputError: the suite is wrong, or nothing is left by ``only``.
    """
    document = read_document(path, profile, settings)
    parts = expand_parts(document, registry, max_cells)
    cells = list({cell.id: cell for _, own in parts for cell in own}.values())
    asked = document.verdict
    verdict = resolve(document.source, asked, cells) if asked is not None else {}
    planned_cells: list[Cell | Point] = [*cells]
    if document.variance is not None:
        planned_cells = [*points_of(document.source, document.variance, cells, registry, max_cells)]
    if only:
        keep = selection(only)
        kept = [cell for cell in planned_cells if keep(cell)]
        if not kept:
            raise InputError(
                f"--only {one_line(only, 80)!r}: none of the {len(planned_cells)} cells matches; "
                "see `qpabench plan`"
            )
        planned_cells = kept
    look_up: Callable[[str], tuple[str, str] | None] = finished or (lambda cell_id: None)
    planned = []
    missing: dict[str, str | None] = {}
    for cell in planned_cells:
        planned.append(_decide(cell, None if fresh else look_up(cell.id), retry_failed, missing))
    return Plan(
        document, tuple(planned), verdict, _members(document, parts, {cell.id for cell in planned_cells})
    )


def _members(
    document: Document, parts: Sequence[tuple[Document, Sequence[Cell]]], kept: Container[str]
) -> tuple[Mapping[str, Any], ...]:
    members = []
    for part, own in parts:
        ids = [cell.id for cell in own if cell.id in kept]
        if document.members and ids:
            about = {"name": part.name, "title": part.title, "summary": part.summary}
            members.append({**about, "figures": [dict(one) for one in part.figures], "cells": ids})
    return tuple(members)


def _missing(choice: Choice) -> str | None:
    """Ask a component what it lacks; one that can't say isn't there."""
    try:
        return choice.options.missing()
    except Exception as error:  # a plugin's own code
        return f"cannot tell what is missing ({type(error).__name__}: {one_line(error, 160)})"


def _decide(
    cell: Cell | Point, found: tuple[str, str] | None, retry_failed: bool, missing: dict[str, str | None]
) -> PlannedCell:
    if cell.unsupported:
        return PlannedCell(cell, "unsupported", cell.unsupported)
    if found is not None:
        status, reason = found
        if status == "ok":
            return PlannedCell(cell, "cached", "")
        if status == "unsupported":
            return PlannedCell(cell, "unsupported", reason)
        if status in FAILURES and not retry_failed:
            return PlannedCell(cell, "cached", f"{status} earlier: {reason} (--retry-failed runs it again)")
    for choice in cell.choices:
        if choice.identity not in missing:
            missing[choice.identity] = _missing(choice)
        lacking = missing[choice.identity]
        if lacking:
            return PlannedCell(cell, "unavailable", f"{choice.entry.kind} {choice.name}: {lacking}")
    return PlannedCell(cell, "run", "")


def profile_that_runs(path: Path, registry: Registry, profiles: Iterable[str], max_cells: int) -> str | None:
    """Return the first profile all of whose cells could run with what is on this machine, without the hub.

    Args:
        path: of the suite.
        registry: loaded plugins.
        profiles: names, in the order in which they are tried.
        max_cells: as in ``make_plan``.
    """
    with forbidden_hub():
        for name in profiles:
            try:
                cells = make_plan(path, registry, profile=name, max_cells=max_cells).cells
            except InputError:
                continue
            if all(planned.status == "run" for planned in cells):
                return name
    return None
