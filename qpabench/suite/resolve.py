"""Resolves what was picked along the axes of a suite: components, their options, settings and counts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from qpabench.errors import InputError, PluginError, UnsupportedError, one_line
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
from qpabench.suite.options import EvaluateOptions, TrainOptions


class Resolver:
    """Turns picked names and options into cells; what cells share is resolved once.

    Args:
        registry: where the components are.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._choices: dict[tuple[str, str, str], Choice] = {}
        self._settings: dict[str, Options] = {}
        self._ledgers: dict[tuple[str, str, str], Ledger | str | None] = {}
        self._facts: dict[tuple[str, str, str], tuple[int, int] | str] = {}

    def find(self, where: str, kind: str, name: str) -> Registered:
        """Return a component; ``where`` is the place in the suite, for the message.

        Raises:
            InputError: there is none of that kind and name.
        """
        try:
            return self._registry.find(kind, name)
        except PluginError as error:
            raise InputError(f"{where}: {error}") from error

    def cell(self, where: str, picked: Mapping[str, dict[str, Any]], select: str) -> Cell:
        """Resolve one crossing of the axes.

        Args:
            where: the table in the suite, for messages.
            picked: per axis the options picked, components with their ``name``.
            select: ``validation`` where a report shall choose the learning rate.

        Raises:
            InputError: an option has a wrong type or is out of range.
        """
        protocol, train = picked["protocol"]["protocol"], picked["train"]
        model = self._choice(where, "model", picked["model"], protocol)
        preset = train.get("preset") == "paper"
        choices = {
            "model": model,
            "dataset": self._choice(where, "dataset", picked["dataset"], protocol),
            "target": self._target(where, picked["target"], model, protocol, preset=preset),
        }
        for kind in ("generator", "backend", "ansatz"):
            choices[kind] = self._choice(where, kind, picked[kind], protocol)
        target, generator = choices["target"], choices["generator"]
        evaluate = self._setting(where, "evaluate", EvaluateOptions, picked["evaluate"])
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
            seed=picked["seeds"]["seed"],
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
            options = self.find(f"{where}.target", "target", str(given["name"])).entry.options
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

    def _choice(self, where: str, kind: str, given: dict[str, Any], protocol: str) -> Choice:
        key = (kind, json.dumps(given, sort_keys=True, default=str), protocol)
        if key not in self._choices:
            name = str(given["name"])
            registered = self.find(f"{where}.{kind}", kind, name)
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
                # what is published under a name keeps its identity while it isn't here yet; the plan says
                # of what can't be read that it is unavailable
                with contextlib.suppress(Exception):
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
