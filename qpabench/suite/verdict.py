"""What a suite wants decided: which method is held against which, and how small a difference doesn't matter.

```toml
[verdict]
margin_nats = 0.01                    # a smaller difference in NLL per token counts as none

[[verdict.families]]
name = "The circuit against what replaces it"
cell = "generator=qpa and generator.start=zero"         # one method, as in --only
against = ["generator=uniform", "generator=frozen"]     # each one or more methods
```

A method is a cell whatever its seed; with ``select = "validation"`` whatever its learning rate, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qpabench.errors import InputError, one_line
from qpabench.suite.cell import Cell
from qpabench.suite.select import selection
from qpabench.suite.tables import known_table, shown

KEYS = ("margin_nats", "families")
FAMILY_KEYS = ("name", "cell", "against")
#: what a selection on the validation rows may choose among
_TUNED = ("learning_rate", "learning_rate_theta")


@dataclass(frozen=True)
class Family:
    """One question: a method, and those it is held against.

    Args:
        name: what is asked.
        cell: selects one method.
        against: select the others.
    """

    name: str
    cell: str
    against: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """The ``[verdict]`` table.

    Args:
        margin_nats: a smaller difference in NLL per token counts as none.
        families: each corrected for its number of comparisons.
    """

    margin_nats: float
    families: tuple[Family, ...]


def read_verdict(source: str, value: object) -> Asked | None:
    """Read the ``[verdict]`` table.

    Args:
        source: the suite file, for messages.
        value: the table; None when there is none.

    Raises:
        InputError: a key, a type or the margin is wrong.
    """
    if value is None:
        return None
    table = known_table(source, "verdict", value, KEYS)
    margin = table.get("margin_nats")
    number = isinstance(margin, (int, float)) and not isinstance(margin, bool)
    if not number or not 0 < float(margin) < math.inf:  # type: ignore[arg-type]
        raise InputError(
            f"{source}: verdict.margin_nats: found {shown(margin)}, expected a positive number: the "
            "smallest difference in NLL per token that matters (equivalence within 0 can't be shown)"
        )
    families = table.get("families")
    if not isinstance(families, list) or not families:
        raise InputError(f"{source}: verdict.families: expected at least one table [[verdict.families]]")
    read = tuple(_family(source, f"verdict.families[{i}]", one) for i, one in enumerate(families))
    return Asked(float(margin), read)  # type: ignore[arg-type]


def resolve(source: str, asked: Asked, cells: Sequence[Cell]) -> dict[str, Any]:
    """Say which cells each family is about, for the manifest of a run.

    Args:
        source: the suite file, for messages.
        asked: what the suite wants decided.
        cells: all of its cells.

    Returns:
        ``margin_nats`` and ``families``, each with ``name``, ``cell`` (ids of one method) and ``against``
        (one list of ids a method).

    Raises:
        InputError: a selection matches nothing, ``cell`` matches several methods, or methods differ in
            model, data or protocol; the message names the field.
    """
    families = []
    for index, family in enumerate(asked.families):
        where = f"{source}: verdict.families[{index}]"
        subjects = _methods(f"{where}.cell", family.cell, cells)
        if len(subjects) != 1:
            first, second = (found[0] for found in list(subjects.values())[:2])
            raise InputError(
                f"{where}.cell: {one_line(repr(family.cell), 80)} matches {len(subjects)} methods, "
                f"expected one; say more, for instance which {_differing(first, second)}"
            )
        ((method, subject),) = subjects.items()
        others: dict[str, list[Cell]] = {}
        for number, expression in enumerate(family.against):
            others |= _methods(f"{where}.against[{number}]", expression, cells)
        others.pop(method, None)
        if not others:
            raise InputError(f"{where}.against: matches only the method itself; expected another one")
        for other in others.values():
            _comparable(where, subject[0], other[0])
        families.append(
            {
                "name": family.name,
                "cell": [cell.id for cell in subject],
                "against": [[cell.id for cell in other] for other in others.values()],
            }
        )
    return {"margin_nats": asked.margin_nats, "families": families}


def _family(source: str, key: str, value: object) -> Family:
    table = known_table(source, key, value, FAMILY_KEYS)
    name, cell, against = (table.get(field) for field in FAMILY_KEYS)
    expressions = [against] if isinstance(against, str) else against
    for field, found in (("name", name), ("cell", cell)):
        if not isinstance(found, str) or not found.strip():
            raise InputError(f"{source}: {key}.{field}: found {shown(found)}, expected text")
    if (
        not isinstance(expressions, list)
        or not expressions
        or not all(isinstance(e, str) for e in expressions)
    ):
        raise InputError(
            f"{source}: {key}.against: found {shown(against)}, "
            "expected a selection as in --only, or a list of them"
        )
    return Family(str(name), str(cell), tuple(expressions))


def _methods(where: str, expression: str, cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the selected cells by method."""
    try:
        matches = selection(expression)
        found = [cell for cell in cells if matches(cell)]
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('--only').strip(': ')}") from error
    if not found:
        raise InputError(f"{where}: {one_line(repr(expression), 80)} matches no cell; see `qpabench plan`")
    methods: dict[str, list[Cell]] = {}
    for cell in found:
        methods.setdefault(_method(cell), []).append(cell)
    return methods


def _method(cell: Cell) -> str:
    train = cell.train.model_dump()
    if cell.select == "validation":
        train = {key: value for key, value in train.items() if key not in _TUNED}
    parts = [choice.identity for choice in cell.choices]
    return "\n".join([*parts, cell.protocol, str(sorted(train.items())), cell.evaluate.canonical()])


def _comparable(where: str, first: Cell, second: Cell) -> None:
    pairs = {
        "model": (first.model.identity, second.model.identity),
        "dataset": (first.dataset.identity, second.dataset.identity),
        "protocol": (first.protocol, second.protocol),
        "evaluate": (first.evaluate.canonical(), second.evaluate.canonical()),
    }
    for field, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise InputError(
                f"{where}: {field} differs: found {_cut(ours)} and {_cut(theirs)}, expected the same; "
                "compare methods on the same model, data and protocol"
            )


def _differing(first: Cell, second: Cell) -> str:
    """Name a field in which two methods differ, as a selection would."""
    for key in ("model", "dataset", "protocol", "target", "generator", "backend", "ansatz"):
        if first.summary()[key] != second.summary()[key]:
            return key
    for ours, theirs in zip(first.choices, second.choices, strict=True):
        for name, value in ours.options:
            if value != getattr(theirs.options, name, value):
                return f"{ours.entry.kind}.{name}"
    changed = (n for n, value in first.train if value != getattr(second.train, n))
    return f"train.{next(changed, 'learning_rate')}"


def _cut(text: str) -> str:
    return one_line(text, 160)
