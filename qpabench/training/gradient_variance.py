"""Gradients at random initial angles, without training: how flat the landscape is at the start.

Angles are uniform on the whole circle, and every function here has that period in each angle: the mean of
each partial derivative is exactly zero, so its variance is the mean of its square. One draw leaves one
number: the square averaged over the angles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from qpabench.circuits.circuit import Circuit
from qpabench.circuits.native import exact_probabilities
from qpabench.errors import InputError, NumericalError
from qpabench.hooks.entries import AnsatzEntry, DatasetOptions, LayerShape
from qpabench.hooks.manager import Registry
from qpabench.randomness import derive_seed
from qpabench.suite.cell import Cell
from qpabench.suite.variance import cell_of
from qpabench.targets.target import Factors
from qpabench.training.build import build
from qpabench.training.features import Features, Split, ensure_features, open_features
from qpabench.training.head import fast_loss
from qpabench.training.live import features_of, required_device

Progress = Callable[[str, int, int], None]


@dataclass
class Drawn:
    """What a point leaves.

    Args:
        metrics: variances, and the size of the circuit.
        phases: seconds.
        series: per observable the mean square over angles, one number a draw.
    """

    metrics: dict[str, float]
    phases: dict[str, float]
    series: dict[str, NDArray[Any]]


def measure_point(content: Mapping[str, Any], registry: Registry, progress: Progress) -> Drawn:
    """Measure what a point asks for.

    Args:
        content: what ``Point.to_json`` gave.
        registry: where its components are.
        progress: called with (what, done, total).

    Raises:
        InputError: a plugin changed, or the training rows have no text.
        NumericalError: a gradient isn't finite.
    """
    asked = content["gradients"]
    draws, seed = int(asked["draws"]), int(content["seed"])
    started = time.perf_counter()
    if asked["cell"] is None:
        entry = registry.find("ansatz", content["ansatz"]).entry
        assert isinstance(entry, AnsatzEntry)
        n_layers = int(content["n_layers"])
        circuit = entry.component()(int(content["n_qubits"]), n_layers)
        found = circuit_gradients(circuit, asked["observables"], draws, seed, progress)
        size = {
            "n_qubits": circuit.n_qubits,
            "n_layers": int(content["n_layers"]),
            "n_theta": circuit.n_angles,
        }
    else:
        cell = cell_of(content, registry)
        features = _features(cell, progress)
        squares, size = loss_gradients(cell, features, int(asked["tokens"]), draws, seed, progress)
        found = {"loss": squares}
    for name, squares in found.items():
        if not np.isfinite(squares).all():
            raise NumericalError(f"a gradient of the {name} isn't finite; expected finite numbers")
    metrics = {f"gradient_variance_{name}": float(squares.mean()) for name, squares in found.items()}
    phases = {"gradients": time.perf_counter() - started}
    return Drawn(metrics | size, phases, {f"square_{name}": squares for name, squares in found.items()})


def random_angles(n_angles: int, seed: int, draw: int) -> Float[Tensor, "n_angles"]:
    """Return the angles of one draw, U(-pi, pi)."""
    random = torch.Generator().manual_seed(derive_seed(seed, "gradient-angles", draw))
    return (torch.rand(n_angles, generator=random, dtype=torch.float64) * 2 - 1) * math.pi


def observable_values(name: str, n_qubits: int) -> Float[Tensor, "n_states"]:
    """Return an observable's value in each basis state.

    Args:
        name: ``local`` (Z on qubit 0) or ``global`` (the projector on the state of index 0).
        n_qubits: N.
    """
    values = torch.zeros(2**n_qubits, dtype=torch.float64)
    if name == "global":
        values[0] = 1
        return values
    values[: 2 ** (n_qubits - 1)] = 1  # qubit 0 is the most significant bit
    return 2 * values - 1


def circuit_gradients(
    circuit: Circuit, observables: Sequence[str], draws: int, seed: int, progress: Progress
) -> dict[str, NDArray[np.float64]]:
    """Return per observable the squared gradient, averaged over angles, one number a draw.

    Args:
        circuit: run exactly.
        observables: ``local``, ``global``.
        draws: random angle vectors.
        seed: of all draws.
        progress: as in ``measure_point``.
    """
    values = {name: observable_values(name, circuit.n_qubits) for name in observables}
    found = {name: np.empty(draws) for name in observables}
    for draw in range(draws):
        angles = random_angles(circuit.n_angles, seed, draw).requires_grad_()
        probabilities = exact_probabilities(circuit, angles.unsqueeze(0)).squeeze(0)
        for name, value in values.items():
            (gradient,) = torch.autograd.grad(probabilities @ value, angles, retain_graph=True)
            found[name][draw] = float(gradient.square().mean())
        progress("gradients", draw + 1, draws)
    return found


def loss_gradients(
    cell: Cell, features: Features, tokens: int, draws: int, seed: int, progress: Progress
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Return the squared gradient of a cell's loss, averaged over angles, one number a draw; and its size.

    Each draw initialises angles and mapping model afresh, as a training run with that seed begins; dropout is
    off, and the tokens are the same in all draws.

    Args:
        cell: target, generator, backend and ansatz.
        features: what enters the frozen output layer.
        tokens: scored training tokens, evenly spaced over those that are text.
        draws, seed, progress: as in ``circuit_gradients``.

    Raises:
        InputError: the training rows have no text.
    """
    options = cell.dataset.options
    assert isinstance(options, DatasetOptions)
    split = features.splits["train"]
    positions = _spread(split, tokens)
    d_out, d_in = features.weight.shape
    layer = LayerShape(d_in, d_out, n_positions=options.max_length)
    frozen = FrozenHead(features, split, positions)
    found, size = np.empty(draws), dict[str, float]()
    for draw in range(draws):
        drawn = replace(cell, seed=derive_seed(seed, "gradient-draw", draw))
        built = build(drawn, layer, features.layers(), features.weight.device)
        built.target.prepare(features.weight)
        theta, circuit = built.generator.theta(), built.circuit
        assert theta is not None
        assert circuit is not None
        tensors = built.generator()
        loss = frozen.loss(features.factors(built.target, split, positions, tensors, None))
        (gradient,) = torch.autograd.grad(loss, theta)
        found[draw] = float(gradient.double().square().mean())
        size = {
            "n_qubits": circuit.circuit.n_qubits,
            "n_layers": built.ledger.n_layers or 0,
            "n_theta": theta.numel(),
            "n_tokens": len(positions),
        }
        progress("gradients", draw + 1, draws)
    return found, size


