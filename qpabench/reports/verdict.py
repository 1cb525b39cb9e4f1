"""What the records say about the questions a suite asks: computed here, written in ``verdict_text``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qpabench.errors import InputError, one_line
from qpabench.records.record import Record
from qpabench.records.selection import selections
from qpabench.reports.compare import what_is_measured
from qpabench.reports.groups import REFERENCE_GENERATOR, Group, canonical, flat
from qpabench.reports.inference import FEWEST_ROWS, FEWEST_SEEDS, Estimate, Outcome, estimate, holm, outcome
from qpabench.reports.metrics import RANKED_BY
from qpabench.reports.names import PART
from qpabench.reports.run import Run
from qpabench.reports.statistics import RowSums

#: budgets closer than this are called equal
EQUAL_BUDGET = 0.01


@dataclass(frozen=True, eq=False)
class Method:
    """One side of a comparison: the runs of one cell.

    Args:
        group: its ok records; None when there are none.
        planned: its records of any status.
        n_tried: how many learning rates it was chosen among; 1 without a choice.
        name: as short as tells it apart from the others of its family.
    """

    group: Group | None
    planned: tuple[Record, ...]
    n_tried: int = 1
    name: str = ""

    @property
    def label(self) -> str:
        """The cells' label, without the seed when there are several."""
        if self.group is not None:
            return self.group.label
        return Group(self.planned).label if self.planned else "a cell without a record"

    @property
    def lacking(self) -> str:
        """Why there are no numbers; empty when there are."""
        if self.group is not None:
            return ""
        if not self.planned:
            return "no record yet"
        bad = self.planned[0]
        return f"{bad.status}: {one_line(bad.reason, 160)}" if bad.reason else bad.status


@dataclass(frozen=True, eq=False)
class Comparison:
    """A method held against another on the same seeds and rows; negative differences favour the method.

    Args:
        method, other: both sides.
        estimate: of the difference; None where it can't be had.
        note: why there is no estimate or no inference.
        p_difference, p_equivalence: adjusted for the family (Holm).
        outcome: what follows.
        differs: the settings in which they differ.
    """

    method: Method
    other: Method
    estimate: Estimate | None
    note: str = ""
    p_difference: float | None = None
    p_equivalence: float | None = None
    outcome: Outcome = "no inference"
    differs: tuple[str, ...] = ()

    @property
    def budgets(self) -> tuple[float, float] | None:
        """Trainable numbers of both."""
        if self.method.group is None or self.other.group is None:
            return None
        ours, theirs = (m.counted("n_trainable") for m in (self.method.group, self.other.group))
        return None if ours is None or theirs is None else (ours, theirs)

    @property
    def equal_budget(self) -> bool:
        """Whether both train the same number of parameters, within one percent."""
        found = self.budgets
        return found is not None and abs(found[0] - found[1]) <= EQUAL_BUDGET * max(found)


@dataclass(frozen=True, eq=False)
class Family:
    """One question and its answers.

    Args:
        name: as asked.
        method: what is held against the others.
        comparisons: in the order asked.
    """

    name: str
    method: Method
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, eq=False)
class Verdict:
    """Everything ``verdict.md`` says.

    Args:
        margin_nats: a smaller difference counts as none.
        families: in the order of the suite.
    """

    margin_nats: float
    families: tuple[Family, ...] = field(default_factory=tuple)


def decide(run: Run) -> Verdict | None:
    """Answer the questions of a run's suite.

    Args:
        run: what was read from the run directory.

    Returns:
        None when the suite asks none.

    Raises:
        InputError: two methods differ in model, data or protocol; the message names the field.
    """
    asked = run.manifest.get("verdict")
    if not isinstance(asked, Mapping) or not asked.get("families"):
        return None
    margin = float(asked["margin_nats"])
    families = []
    for family in asked["families"]:
        method, *others = _named([_method(run, ids) for ids in (family["cell"], *family["against"])])
        found = [compare_methods(method, other) for other in others]
        families.append(Family(str(family["name"]), method, corrected(found, margin)))
    return Verdict(margin, tuple(families))


def compare_methods(method: Method, other: Method) -> Comparison:
    """Estimate how two methods differ on the seeds both have.

    Raises:
        InputError: they differ in model, data or protocol; the message names the field.
    """
    for side in (method, other):
        if side.lacking:
            return Comparison(method, other, None, f"{side.label}: {side.lacking}")
    assert method.group is not None
    assert other.group is not None
    _refuse_different(method.group.records[0], other.group.records[0])
    differs = _differences(method.group, other.group)
    ours, theirs = _paired(method.group, other.group)
    found = estimate(ours, theirs)
    if found is None:
        note = "no seed in common" if not ours else "they weren't measured on the same test rows"
        return Comparison(method, other, None, note, differs=differs)
    return Comparison(method, other, found, _too_few(found), differs=differs)


def corrected(comparisons: Iterable[Comparison], margin_nats: float) -> tuple[Comparison, ...]:
    """Test a family's comparisons, corrected for their number.

    Args:
        comparisons: with their estimates.
        margin_nats: of equivalence.
    """
    found = list(comparisons)
    tested = [c for c in found if c.estimate is not None and c.estimate.standard_error is not None]
    estimates = [c.estimate for c in tested if c.estimate is not None]
    differences = holm([e.p_difference or 0.0 for e in estimates])
    equivalences = holm([e.p_equivalence(margin_nats) or 0.0 for e in estimates])
    judged = {
        id(c): replace(c, p_difference=d, p_equivalence=q, outcome=outcome(e.nats, d, q))
        for c, e, d, q in zip(tested, estimates, differences, equivalences, strict=True)
    }
    return tuple(judged.get(id(c), c) for c in found)


