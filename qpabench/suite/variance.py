"""What a suite wants to know of gradients at random initial angles: no training, many starting points.

```toml
[variance]                       # the suite's cells are not trained: their loss is differentiated
draws = 64                       # fresh initialisations a cell
tokens = 32                      # scored training tokens, the same in every draw

[[variance.circuits]]            # the textbook contrast: observables of the circuit alone
observable = ["local", "global"] # Z on qubit 0; the projector on the state of index 0
ansatz = ["ry", "rx"]
n_qubits = [2, 4, 6, 8]
n_layers = [8]
draws = 256                      # absent: as above
```
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from qpabench.errors import InputError, PluginError, nearest, one_line
from qpabench.hooks.entries import AnsatzEntry
from qpabench.hooks.manager import Registry
from qpabench.suite.cell import CORE_BEHAVIOUR_VERSION, Cell, Choice, cell_from_json
from qpabench.suite.tables import known_table

#: Raised when the same point gives other numbers.
VARIANCE_VERSION = 1
LOSS = "loss"
OBSERVABLES = ("local", "global")
KEYS = ("draws", "tokens", "seed", "circuits")
GRID_KEYS = ("observable", "ansatz", "n_qubits", "n_layers", "draws")
#: what a number may be, from and to
_RANGES = {
    "draws": (2, 100_000),
    "tokens": (1, 100_000),
    "seed": (0, 2**62),
    "n_qubits": (1, 20),
    "n_layers": (1, 4096),
}
DRAWS, TOKENS, SEED = 64, 64, 0


@dataclass(frozen=True)
class Grid:
    """One ``[[variance.circuits]]`` table, its axes to be crossed."""

    observables: tuple[str, ...]
    ansatze: tuple[str, ...]
    n_qubits: tuple[int, ...]
    n_layers: tuple[int, ...]
    draws: int


@dataclass(frozen=True)
class Variance:
    """The ``[variance]`` table.

    Args:
        draws: initialisations a point.
        tokens: of the training rows, at which the loss is taken.
        seed: of all draws.
        grids: circuits on their own.
    """

    draws: int
    tokens: int
    seed: int
    grids: tuple[Grid, ...]


@dataclass(frozen=True)
class Point:
    """One circuit size at which gradients are drawn; planned, run and recorded as a cell is.

    Args:
        observables: ``loss``, or what is measured of the circuit alone.
        ansatz: of the circuit; the cell's where there is one.
        n_qubits, n_layers: None while a cell's model isn't known here.
        n_theta: angles.
        draws, tokens, seed: as in ``Variance``.
        cell: whose loss; None for a circuit alone.
        unsupported: why it can't be measured, or empty.
        select: for the plan; nothing is selected.
    """

    observables: tuple[str, ...]
    ansatz: Choice | None
    n_qubits: int | None
    n_layers: int | None
    n_theta: int
    draws: int
    tokens: int
    seed: int
    cell: Cell | None = None
    unsupported: str = ""
    select: str = "none"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The components that take part."""
        if self.cell is not None:
            return self.cell.choices
        return (self.ansatz,) if self.ansatz is not None else ()

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits of SHA-256 over all that can change the result; training doesn't."""
        parts = [f"gradients@{VARIANCE_VERSION}", *(choice.identity for choice in self.choices)]
        if self.cell is not None:
            parts += [f"core@{CORE_BEHAVIOUR_VERSION}", self.cell.protocol, str(self.tokens)]
        parts += [str(self.n_qubits), str(self.n_layers)]
        parts += [*self.observables, str(self.draws), str(self.seed)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """What a person calls this point."""
        size = f"N = {self.n_qubits or '?'} · L = {self.n_layers or '?'}"
        drawn = f"{self.draws} draws"
        if self.cell is None:
            assert self.ansatz is not None
            return f"gradient of {', '.join(self.observables)} · {self.ansatz.label} · {size} · {drawn}"
        cell = self.cell
        circuit = (
            f"{cell.backend.label}/{cell.ansatz.label}" if cell.backend and cell.ansatz else "no circuit"
        )
        named = [cell.target.label, cell.generator.label, circuit, cell.model.name, cell.dataset.name]
        return " · ".join([f"gradient of {LOSS}", *named, cell.protocol, size, drawn])

    def summary(self) -> dict[str, Any]:
        """Return the fields of ``plan --json``."""
        empty = dict.fromkeys(
            (
                *("model", "dataset", "protocol", "target", "generator", "backend", "ansatz", "n_chunks"),
                *("chunk_size", "n_generated", "n_trainable", "n_mapping"),
            )
        )
        known = empty if self.cell is None else self.cell.summary()
        return {
            **known,
            "id": self.id,
            "label": self.label,
            "ansatz": self.ansatz.name if self.ansatz else None,
            "n_qubits": self.n_qubits,
            "n_layers": self.n_layers,
            "n_theta": self.n_theta,
            "circuits_per_step": 1 if self.cell is None else self.cell.circuits_per_step,
            "seed": self.seed,
        }

    def to_json(self) -> dict[str, Any]:
        """Return what the record keeps: the cell's fields where there is one, and how gradients are drawn."""
        known: dict[str, Any] = {"options": {}, "data": {}} if self.cell is None else self.cell.to_json()
        if self.cell is None and self.ansatz is not None:
            known["behaviour_versions"] = {"ansatz": self.ansatz.entry.behaviour_version}
        gradients = {
            "observables": list(self.observables),
            "draws": self.draws,
            "tokens": self.tokens if self.cell is not None else None,
            "version": VARIANCE_VERSION,
            "cell": self.cell.id if self.cell is not None else None,
            "cell_seed": self.cell.seed if self.cell is not None else None,
        }
        return {**known, **self.summary(), "gradients": gradients}


def is_point(content: Mapping[str, Any]) -> bool:
    """Say whether what a job or a record keeps is a point rather than a cell."""
    return isinstance(content.get("gradients"), Mapping)


def cell_of(content: Mapping[str, Any], registry: Registry) -> Cell:
    """Rebuild the cell of a job, or the one whose loss a point differentiates.

    Raises:
        InputError: as ``cell_from_json``.
    """
    if is_point(content):
        content = {**content, "id": content["gradients"]["cell"], "seed": content["gradients"]["cell_seed"]}
    return cell_from_json(content, registry)


def points_of(
    source: str, asked: Variance, cells: Sequence[Cell], registry: Registry, most: int
) -> list[Point]:
    """Return the points of a suite, each once: circuits on their own, then the losses of its cells.

    Args:
        source: the suite file, for messages.
        asked: its ``[variance]`` table.
        cells: its cells; seeds and training settings play no part.
        registry: where ansätze are.
        most: more are refused with their count.

    Raises:
        InputError: an ansatz isn't there, or there are too many points.
    """
    count = len(cells) + sum(len(g.ansatze) * len(g.n_qubits) * len(g.n_layers) for g in asked.grids)
    if count > most:
        raise InputError(
            f"{source}: variance: the axes cross to {count} points, expected at most {most}; "
            "shorten an axis or raise --max-cells"
        )
    found: dict[str, Point] = {}
    for grid in asked.grids:
        for name in grid.ansatze:
            try:
                registered = registry.find("ansatz", name)
            except PluginError as error:
                raise InputError(f"{source}: variance.circuits.ansatz: {error}") from error
            entry = registered.entry
            assert isinstance(entry, AnsatzEntry)
            choice = Choice(entry, entry.options(), name, str(registered.source))
            for n_qubits, n_layers in itertools.product(grid.n_qubits, grid.n_layers):
                n_theta = prod(entry.angles_shape(n_qubits, n_layers))
                size = (n_qubits, n_layers, n_theta)
                point = Point(grid.observables, choice, *size, grid.draws, asked.tokens, asked.seed)
                found.setdefault(point.id, point)
    for cell in cells:
        ledger = cell.ledger
        unsupported = cell.unsupported
        if cell.ansatz is None or (ledger is not None and not ledger.trains_theta):
            unsupported = f"generator {cell.generator.name} trains no angles; expected one with a circuit"
        size_known = (None, None) if ledger is None else (ledger.n_qubits, ledger.n_layers)
        point = Point(
            (LOSS,),
            cell.ansatz,
            *size_known,
            cell.n_theta,
            asked.draws,
            asked.tokens,
            asked.seed,
            cell,
            unsupported,
        )
        found.setdefault(point.id, point)
    return list(found.values())


def read_variance(source: str, value: object) -> Variance | None:
    """Read the ``[variance]`` table.

    Args:
        source: the suite file, for messages.
        value: the table; None when there is none.

    Raises:
        InputError: a key, a type or a number is wrong.
    """
    if value is None:
        return None
    table = known_table(source, "variance", value, KEYS)
    draws = _number(source, "variance", "draws", table.get("draws", DRAWS))
    tokens = _number(source, "variance", "tokens", table.get("tokens", TOKENS))
    seed = _number(source, "variance", "seed", table.get("seed", SEED))
    grids = table.get("circuits", [])
    if not isinstance(grids, list):
        raise InputError(
            f"{source}: variance.circuits: found {type(grids).__name__}, "
            "expected tables [[variance.circuits]]"
        )
    read = tuple(_grid(source, f"variance.circuits[{i}]", one, draws) for i, one in enumerate(grids))
    return Variance(draws, tokens, seed, read)


def _grid(source: str, key: str, value: object, draws: int) -> Grid:
    table = known_table(source, key, value, GRID_KEYS)
    for name in ("ansatz", "n_qubits", "n_layers"):
        if name not in table:
            raise InputError(f"{source}: {key}.{name}: missing; expected one value or a list")
    observables = _texts(source, f"{key}.observable", table.get("observable", list(OBSERVABLES)))
    for name in observables:
        if name not in OBSERVABLES:
            raise InputError(f"{source}: {key}.observable: {nearest(name, OBSERVABLES)}")
    return Grid(
        tuple(name for name in OBSERVABLES if name in observables),
        tuple(_texts(source, f"{key}.ansatz", table["ansatz"])),
        tuple(_number(source, key, "n_qubits", one) for one in _listed(source, key, table, "n_qubits")),
        tuple(_number(source, key, "n_layers", one) for one in _listed(source, key, table, "n_layers")),
        _number(source, key, "draws", table.get("draws", draws)),
    )


def _number(source: str, key: str, name: str, value: object) -> int:
    low, high = _RANGES[name]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(
            f"{source}: {key}.{name}: found {one_line(repr(value), 60)}, "
            f"expected a whole number from {low} to {high}"
        )
    return value


def _listed(source: str, key: str, table: Mapping[str, Any], name: str) -> list[Any]:
    value = table[name] if isinstance(table[name], list) else [table[name]]
    if not value:
        raise InputError(f"{source}: {key}.{name}: found an empty axis, expected at least one value")
    return value


def _texts(source: str, key: str, value: object) -> list[str]:
    given = value if isinstance(value, list) else [value]
    texts = [one for one in given if isinstance(one, str)]
    if not texts or len(texts) < len(given):
        found = one_line(json.dumps(value, default=str), 60)
        raise InputError(f"{source}: {key}: found {found}, expected a name or a list of names")
    return texts
