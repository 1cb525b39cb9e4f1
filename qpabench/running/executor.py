"""What an executor is: it takes jobs and sees to it that each ends with a record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from qpabench.records.provenance import usable_cores

CHECKPOINT_MINUTES = 5.0  # where a suite's limits say nothing


def threads_for(jobs: int) -> int:
    """Return the threads of one worker when that many run side by side."""
    return max(1, usable_cores() // jobs)


@dataclass(frozen=True)
class Job:
    """One cell to run.

    Args:
        cell: what ``Cell.to_json`` gave.
        features: key of the features it shares with other cells; empty where it needs none.
        run_directory: where its record goes.
        fresh: run it although a record is there.
        checkpoint_minutes: of wall time between two checkpoints; 0: never.
        known: ``RunDirectory.stamp`` of its record when the run was planned; a record written since then, by
            another runner, stands.
    """

    cell: Mapping[str, Any]
    features: str
    run_directory: Path
    fresh: bool = False
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    known: str | None = None

    @property
    def id(self) -> str:
        """The cell's id."""
        return str(self.cell["id"])


@dataclass(frozen=True)
class Limits:
    """What a cell may use.

    Args:
        timeout_seconds: wall time, None for any.
        memory_bytes: resident memory, None for any.
    """

    timeout_seconds: float | None = None
    memory_bytes: float | None = None


class Events(Protocol):
    """Told by an executor what happens; a progress display, for instance."""

    def started(self, job: Job, what: str) -> None:
        """Tell that a job (or its features) has begun."""

    def progress(self, job: Job, what: str, done: int, total: int, loss: float | None) -> None:
        """Tell how far a job is."""

    def finished(self, job: Job) -> None:
        """Tell that a job has its record."""

    def warn(self, text: str) -> None:
        """Tell what a person should know, for instance that a damaged file was made again."""


@dataclass
class Executor(ABC):
    """Runs jobs; a subclass implements ``run``.

    Args:
        jobs: how many at a time.
        limits: per cell.
    """

    jobs: int = 1
    limits: Limits = field(default_factory=Limits)

    @abstractmethod
    def run(self, jobs: Sequence[Job], events: Events) -> None:
        """Run every job; each leaves a record, whatever happens to it.

        Args:
            jobs: in the order of the suite; cells with equal ``features`` share them.
            events: told what happens.
        """
