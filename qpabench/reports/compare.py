"""Two run directories, metric by metric: what got better, what got worse, what can't be compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qpabench.errors import InputError, RecordError, one_line
from qpabench.records.record import Record
from qpabench.records.store import RunDirectory
from qpabench.reports.groups import alone, canonical, flat, resumed
from qpabench.reports.metrics import MACHINE_KINDS, RANKED_BY, RELATIVE_TOLERANCE, metric
from qpabench.reports.statistics import Interval, paired_bootstrap, row_sums

Verdict = Literal["same", "better", "worse", "changed", "not compared", "vanished", "new"]
#: the row that says how a cell ended
STATUS = "status"
#: where a computation ran doesn't make it another one
_PLACE = ("device",)


@dataclass(frozen=True)
class Change:
    """One metric of one cell in both directories.

    Args:
        label: the cell's label.
        id_a: the cell's id in A; empty when it isn't there.
        id_b: the same in B.
        metric: its name, or ``status``.
        a: value in A.
        b: value in B.
        verdict: what follows from both, the metric's direction and its tolerance.
        tolerance: largest relative change that counts as none.
        interval: 95 % interval of b minus a over test rows, where both kept their NLL per token.
        note: why, where the numbers don't say it.
    """

    label: str
    id_a: str
    id_b: str
    metric: str
    a: float | str | None
    b: float | str | None
    verdict: Verdict
    tolerance: float | None = None
    interval: Interval | None = None
    note: str = ""

    @property
    def difference(self) -> float | None:
        """B minus A, where both are numbers."""
        if isinstance(self.a, str) or isinstance(self.b, str) or self.a is None or self.b is None:
            return None
        return self.b - self.a

    @property
    def relative(self) -> float | None:
        """The difference as a share of A."""
        if self.difference is None or isinstance(self.a, str) or not self.a:
            return None
        return self.difference / abs(self.a)


@dataclass(frozen=True)
class Comparison:
    """Everything found.

    Args:
        a: the directory held against.
        b: the directory judged.
        changes: cells in A's order, new ones last.
        n_paired: cells in both.
    """

    a: Path
    b: Path
    changes: tuple[Change, ...]
    n_paired: int

    @property
    def regressions(self) -> list[Change]:
        """What ``--gate`` fails on: metrics that got worse, cells and metrics that vanished."""
        return [change for change in self.changes if change.verdict in ("worse", "vanished")]

    @property
    def improvements(self) -> list[Change]:
        """What got better."""
        return [change for change in self.changes if change.verdict == "better"]


def compare(dir_a: Path, dir_b: Path) -> Comparison:
    """Compare two run directories.

    Args:
        dir_a: what B is held against.
        dir_b: what is judged.

    Returns:
        The changes; cells are paired by id, those left over by label and seed.

    Raises:
        InputError: one isn't a run directory, a label stands for several cells, or paired cells differ in
            data, protocol or model; the message names the cell and the field.
    """
    directories = RunDirectory(dir_a), RunDirectory(dir_b)
    planned_a, planned_b = (_planned(directory) for directory in directories)
    pairs, only_a, only_b = _paired(planned_a, planned_b)
    changes: list[Change] = []
    for a, b in pairs:
        _refuse_different(a, b)
    for a, b in pairs:
        changes.extend(_changes(a, b, directories))
    changes += [
        Change(_label(one), one.id, "", STATUS, one.status, None, "vanished", note="the cell isn't in B")
        for one in only_a
    ]
    changes += [Change(_label(one), "", one.id, STATUS, None, one.status, "new") for one in only_b]
    return Comparison(dir_a, dir_b, tuple(changes), len(pairs))


def _planned(directory: RunDirectory) -> list[Record]:
    found: list[Record] = []
    for cell_id in dict.fromkeys(directory.manifest()["cells"]):
        try:
            record = directory.read(cell_id)
        except RecordError:
            record = None  # no readable record: vanished, if the other side has it
        if record is not None:
            found.append(record)
    return found


def _paired(
    a: Sequence[Record], b: Sequence[Record]
) -> tuple[list[tuple[Record, Record]], list[Record], list[Record]]:
    by_id = {record.id: record for record in b}
    shared = {record.id for record in a} & by_id.keys()
    names_a = _by_name([record for record in a if record.id not in shared], "A")
    names_b = _by_name([record for record in b if record.id not in shared], "B")
    pairs, only_a = [], []
    for record in a:
        other = by_id.get(record.id) or names_b.get(_name(record))
        if other is None:
            only_a.append(record)
        else:
            pairs.append((record, other))
    only_b = [record for name, record in names_b.items() if name not in names_a]
    return pairs, only_a, only_b


def _by_name(records: Sequence[Record], where: str) -> dict[tuple[str, str], Record]:
    named: dict[tuple[str, str], Record] = {}
    for record in records:
        if _name(record) in named:
            raise InputError(
                f"directory {where}: found two cells labelled {one_line(record.label)!r} with seed "
                f"{record.cell.get('seed')}, expected one to pair by label; "
                "run the suite again with one of them"
            )
        named[_name(record)] = record
    return named


def _name(record: Record) -> tuple[str, str]:
    return record.label, canonical(record.cell.get("seed"))


def _label(record: Record) -> str:
    return one_line(record.label)


def _refuse_different(a: Record, b: Record) -> None:
    ours, theirs = what_is_measured(a), what_is_measured(b)
    for field in sorted(ours.keys() | theirs.keys()):
        if canonical(ours.get(field)) != canonical(theirs.get(field)):
            raise InputError(
                f"cell {one_line(a.label)!r}: {field} differs: found {one_line(ours.get(field), 80)} in A "
                f"and {one_line(theirs.get(field), 80)} in B, expected the same; compare runs of the same "
                "model, data and protocol"
            )


def what_is_measured(record: Record) -> dict[str, Any]:
    """Return what two cells must share to be compared: model, data, protocol and evaluation."""
    cell = record.cell
    options = cell.get("options")
    options = options if isinstance(options, Mapping) else {}
    fields = {name: cell.get(name) for name in ("model", "dataset", "protocol")} | flat(
        cell.get("data"), "data"
    )
    for part in ("model", "dataset", "evaluate"):
        own = flat(options.get(part), f"options.{part}")
        fields |= {name: value for name, value in own.items() if name.rpartition(".")[2] not in _PLACE}
    return {name: value for name, value in fields.items() if value is not None}


def _changes(a: Record, b: Record, directories: tuple[RunDirectory, RunDirectory]) -> Iterator[Change]:
    label, ids = _label(a), (a.id, b.id)
    verdict: Verdict = "same"
    if a.status != b.status:
        verdict = "worse" if a.status == "ok" else "better" if b.status == "ok" else "changed"
    yield Change(label, *ids, STATUS, a.status, b.status, verdict, note=one_line(b.reason, 120))
    if a.status != "ok" or b.status != "ok":
        return
    interval = _interval(a, b, directories)
    for name in sorted(a.metrics.keys() | b.metrics.keys()):
        yield _change(name, a, b, interval if name == RANKED_BY else None)


def _change(name: str, a: Record, b: Record, interval: Interval | None) -> Change:
    label, ids = _label(a), (a.id, b.id)
    before, after = a.metrics.get(name), b.metrics.get(name)
    if before is None:
        return Change(label, *ids, name, None, after, "new")
    if after is None:
        return Change(label, *ids, name, before, None, "vanished", note="the metric isn't in B")
    described = metric(name)
    tolerance = RELATIVE_TOLERANCE[described.kind]
    if described.kind in MACHINE_KINDS and (why := _incomparable(a, b, timed=described.kind == "seconds")):
        return Change(label, *ids, name, before, after, "not compared", tolerance, note=why)
    if math.isclose(before, after, rel_tol=tolerance, abs_tol=0.0):
        return Change(label, *ids, name, before, after, "same", tolerance, interval)
    if interval is not None and not interval.excludes_zero:
        note = "past the tolerance, but the interval over test rows holds zero"
        return Change(label, *ids, name, before, after, "changed", tolerance, interval, note)
    verdict: Verdict = "changed"
    if described.lower_is_better is not None:
        verdict = "better" if (after < before) == described.lower_is_better else "worse"
    return Change(label, *ids, name, before, after, verdict, tolerance, interval)


def _incomparable(a: Record, b: Record, *, timed: bool) -> str:
    if canonical(a.provenance.get("hardware")) != canonical(b.provenance.get("hardware")):
        return "other hardware"
    if not timed:
        return ""
    if canonical(a.provenance.get("threads")) != canonical(b.provenance.get("threads")):
        return "other number of threads"
    if resumed(a) or resumed(b):
        return "it was stopped and resumed"
    return "" if alone(a) and alone(b) else "other cells ran beside it"


def _interval(a: Record, b: Record, directories: tuple[RunDirectory, RunDirectory]) -> Interval | None:
    sums = []
    for record, directory in zip((a, b), directories, strict=True):
        try:
            series = directory.series(record.id)
        except RecordError:
            return None
        if "test_nll" not in series or "test_row" not in series:
            return None
        sums.append(row_sums(series["test_nll"], series["test_row"]))
    if sums[0] is None or sums[1] is None:
        return None
    return paired_bootstrap(sums[0], sums[1], perplexity=True)