def tuned_groups(run: Run) -> list[tuple[Group, int]]:
    """Return each method's runs, at the learning rate chosen on the validation rows where the suite says so.

    Returns:
        Groups, with how many learning rates each was chosen among.
    """
    chosen, tried = _chosen(run)
    return [
        (group, tried.get(group.records[0].id, 1))
        for context in run.contexts
        for group in context.groups
        if group.records[0].id not in tried or group.records[0].id in chosen
    ]


def _chosen(run: Run) -> tuple[set[str], dict[str, int]]:
    """Return the ids chosen on validation, and for each candidate's id how many candidates there were."""
    wanted = run.manifest.get("select")
    ids = wanted.get("validation", []) if isinstance(wanted, Mapping) else []
    chosen: set[str] = set()
    tried: dict[str, int] = {}
    for selection in selections(run.records, set(ids)):
        for candidate in selection.candidates:
            tried |= {record.id: len(selection.candidates) for record in candidate.records}
        if selection.chosen is not None:
            chosen |= {record.id for record in selection.chosen.records}
    return chosen, tried


def _method(run: Run, ids: Sequence[str]) -> Method:
    wanted = set(ids)
    planned = tuple(record for record in run.named if record.id in wanted)
    groups = [(g, n) for g, n in tuned_groups(run) if any(record.id in wanted for record in g.records)]
    if len(groups) > 1:
        labels = ", ".join(one_line(group.label, 80) for group, _ in groups[:2])
        raise InputError(
            f"verdict: found {len(groups)} cells where one was meant ({labels}); run the suite again"
        )
    return Method(groups[0][0], planned, groups[0][1]) if groups else Method(None, planned)


def _named(methods: Sequence[Method]) -> list[Method]:
    """Name methods by their generator, else by their target, else by all that tells them apart."""
    cells = [m.planned[0].cell if m.planned else {} for m in methods]
    parts = [m.label.split(PART) for m in methods]
    shared = set(parts[0]).intersection(*parts)
    whole = [PART.join(part for part in own if part not in shared) or own[0] for own in parts]
    generators = [str(cell.get("generator")) for cell in cells]
    targets = [
        own[0] if generator == REFERENCE_GENERATOR and own[0].startswith(str(cell.get("target"))) else ""
        for own, cell, generator in zip(parts, cells, generators, strict=True)
    ]
    names = []
    for index, method in enumerate(methods):
        choices = (generators[index], targets[index], whole[index])
        kinds = (generators, targets, whole)
        unique = (c for c, kind in zip(choices, kinds, strict=True) if c and kind.count(c) == 1)
        names.append(next(unique, method.label) if method.planned else method.label)
    return [replace(method, name=name) for method, name in zip(methods, names, strict=True)]


def _paired(ours: Group, theirs: Group) -> tuple[list[RowSums], list[RowSums]]:
    by_seed = {canonical(r.cell.get("seed")): theirs.nll[r.id] for r in theirs.records if r.id in theirs.nll}
    pairs = [
        (ours.nll[record.id], by_seed[seed])
        for record in ours.records
        if record.id in ours.nll and (seed := canonical(record.cell.get("seed"))) in by_seed
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _too_few(found: Estimate) -> str:
    if found.n_seeds == 1:
        return "one run, no inference"
    if found.n_seeds < FEWEST_SEEDS:
        return f"{found.n_seeds} runs, no inference: it takes {FEWEST_SEEDS}"
    if found.n_rows < FEWEST_ROWS:
        return f"{found.n_rows} test rows, no inference: it takes {FEWEST_ROWS}"
    return ""


def _refuse_different(a: Record, b: Record) -> None:
    ours, theirs = what_is_measured(a), what_is_measured(b)
    for name in sorted(ours.keys() | theirs.keys()):
        if canonical(ours.get(name)) != canonical(theirs.get(name)):
            raise InputError(
                f"verdict: {one_line(a.label, 80)} and {one_line(b.label, 80)} differ in {name}: found "
                f"{one_line(ours.get(name), 80)} and {one_line(theirs.get(name), 80)}, expected the same; "
                "compare methods on the same model, data and protocol"
            )


def _differences(a: Group, b: Group) -> tuple[str, ...]:
    """Name what differs between two methods: a component, or else its options."""
    said: list[str] = []
    options_a, options_b = (g.cell.get("options") or {} for g in (a, b))
    for part in ("target", "generator", "backend", "ansatz", "train"):
        if a.cell.get(part) != b.cell.get(part) and None not in (a.cell.get(part), b.cell.get(part)):
            said.append(part)
            continue
        ours, theirs = flat(options_a.get(part) or {}, part), flat(options_b.get(part) or {}, part)
        if ours.keys() == theirs.keys():
            said += [key for key in ours if canonical(ours[key]) != canonical(theirs[key])]
    return tuple(said)


def nats_of(group: Group) -> list[float]:
    """Return the masked NLL per token of each run, nats."""
    return [math.log(value) for value in group.values(RANKED_BY) if value > 0]


def base_nats_of(group: Group) -> float | None:
    """Return the masked NLL per token of the untrained model, nats."""
    values: list[Any] = group.values(f"base_{RANKED_BY}")
    return math.log(values[0]) if values and values[0] > 0 else None