def _features(cell: Cell, progress: Progress) -> Features:
    """Return stored features; logits kept for training, at all of its rows, are of no use here."""
    if not cell.target.options.is_on_head:  # type: ignore[attr-defined]
        return features_of(cell, progress)
    device = required_device(cell)
    return open_features(ensure_features(cell, progress, checked=True)).on(device)


class FrozenHead:
    """The mean NLL at fixed tokens; the frozen layer's own output is computed once for all draws.

    Args:
        features: with the frozen layer.
        split, positions: the tokens.
    """

    def __init__(self, features: Features, split: Split, positions: Tensor) -> None:
        self.features = features
        device = features.weight.device
        self.labels = split.labels[positions].to(device)
        self.inputs = split.features[positions].to(device)
        self.output = F.linear(self.inputs, features.weight, features.bias)

    def loss(self, factors: Factors) -> Float[Tensor, ""]:
        """Return the mean NLL in nats; targets that change more than a low-rank term go the usual way."""
        weight, bias, softcap = self.features.weight, self.features.bias, self.features.softcap
        untouched = factors.scale is None and torch.equal(factors.inputs, self.inputs)
        if not untouched or factors.low_rank is None:
            weights = torch.full((len(self.labels),), 1 / len(self.labels), device=weight.device)
            return fast_loss(factors, weight, self.labels, weights, bias, softcap)
        u, B = factors.low_rank
        logits = self.output + u @ B.T
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        return F.cross_entropy(logits, self.labels)


def _spread(split: Split, tokens: int) -> Tensor:
    """Return so many positions of text, evenly spaced (or all there are)."""
    text = torch.nonzero(split.mask).squeeze(1)
    if not len(text):
        raise InputError("variance.tokens: the training rows have no text to score; expected some")
    wanted = min(tokens, len(text))
    return text[torch.arange(wanted) * len(text) // wanted]
