"""Circuits side by side: how far each backend is from the exact state vector, and what it costs."""

from __future__ import annotations

from qpabench.reports.groups import Context, Group
from qpabench.reports.markdown import Markdown, table
from qpabench.reports.metrics import metric
from qpabench.reports.numbers import of_kind

#: from records; those no cell has are left out
COLUMNS = (
    "probability_error_max",
    "total_variation_distance",
    "gradient_error_relative",
    "gradient_variance_theta",
    "circuits_executed",
    "shots_executed",
    "step_seconds_median",
)
_FACTS = {"depth": "depth", "two_qubit_gates": "two-qubit gates", "layout": "layout"}


def circuits(context: Context) -> Markdown | None:
    """Return one row for each cell with a circuit, or None when there is none."""
    groups = [group for group in context.groups if group.values("probability_error_max")]
    if not groups:
        return None
    names = [name for name in COLUMNS if any(group.values(name) for group in groups)]
    facts = {key: title for key, title in _FACTS.items() if any(_fact(group, key) for group in groups)}
    header = ["cell", "estimator", *(metric(name).title for name in names), "circuit s/step", *facts.values()]
    rows = []
    for group in groups:
        row: list[object] = [group.label, _fact(group, "gradient")]
        row += [_mean(group, name) for name in names]
        row += [_circuit_seconds(group), *(_fact(group, key) for key in facts)]
        rows.append(row)
    return table(header, rows, [False, False, *[True] * (len(header) - 2)])


def _fact(group: Group, key: str) -> str:
    for record in group.records:
        found = record.provenance.get("circuit", {})
        if isinstance(found, dict) and key in found:
            return str(found[key])
    return ""


def _mean(group: Group, name: str) -> str:
    values = group.values(name)
    return of_kind(metric(name).kind, sum(values) / len(values)) if values else ""


def _circuit_seconds(group: Group) -> str:
    shares = []
    for record in group.records:
        phases = record.timing.get("phases", {})
        steps = record.metrics.get("n_steps", 0)
        if isinstance(phases, dict) and "circuit" in phases and steps:
            shares.append(float(phases["circuit"]) / steps)
    return of_kind("seconds", sum(shares) / len(shares)) if shares else ""
