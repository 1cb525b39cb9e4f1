"""Crosses the axes of a suite into cells; counts them before it makes any."""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from qpabench.errors import InputError, nearest, one_line
from qpabench.hooks.entries import Options
from qpabench.hooks.manager import Registry
from qpabench.suite.cell import Cell
from qpabench.suite.document import PROTOCOLS, Document
from qpabench.suite.options import EvaluateOptions, TrainOptions
from qpabench.suite.resolve import Resolver

MAX_CELLS = 10_000
_REQUIRED = ("model", "dataset", "target", "generator")
#: the last varies fastest
_ORDER = (
    *("model", "dataset", "protocol", "target", "generator"),
    *("backend", "ansatz", "train", "evaluate", "seeds"),
)
_FALLBACK = {"backend": "native", "ansatz": "ry", "protocol": "released-code", "seeds": [0]}


def expand(document: Document, registry: Registry, max_cells: int = MAX_CELLS) -> list[Cell]:
    """Return the cells of a suite and those it includes, each once, in the order of the files.

    Args:
        document: the suite.
        registry: where the components are.
        max_cells: more are refused with their count.

    Raises:
        InputError: one line with file, key, what was found and what was expected.
    """
    parts = expand_parts(document, registry, max_cells)
    return list({cell.id: cell for _, own in parts for cell in own}.values())


def expand_parts(
    document: Document, registry: Registry, max_cells: int = MAX_CELLS
) -> list[tuple[Document, list[Cell]]]:
    """Return a suite and each it includes with its cells; a cell that several have is one object.

    Args:
        document, registry, max_cells: as in ``expand``.

    Raises:
        InputError: as ``expand``.
    """
    expanders = [(part, _Expander(part, registry)) for part in document.parts]
    count = sum(expander.count(index) for part, expander in expanders for index in range(len(part.tables)))
    if count > max_cells:
        raise InputError(
            f"{document.source}: the axes cross to {count} cells, expected at most {max_cells}; "
            "shorten an axis or raise --max-cells"
        )
    cells: dict[str, Cell] = {}
    ids: list[tuple[Document, list[str]]] = []
    for part, expander in expanders:
        own: dict[str, None] = {}
        for index in range(len(part.tables)):
            for cell in expander.cells(index):
                if cell.select != "none" or cell.id not in cells:
                    cells[cell.id] = cell
                own[cell.id] = None
        ids.append((part, list(own)))
    return [(part, [cells[cell_id] for cell_id in own]) for part, own in ids]


class _Expander:
    """Crosses the axes of a suite's tables; what is picked is resolved elsewhere."""

    def __init__(self, document: Document, registry: Registry) -> None:
        self.document = document
        self._resolver = Resolver(registry)

    def count(self, index: int) -> int:
        """Count the cells of one matrix table without making them."""
        return math.prod(sum(_size(part) for part in axis) for axis in self._axes(index).values())

    def _axes(self, index: int) -> dict[str, list[dict[str, list[Any]]]]:
        """Return per key its alternatives, each a table option -> values to cross."""
        table = self.document.tables[index]
        where = f"{self.document.source}: matrix[{index}]"
        for key in _REQUIRED:
            if key not in table:
                raise InputError(f"{where}.{key}: missing; expected a name, here or under [defaults]")
        axes: dict[str, list[dict[str, list[Any]]]] = {}
        for key in _REQUIRED:
            axes[key] = self._component_axis(where, key, table[key])
        for key in ("backend", "ansatz"):
            axes[key] = self._component_axis(where, key, table.get(key, _FALLBACK[key]))
        for key, model in (("train", TrainOptions), ("evaluate", EvaluateOptions)):
            axes[key] = [self._option_axes(f"{where}.{key}", model, table.get(key, {}))]
        protocols = _as_list(f"{where}.protocol", table.get("protocol", _FALLBACK["protocol"]))
        for protocol in protocols:
            if protocol not in PROTOCOLS:
                raise InputError(
                    f"{where}.protocol: found {one_line(repr(protocol), 60)}; "
                    f"{nearest(str(protocol), PROTOCOLS)}"
                )
        axes["protocol"] = [{"protocol": protocols}]
        seeds = _as_list(f"{where}.seeds", table.get("seeds", _FALLBACK["seeds"]))
        for seed in seeds:
            if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**62:
                raise InputError(
                    f"{where}.seeds: found {one_line(repr(seed), 60)}, expected whole numbers from 0 to 2**62"
                )
        axes["seeds"] = [{"seed": seeds}]
        return axes

    def _component_axis(self, where: str, key: str, value: Any) -> list[dict[str, list[Any]]]:
        where = f"{where}.{key}"
        alternatives = []
        for choice in _as_list(where, value):
            if isinstance(choice, str):
                choice = {"name": choice}
            if not isinstance(choice, Mapping):
                raise InputError(
                    f"{where}: found {type(choice).__name__}, expected a name or a table with name"
                )
            names = choice.get("name")
            if names is None:
                raise InputError(f"{where}.name: missing; expected the name of a {key}")
            for name in _as_list(f"{where}.name", names):
                if not isinstance(name, str):
                    raise InputError(f"{where}.name: found {type(name).__name__}, expected text")
                entry = self._resolver.find(where, key, name).entry
                options = {option: value for option, value in choice.items() if option != "name"}
                alternatives.append({"name": [name], **self._option_axes(where, entry.options, options)})
        return alternatives

    def _option_axes(
        self, where: str, model: type[Options], options: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        axes: dict[str, list[Any]] = {}
        for option, value in options.items():
            if option not in model.model_fields:
                raise InputError(
                    f"{where}.{one_line(option, 60)}: unknown option; {nearest(option, model.model_fields)}"
                )
            takes_list = _takes_list(model.model_fields[option].annotation)
            is_axis = isinstance(value, list) and (not takes_list or (value and isinstance(value[0], list)))
            axes[option] = _as_list(f"{where}.{option}", value) if is_axis else [value]
        return axes

    def cells(self, index: int) -> Iterator[Cell]:
        """Yield the cells of one matrix table."""
        where = f"{self.document.source}: matrix[{index}]"
        axes = self._axes(index)
        crossed = {key: [picked for part in axis for picked in _cross(part)] for key, axis in axes.items()}
        select = self.document.tables[index].get("select", "none")
        for picks in itertools.product(*(crossed[key] for key in _ORDER)):
            yield self._resolver.cell(where, dict(zip(_ORDER, picks, strict=True)), select)


def _as_list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    if not value:
        raise InputError(f"{where}: found an empty axis, expected at least one value")
    return value


def _size(part: Mapping[str, Sequence[Any]]) -> int:
    return math.prod(len(values) for values in part.values())


def _cross(part: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*part.values()):
        yield dict(zip(part, values, strict=True))


def _takes_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return any(_takes_list(member) for member in get_args(annotation))
    return origin in (list, tuple, set, frozenset) or annotation in (list, tuple)
