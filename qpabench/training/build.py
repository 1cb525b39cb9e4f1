"""Builds what a cell trains: its target, its generator, and the circuit function between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qpabench.circuits.gradients import CircuitFunction
from qpabench.errors import UnsupportedError
from qpabench.generators.generator import Generator, GeneratorContext
from qpabench.hooks.entries import (
    AnsatzEntry,
    BackendEntry,
    BackendOptions,
    LayerShape,
    Ledger,
    TargetOptions,
)
from qpabench.randomness import derive_seed
from qpabench.suite.cell import Cell, circuit_facts
from qpabench.targets.layers import AdaptedLayers, specs_of_layers
from qpabench.targets.target import Target
from qpabench.training.stopwatch import Stopwatch


class TimedCircuit:
    """A circuit function that notes how long its forward and backward passes take."""

    def __init__(self, function: CircuitFunction, stopwatch: Stopwatch) -> None:
        self.function = function
        self._stopwatch = stopwatch
        self._backward_started: Any = None

    def __call__(self, angles: Tensor) -> Tensor:
        """Run the circuit, forward now and backward later, both timed."""
        if self._stopwatch.muted:
            return self.function(angles)
        started = self._stopwatch.now()
        if not (torch.is_grad_enabled() and angles.requires_grad):
            result = self.function(angles)
            self._stopwatch.add("circuit", started)
            return result
        gate: Callable[..., Tensor] = _Gate.apply
        result = gate(self.function(gate(angles, self, False)), self, True)
        self._stopwatch.add("circuit", started)
        return result

    def passed(self, *, entering: bool) -> None:
        """Called by the backward pass as it enters and leaves the circuit."""
        if entering:
            self._backward_started = self._stopwatch.now()
        else:
            self._stopwatch.add("circuit", self._backward_started)


class _Gate(torch.autograd.Function):
    """Identity that tells when the gradient passes."""

    @staticmethod
    def forward(ctx: object, values: Tensor, timed: TimedCircuit, entering: bool) -> Tensor:
        ctx.timed, ctx.entering = timed, entering  # type: ignore[attr-defined]
        return values.view_as(values)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.timed.passed(entering=ctx.entering)  # type: ignore[attr-defined]
        return gradient, None, None


@dataclass
class Built:
    """What a cell trains."""

    target: Target
    generator: Generator
    circuit: CircuitFunction | None
    stopwatch: Stopwatch
    ledger: Ledger


def build(
    cell: Cell,
    layer: LayerShape,
    layers: Mapping[str, LayerShape] | None = None,
    device: torch.device | None = None,
) -> Built:
    """Build a cell's target and generator with their initial values.

    All numbers are drawn on the CPU, so that they are the same whatever the device.

    Args:
        cell: the experiment.
        layer: the output layer, as loaded.
        layers: the adapted layers by name, where they aren't the output layer alone.
        device: of the output layer, where the generator is put; None: the CPU.

    Raises:
        UnsupportedError: the loaded layer has another shape than the plan assumed, or can't take the target.
    """
    device = device or torch.device("cpu")
    stopwatch = Stopwatch.on(device)
    assert isinstance(cell.target.options, TargetOptions)
    options = cell.target.options
    specs = options.specs(layer) if layers is None else specs_of_layers(options, layers)
    ledger = cell.ledger
    if ledger is not None and sum(spec.numel for spec in specs) != ledger.n_generated:
        raise UnsupportedError(
            f"the loaded layer is {layer.d_out} x {layer.d_in}, other than the plan assumed for "
            f"{cell.model.name}; expected the released shape"
        )
    if ledger is None:
        ledger = cell.generator.options.ledger(specs)  # type: ignore[attr-defined]
        circuit_facts(cell.backend, cell.ansatz, ledger)  # refuses what the plan couldn't
    timed, context = None, GeneratorContext(specs, cell.seed)
    if cell.backend is not None and cell.ansatz is not None:
        backend, ansatz = cell.backend.entry, cell.ansatz.entry
        assert isinstance(backend, BackendEntry)
        assert isinstance(ansatz, AnsatzEntry)
        assert isinstance(cell.backend.options, BackendOptions)
        n_qubits, n_layers = ledger.n_qubits, ledger.n_layers
        assert n_qubits is not None
        assert n_layers is not None
        function = CircuitFunction(
            backend.component()(cell.backend.options),
            ansatz.component()(n_qubits, n_layers),
            cell.backend.options,
            backend.gradient_method(cell.backend.options),
            derive_seed(cell.seed, "circuit"),
        )
        timed = TimedCircuit(function, stopwatch)
        context = GeneratorContext(specs, cell.seed, n_qubits, ansatz.angles_shape(n_qubits, n_layers), timed)
    generator: Generator = cell.generator.entry.component()(cell.generator.options, context)
    generator.to(device)
    component = cell.target.entry.component()
    target = component(options, layer) if layers is None else AdaptedLayers(component, options, layers)
    return Built(target, generator, timed.function if timed else None, stopwatch, ledger)
