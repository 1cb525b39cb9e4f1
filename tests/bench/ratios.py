"""Ratios of times measured side by side, and what is a slow-down.

A time says little about another machine or another hour; the ratio of two times from one run does. Rivals
take turns, so that whatever else the machine does hits all of them; each ratio is one of medians.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from qpabench import compiled

SCHEMA_VERSION = 2
TOLERANCE = 0.25  # a ratio may be worse by so much before it is called slower
FEW_ROUNDS = 3
NOISE_OF_FEW = 0.5  # what fewer rounds than that are taken to vary by
BURST_SECONDS = 0.02  # a quick call is repeated so long, and its mean taken
Better = Literal["low", "high"]
Baseline = Mapping[str, Mapping[str, Any]]  # by name: value, better


@dataclass(frozen=True)
class Ratio:
    """One measured ratio.

    Args:
        name: unique; the key in the baseline.
        value: the ratio (or, for a size, the size over its limit).
        noise: relative half-width of its interval in this run.
        better: whether low or high is good.
        target: what the value should reach; None: only watched.
        shown: the measured times, for a person.
        gated: False for a time over a fixed limit, which says nothing about another machine.
    """

    name: str
    value: float
    noise: float
    better: Better
    target: float | None = None
    shown: str = ""
    gated: bool = True

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "low" else self.value >= self.target


class Clock:
    """Processor time of this process; with ``--wall`` the time that passes.

    What else the machine does hardly changes the first, which with one thread is what the second would be on
    an idle machine. Other processes have to be timed by the second in any case, and so has a GPU, whose queue
    is waited for.
    """

    wall = False
    device = torch.device("cpu")

    @classmethod
    def on_gpu(cls) -> bool:
        """Say whether a GPU is measured."""
        return cls.device.type == "cuda"

    @classmethod
    def gpu(cls) -> str:
        """Return the name of the GPU that is measured."""
        return torch.cuda.get_device_name(cls.device)

    @classmethod
    def now(cls) -> float:
        """Return seconds."""
        if cls.on_gpu():
            torch.cuda.synchronize(cls.device)
        return time.perf_counter() if cls.wall else time.process_time()


def timed(work: Callable[[], object], clock: Callable[[], float] = Clock.now) -> Callable[[], float]:
    """Return a function that runs the work, often if it is quick, and returns the seconds one run took."""

    def measure() -> float:
        runs, started = 0, clock()
        while True:
            work()
            runs += 1
            passed = clock() - started
            if passed >= BURST_SECONDS:
                return passed / runs

    return measure


def in_torch(measure: Callable[[], float]) -> Callable[[], float]:
    """Return the same measurement without compiled loops, as where numba isn't installed."""

    def without() -> float:
        os.environ[compiled.VARIABLE] = "0"
        try:
            return measure()
        finally:
            del os.environ[compiled.VARIABLE]

    return without


def take_turns(
    benchmark: Any, rivals: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Measure rivals in turns, each once a round.

    Args:
        benchmark: pytest-benchmark's fixture; it times whole rounds and keeps the medians.
        rivals: functions that return seconds.
        rounds: how many.
        warm_up: run each once before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    if warm_up:
        for measure in rivals.values():
            measure()

    def one_round() -> None:
        for name, measure in rivals.items():
            seconds[name].append(measure())

    benchmark.pedantic(one_round, rounds=rounds, iterations=1)
    benchmark.extra_info["median_seconds"] = {
        name: statistics.median(taken) for name, taken in seconds.items()
    }
    return seconds


def ratio(
    name: str,
    above: Sequence[float],
    below: Sequence[float],
    better: Better,
    target: float | None = None,
) -> Ratio:
    """Return the ratio of two rivals' medians, with the noise of the ratios round by round.

    Args:
        name: of the ratio.
        above, below: seconds by round, paired.
        better: whether low or high is good.
        target: see ``Ratio``.

    Source: the half-width is that of a box plot's notch, 1.57 IQR / sqrt(n) (McGill, Tukey, Larsen 1978).
    """
    value = statistics.median(above) / statistics.median(below)
    shown = f"{duration(statistics.median(above))} / {duration(statistics.median(below))}"
    return Ratio(name, value, noise_of(above, below), better, target, shown)


def noise_of(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the relative half-width of a ratio's interval from its rounds."""
    if len(above) < FEW_ROUNDS:
        return NOISE_OF_FEW
    logarithms = [math.log(a / b) for a, b in zip(above, below, strict=True)]
    low, _, high = statistics.quantiles(logarithms, n=4, method="inclusive")
    return math.expm1(1.57 * (high - low) / math.sqrt(len(logarithms)))


def duration(seconds: float) -> str:
    """Write a time with its unit: 1.2 ms, 3.4 s."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def complaints(measured: Sequence[Ratio], baseline: Baseline) -> list[str]:
    """Say which ratios are worse than the baseline beyond tolerance and noise, and which have vanished.

    Args:
        measured: of this run.
        baseline: of the same kind of processor.
    """
    found = []
    by_name = {each.name: each for each in measured}
    for name, before in baseline.items():
        now = by_name.get(name)
        if now is None:
            found.append(f"{name}: vanished; the baseline has {before['value']:.3g}")
            continue
        slower = now.value / before["value"] if now.better == "low" else before["value"] / now.value
        allowed = (1 + TOLERANCE) * (1 + now.noise)
        if slower > allowed:
            found.append(
                f"{name}: {now.value:.3g}, baseline {before['value']:.3g}: {slower:.2f} times slower, "
                f"expected at most {allowed:.2f} (tolerance {TOLERANCE:.0%}, noise {now.noise:.0%})"
            )
    return found


def read_baselines(path: Path) -> dict[str, Baseline]:
    """Return the baseline of each processor by its name.

    Rivals that rest on other libraries gain differently from another kind of processor: those ratios travel
    from machine to machine and from hour to hour, but not from one kind to the next.
    """
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: schema_version {content['schema_version']}, expected {SCHEMA_VERSION}; remove it"
        )
    return dict(content["processors"])


def write_baseline(path: Path, processor: str, measured: Sequence[Ratio]) -> None:
    """Keep the ratios of this run as those of a processor."""
    kept = {
        each.name: {"value": round(each.value, 4), "better": each.better} for each in measured if each.gated
    }
    processors = read_baselines(path) | {processor: kept}
    text = json.dumps({"schema_version": SCHEMA_VERSION, "processors": processors}, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
