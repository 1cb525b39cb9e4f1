"""Crosses the axes of a suite into cells; counts them before it makes any."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError

from qpabench.errors import InputError, PluginError, QpabenchError, UnsupportedError, nearest, one_line
from qpabench.hooks.entries import (
    DatasetOptions,
    GeneratorEntry,
    GeneratorOptions,
    LayerShape,
    Ledger,
    ModelOptions,
    Options,
    TargetOptions,
)
from qpabench.hooks.manager import Registered, Registry
from qpabench.suite.cell import Cell, Choice, circuit_facts
from qpabench.suite.document import PROTOCOLS, Document
from qpabench.suite.options import EvaluateOptions, TrainOptions

MAX_CELLS = 10_000
_REQUIRED = ("model", "dataset", "target", "generator")
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
    """Resolves components once each and crosses them."""

    def __init__(self, document: Document, registry: Registry) -> None:
        self.document = document
        self.registry = registry
        self._choices: dict[tuple[str, str, str], Choice] = {}
        self._settings: dict[str, Options] = {}
        self._ledgers: dict[tuple[str, str, str], Ledger | str | None] = {}
        self._facts: dict[tuple[str, str, str], tuple[int, int] | str] = {}

    # -- axes ---------------------------------------------------------------------------------

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
                entry = self._find(where, key, name).entry
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

    # -- cells --------------------------------------------------------------------------------

    def cells(self, index: int) -> Iterator[Cell]:
        """Yield the cells of one matrix table."""
        where = f"{self.document.source}: matrix[{index}]"
        axes = self._axes(index)
        crossed = {key: [picked for part in axis for picked in _cross(part)] for key, axis in axes.items()}
        order = (
            "model",
            "dataset",
            "protocol",
            "target",
            "generator",
            "backend",
            "ansatz",
            "train",
            "evaluate",
            "seeds",
        )
        for (
            model,
            dataset,
            protocol,
            target,
            generator,
            backend,
            ansatz,
            train,
            evaluate,
            seed,
        ) in itertools.product(*(crossed[key] for key in order)):
            name = protocol["protocol"]
            chosen_model = self._choice(where, "model", model, name)
            preset = train.get("preset") == "paper"
            yield self._cell(
                where,
                name,
                {
                    "model": chosen_model,
                    "dataset": self._choice(where, "dataset", dataset, name),
                    "target": self._target(where, target, chosen_model, name, preset=preset),
                    "generator": self._choice(where, "generator", generator, name),
                    "backend": self._choice(where, "backend", backend, name),
                    "ansatz": self._choice(where, "ansatz", ansatz, name),
                },
                train,
                self._setting(where, "evaluate", EvaluateOptions, evaluate),
                seed["seed"],
                self.document.tables[index].get("select", "none"),
            )

    def _cell(
        self,
        where: str,
        protocol: str,
        choices: dict[str, Choice],
        train: dict[str, Any],
        evaluate: Options,
        seed: int,
        select: str,
    ) -> Cell:
        model, target, generator = choices["model"], choices["target"], choices["generator"]
        assert isinstance(generator.entry, GeneratorEntry)
        assert isinstance(evaluate, EvaluateOptions)
        backend = choices["backend"] if generator.entry.uses_circuit else None
        ansatz = choices["ansatz"] if generator.entry.uses_circuit else None
        training = self._train(where, train, model, target, generated=not generator.entry.direct)
        by_gradient = training.theta_optimizer == "adamw"
        unsupported = ""
        ledger = self._ledger(model, choices["dataset"], target, generator)
        if isinstance(ledger, str):
            unsupported, ledger = ledger, None
        facts: tuple[int, int] | str = (0, 0)
        if backend is not None and ansatz is not None and ledger is not None:
            key = (backend.identity, ansatz.identity, f"{by_gradient}{ledger}")
            if key not in self._facts:
                try:
                    self._facts[key] = circuit_facts(backend, ansatz, ledger, by_gradient=by_gradient)
                except UnsupportedError as error:
                    self._facts[key] = one_line(error)
            facts = self._facts[key]
        if isinstance(facts, str):
            unsupported, facts = facts, (0, 0)
        return Cell(
            model=model,
            dataset=choices["dataset"],
            target=target,
            generator=generator,
            backend=backend,
            ansatz=ansatz,
            protocol=protocol,
            train=training,
            evaluate=evaluate,
            seed=seed,
            ledger=ledger,
            n_theta=facts[0],
            circuits_per_step=facts[1],
            unsupported=unsupported,
            select=select,
        )

    def _target(
        self, where: str, given: dict[str, Any], model: Choice, protocol: str, *, preset: bool
    ) -> Choice:
        """Resolve a target; the preset also brings its own options from Tables 4 to 7 (dropout)."""
        if preset:
            options = self._find(f"{where}.target", "target", str(given["name"])).entry.options
            assert issubclass(options, TargetOptions)
            assert isinstance(model.options, ModelOptions)
            given = {
                **_only(options.published(model.options.family, generated=False) or {}, options),
                **given,
            }
        return self._choice(where, "target", given, protocol)

    def _train(
        self, where: str, given: dict[str, Any], model: Choice, target: Choice, *, generated: bool
    ) -> TrainOptions:
        if given.get("preset") == "paper":
            assert isinstance(model.options, ModelOptions)
            assert isinstance(target.options, TargetOptions)
            published = target.options.published(model.options.family, generated=generated)
            if published is None:
                raise InputError(
                    f"{where}.train.preset: Tables 4 to 7 have no row for target {target.name!r} on model "
                    f'{model.name!r}; expected preset = "none" and settings of your own'
                )
            given = {**_only(published, TrainOptions), **given}
        options = self._setting(where, "train", TrainOptions, given)
        assert isinstance(options, TrainOptions)
        return options

    def _ledger(
        self, model: Choice, dataset: Choice, target: Choice, generator: Choice
    ) -> Ledger | str | None:
        key = (f"{model.identity}|{dataset.identity}", target.identity, generator.identity)
        if key not in self._ledgers:
            assert isinstance(model.options, ModelOptions)
            assert isinstance(dataset.options, DatasetOptions)
            assert isinstance(target.options, TargetOptions)
            assert isinstance(generator.options, GeneratorOptions)
            shape = model.options.shape()
            try:
                if shape is None or not target.options.is_on_head:
                    self._ledgers[key] = None
                else:
                    layer = LayerShape(*shape, n_positions=dataset.options.max_length)
                    self._ledgers[key] = generator.options.ledger(target.options.specs(layer))
            except UnsupportedError as error:
                self._ledgers[key] = one_line(error)
        return self._ledgers[key]

    # -- resolving ----------------------------------------------------------------------------

    def _find(self, where: str, kind: str, name: str) -> Registered:
        try:
            return self.registry.find(kind, name)
        except PluginError as error:
            raise InputError(f"{where}: {error}") from error

    def _choice(self, where: str, kind: str, given: dict[str, Any], protocol: str) -> Choice:
        key = (kind, json.dumps(given, sort_keys=True, default=str), protocol)
        if key not in self._choices:
            name = str(given["name"])
            registered = self._find(f"{where}.{kind}", kind, name)
            model = registered.entry.options
            options = {option: value for option, value in given.items() if option != "name"}
            preset = dict(model.presets.get(protocol, {}))
            resolved = _validated(f"{where}.{kind}", model, {**preset, **options})
            usual = {field: info.default for field, info in model.model_fields.items()} | preset
            told = [
                f"{option}={value}"
                for option, value in resolved
                if value != usual[option] or option in model.always_told
            ]
            fingerprint = ""
            if isinstance(resolved, (ModelOptions, DatasetOptions)):
                # what is published under a name keeps its identity while it isn't here yet
                with contextlib.suppress(OSError, QpabenchError):
                    fingerprint = resolved.fingerprint()
            self._choices[key] = Choice(
                entry=registered.entry,
                options=resolved,
                label=name if not told or kind in ("model", "dataset") else f"{name}({', '.join(told)})",
                brought_by=str(registered.source),
                fingerprint=fingerprint,
            )
        return self._choices[key]

    def _setting(self, where: str, name: str, model: type[Options], given: dict[str, Any]) -> Options:
        key = name + json.dumps(given, sort_keys=True, default=str)
        if key not in self._settings:
            self._settings[key] = _validated(f"{where}.{name}", model, given)
        return self._settings[key]


def _validated(where: str, model: type[Options], values: Mapping[str, Any]) -> Options:
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{where}.{one_line(key, 60)}: found {one_line(repr(first['input']), 60)}; "
            f"{one_line(first['msg'], 120)}"
        ) from error


def _only(published: Mapping[str, Any], model: type[Options]) -> dict[str, Any]:
    return {option: value for option, value in published.items() if option in model.model_fields}


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
