"""How long the phases of training take: by the host's clock, or by events in a GPU's stream.

Work is only queued on a GPU: the host's clock would time the queueing. An event is recorded behind what was
queued before it; times between events are read once they have passed, so that no step waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch


@runtime_checkable
class Event(Protocol):
    """What is asked of ``torch.cuda.Event``."""

    def record(self) -> None: ...
    def synchronize(self) -> None: ...
    def elapsed_time(self, end_event: Any) -> float: ...


@dataclass
class Stopwatch:
    """Seconds per phase, and of each step.

    Args:
        event: makes events; None: the host's clock is read.
        seconds: by phase.
        laps: of steps, not yet taken by ``taken_laps``.
        muted: notes nothing of circuits, whose passes are then part of a recorded graph, or of a search.
    """

    event: Callable[[], Event] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    laps: list[float] = field(default_factory=list)
    muted: bool = False
    _spans: list[tuple[str | None, Any, Any]] = field(default_factory=list)

    @classmethod
    def on(cls, device: torch.device) -> Stopwatch:
        """Return the stopwatch for a device."""
        if device.type != "cuda":
            return cls()
        return cls(lambda: torch.cuda.Event(enable_timing=True))  # of the device it is recorded on

    def now(self) -> Any:
        """Return a mark: what lies between two of them is timed."""
        if self.event is None:
            return time.perf_counter()
        mark = self.event()
        mark.record()
        return mark

    def add(self, phase: str, started: Any) -> None:
        """Add the time since a mark to a phase."""
        self._note(phase, started)

    def lap(self, started: Any) -> None:
        """Note the time since a mark as that of the next step."""
        self._note(None, started)

    def reset(self) -> None:
        """Forget everything so far."""
        self.seconds.clear()
        self.laps.clear()
        self._spans.clear()

    def settle(self) -> None:
        """Wait for the events noted so far, and add up what lies between them."""
        if self._spans:
            self._spans[-1][2].synchronize()
        for phase, started, ended in self._spans:
            self._count(phase, started.elapsed_time(ended) / 1000)
        self._spans.clear()

    def taken_laps(self) -> list[float]:
        """Return the seconds of the steps since the last call."""
        taken, self.laps = self.laps, []
        return taken

    def _note(self, phase: str | None, started: Any) -> None:
        if self.event is None:
            self._count(phase, time.perf_counter() - started)
        else:
            self._spans.append((phase, started, self.now()))

    def _count(self, phase: str | None, seconds: float) -> None:
        if phase is None:
            self.laps.append(seconds)
        else:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
