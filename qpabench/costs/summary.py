"""What a plan comes to, in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qpabench.costs.estimate import NOT_MEASURED, Cost
from qpabench.suite.plan import PlannedCell

MEASURES_IT = "--calibrate measures it"


def summary(planned: Sequence[PlannedCell], costs: Sequence[Cost], *, jobs: int, threads: int) -> list[str]:
    """Say what would run, how long it would take here and in how much memory, and what can't be said.

    Args:
        planned: cells of a plan.
        costs: of each.
        jobs: cells at a time.
        threads: of each.
    """
    both = list(zip(planned, costs, strict=True))
    lines = [_counts([one for one in both if one[0].status == "run"] or both)]
    here = f"{threads} thread{'s' * (threads > 1)} a cell, {jobs} at a time"
    for status, opening in (("run", "estimate"), ("unavailable", "estimate of what is unavailable")):
        own = [cost for one, cost in both if one.status == status]
        known = [cost for cost in own if not cost.unknown]
        if known:
            lines.append(f"{opening} for this machine ({here}), {_cells(len(known))}: {_totals(known, jobs)}")
        for reason, number in sorted(Counter(cost.unknown for cost in own if cost.unknown).items()):
            more = f"; {MEASURES_IT}" if NOT_MEASURED in reason else ""
            lines.append(f"time and memory not estimated, {_cells(number)}: {reason}{more}")
    return lines


def _counts(both: Sequence[tuple[PlannedCell, Cost]]) -> str:
    summaries = [one.cell.summary() for one, _ in both]
    parts = [f"{_cells(len(both))}{'' if both[0][0].status == 'run' else ', none to run'}"]
    for key, name in (("n_qubits", "qubits"), ("n_trainable", "trainable parameters")):
        values = [value for found in summaries if (value := found[key]) is not None]
        if values:
            low, high = min(values), max(values)
            parts.append(f"{low:,} {name}" if low == high else f"{low:,} to {high:,} {name}")
    if all(not cost.unknown for _, cost in both):
        parts.append(f"{sum(cost.circuits for _, cost in both):,} circuits")
    return "; ".join(parts)


def _totals(costs: Sequence[Cost], jobs: int) -> str:
    phases = {
        "features": sum(cost.features_seconds for cost in costs),
        "training": sum(cost.train_seconds for cost in costs),
        "evaluation": sum(cost.eval_seconds for cost in costs),
    }
    parts = [f"{name} {duration(seconds / jobs)}" for name, seconds in phases.items() if seconds]
    bound = "at most " if any(cost.at_most for cost in costs) else ""
    memory = max(cost.memory_bytes for cost in costs)
    total = bound + duration(sum(cost.seconds for cost in costs) / jobs)
    full = ", every row taken as full because only its features know better" if bound else ""
    return f"{total} ({', '.join(parts)}{full}); up to {memory / 2**20:,.0f} MiB a cell"


def duration(seconds: float) -> str:
    """Write seconds, minutes, hours or days to two digits."""
    for limit, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * limit:
            return (
                f"{seconds / limit:,.0f} {unit}" if seconds >= 10 * limit else f"{seconds / limit:.1f} {unit}"
            )
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number:,} cells"
