"""The effect of each design choice: cells that differ in one option alone, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qpabench.reports.groups import Group, canonical, flat
from qpabench.reports.inference import Estimate, Outcome, estimate, holm, outcome
from qpabench.reports.statistics import RowSums

#: what counts as a choice of design: the generator's options, and what the circuit is made of
_PART = "generator."
_NAMES = ("ansatz", "backend")
#: no choice of design: chosen for each cell
_TUNED = ("train.learning_rate", "train.learning_rate_theta")


@dataclass(frozen=True, eq=False)
class Choice:
    """One option, from the value most cells have to another.

    Args:
        option: its name.
        usual, other: its values.
        pairs: cells that differ in it alone, (usual, other).
        estimate: of other minus usual, averaged over pairs; None where it can't be had.
        outcome: adjusted for the number of choices.
    """

    option: str
    usual: str
    other: str
    pairs: tuple[tuple[Group, Group], ...]
    estimate: Estimate | None
    outcome: Outcome = "no inference"


def design_choices(groups: Sequence[Group], margin_nats: float) -> list[Choice]:
    """Find every option whose effect the cells show.

    Args:
        groups: cells of one model and data, at the learning rate chosen for them.
        margin_nats: of equivalence.
    """
    settings = [(group, _settings(group)) for group in groups if group.nll]
    names = sorted({name for _, own in settings for name in own if _is_choice(name)})
    found: list[Choice] = []
    for name in names:
        usual_first = Counter(canonical(own[name]) for _, own in settings if name in own)
        alike: dict[str, list[tuple[str, Group, Any]]] = {}
        for group, own in settings:
            if name in own:
                rest = canonical({key: value for key, value in own.items() if key != name})
                alike.setdefault(rest, []).append((canonical(own[name]), group, own[name]))
        pairs: dict[tuple[str, str], list[tuple[Group, Group]]] = {}
        shown: dict[str, Any] = {}
        for members in alike.values():
            members.sort(key=lambda one: (-usual_first[one[0]], one[0]))
            for value, group, plain in members[1:]:
                pairs.setdefault((members[0][0], value), []).append((members[0][1], group))
                shown |= {members[0][0]: members[0][2], value: plain}
        for (usual, other), own_pairs in sorted(pairs.items()):
            effect = _averaged(own_pairs)
            found.append(Choice(name, _text(shown[usual]), _text(shown[other]), tuple(own_pairs), effect))
    return _judged(found, margin_nats)


def _judged(found: Sequence[Choice], margin_nats: float) -> list[Choice]:
    tested = [(i, c.estimate) for i, c in enumerate(found) if c.estimate is not None]
    tested = [(i, e) for i, e in tested if e.standard_error is not None]
    differences = holm([e.p_difference or 0.0 for _, e in tested])
    equivalences = holm([e.p_equivalence(margin_nats) or 0.0 for _, e in tested])
    judged = list(found)
    for (index, effect), p, q in zip(tested, differences, equivalences, strict=True):
        judged[index] = replace(found[index], outcome=outcome(effect.nats, p, q))
    return judged


def _averaged(pairs: Sequence[tuple[Group, Group]]) -> Estimate | None:
    """Average the difference over pairs, seed by seed and row by row."""
    seeds = set.intersection(*[set(_by_seed(group)) for pair in pairs for group in pair])
    if not seeds:
        return None
    sides: tuple[list[RowSums], list[RowSums]] = ([], [])
    for seed in sorted(seeds):
        for side, runs in zip(sides, zip(*pairs, strict=True), strict=True):
            sums = [_by_seed(group)[seed] for group in runs]
            if any(not np.array_equal(sums[0].tokens, one.tokens) for one in sums[1:]):
                return None
            side.append(RowSums(np.mean([one.nll for one in sums], axis=0), sums[0].tokens))
    return estimate(sides[1], sides[0])


def _by_seed(group: Group) -> dict[str, RowSums]:
    return {canonical(r.cell.get("seed")): group.nll[r.id] for r in group.records if r.id in group.nll}


def _settings(group: Group) -> dict[str, Any]:
    cell = group.cell
    options = cell.get("options")
    options = options if isinstance(options, Mapping) else {}
    own = {name: cell.get(name) for name in ("target", "generator", "backend", "ansatz", "protocol")}
    for part in ("target", "generator", "backend", "train"):
        own |= flat(options.get(part) or {}, part)
    return {key: value for key, value in own.items() if value is not None and key not in _TUNED}


def _is_choice(name: str) -> bool:
    return name in _NAMES or name.startswith(_PART)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else canonical(value)
