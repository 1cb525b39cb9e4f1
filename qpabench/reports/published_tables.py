"""Published and measured side by side, as Markdown; and the qubits that a Pauli-Z readout would need."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

from qpabench.reports.groups import Context
from qpabench.reports.markdown import Markdown, join, table
from qpabench.reports.metrics import metric
from qpabench.reports.numbers import count, of_kind, percent, signed
from qpabench.reports.published import (
    MEASURED_AS,
    METRICS,
    Measured,
    Published,
    count_agrees,
    counted,
    nearest_measured,
    published,
)
from qpabench.reports.run import Run
from qpabench.reports.summary import spread_text
from qpabench.reports.tables import records_of

#: seconds depend on the machine whatever else is the same
OTHER_MACHINE = "another machine"


class _Notes:
    """Reasons, each written once and lettered."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def marks(self, reasons: Sequence[str]) -> str:
        """Return the letters of some reasons."""
        for reason in reasons:
            self.known.setdefault(reason, _letter(len(self.known)))
        return " ".join(self.known[reason] for reason in reasons)

    def legend(self) -> Markdown:
        """Return what each letter says."""
        return join("; ", [f"({letter}) {reason}" for reason, letter in self.known.items()])


def sections(run: Run) -> list[dict[str, object]]:
    """Return each table of the paper with its title, text and reasons."""
    found: list[dict[str, object]] = []
    for where in dict.fromkeys(value.where for value in published()):
        values = [value for value in published() if value.where == where]
        drawn, notes = beside(values, run.contexts)
        found.append({"title": where, "table": drawn, "notes": notes})
    return found


def of_suite(run: Run) -> list[Published]:
    """Return the published numbers that belong to a suite, by its name."""
    return [value for value in published() if run.manifest.get("suite") in value.suites]


def beside(values: Sequence[Published], contexts: Sequence[Context]) -> tuple[Markdown, Markdown]:
    """Return a table of published, measured and their difference, and why some can't be compared.

    Args:
        values: what was published.
        contexts: of a run.
    """
    names = [name for name in METRICS if any(name in value.values for value in values)]
    counts = any("n_trainable" in v.values or "parameters_percent" in v.values for v in values)
    header = ["paper", *(["parameters, published", "counted anew", "same"] if counts else [])]
    for name in names:
        title = metric(MEASURED_AS.get(name, name)).title
        header += [f"{title}, published", "measured", "difference"]
    header += ["comparable", "record"]
    notes = _Notes()
    rows = []
    for value in values:
        found = nearest_measured(value, contexts)
        row: list[object] = [f"{value.column}, {value.row}" if value.row else value.column]
        row += [_printed_count(value), _counted(value), count_agrees(value)] if counts else []
        for name in names:
            row += _metric(name, value, found)
        row += [_comparable(value, found, names, notes), records_of(found.group) if found else ""]
        rows.append(row)
    return table(header, rows, [False, *[True] * (len(header) - 3), False, False]), notes.legend()


def pauli_readout(contexts: Sequence[Context]) -> Markdown | None:
    """Return the qubits of each circuit beside those that a Pauli-Z readout would need (A.2)."""
    chunks: dict[int, set[int]] = {}
    for context in contexts:
        for group in context.groups:
            n_qubits, n_chunks = group.counted("n_qubits"), group.counted("n_chunks")
            if n_qubits and n_chunks:
                chunks.setdefault(int(n_qubits), set()).add(int(n_chunks))
    rows = [
        [str(n), count(2**n), " to ".join(count(c) for c in sorted({min(found), max(found)}))]
        for n, found in sorted(chunks.items())
    ]
    header = ["qubits N", "by the paper's account, 2^N", "one for each chunk in use"]
    return table(header, rows, [True, True, True]) if rows else None


def _metric(name: str, value: Published, found: Measured | None) -> list[object]:
    if name not in value.values:
        return ["", "", ""]
    printed = value.values[name]
    kind = metric(MEASURED_AS.get(name, name)).kind
    shown = f"{printed:.3f}" if kind == "perplexity" else f"{printed:,.4f}".rstrip("0").rstrip(".") + " s"
    measured = found.group.values(MEASURED_AS.get(name, name)) if found else []
    if not measured:
        return [shown, "not measured", ""]
    mean = sum(measured) / len(measured)
    difference = signed(mean - printed) + (" s" if kind == "seconds" else "")
    return [shown, spread_text(measured, lambda v: of_kind(kind, v)), difference]


def _comparable(value: Published, found: Measured | None, names: Sequence[str], notes: _Notes) -> str:
    if found is None:
        return ""
    timed = any(name in value.values and name != METRICS[0] for name in names)
    reasons = [*found.apart, *([OTHER_MACHINE] if timed else [])]
    return f"no: {notes.marks(reasons)}" if reasons else "yes"


def _printed_count(value: Published) -> str:
    if "n_trainable" in value.values:
        return count(value.values["n_trainable"])
    share = value.values.get("parameters_percent")
    return "" if share is None else f"{share:.2f} %"


def _counted(value: Published) -> str:
    found = counted(value)
    if found is None:
        return ""
    return count(found[0]) + (f" ({percent(found[1], 3)})" if "parameters_percent" in value.values else "")


def _letter(number: int) -> str:
    return ascii_lowercase[number] if number < 26 else str(number)
