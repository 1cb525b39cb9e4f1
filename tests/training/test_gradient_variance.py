"""Gradients at random angles against dense matrices and the parameter-shift rule."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from circuits.dense import Z, kron, probabilities
from numpy.typing import NDArray
from written_suites import cells_of

from qpabench.circuits import ansatze
from qpabench.circuits.circuit import Circuit
from qpabench.hooks.entries import LayerShape
from qpabench.randomness import derive_seed
from qpabench.training.build import build
from qpabench.training.features import ensure_features, open_features
from qpabench.training.gradient_variance import (
    FrozenHead,
    circuit_gradients,
    loss_gradients,
    random_angles,
)
from qpabench.training.plain_head import plain_loss

SAME = 1e-9  # float64 on both sides
SAME_FLOAT32 = 1e-4
STANDARD_ERRORS = 5
TOKENS = 6
QPA = """
[[matrix]]
target = {{ name = "{target}", rank = 2 }}
generator = {{ name = "qpa", chunk_size = 64, n_layers = 2 }}
"""


def quiet(what: str, done: int, total: int) -> None:
    """Hear of progress and say nothing."""


def dense_observable(name: str, n_qubits: int) -> NDArray[np.float64]:
    """The diagonal of Z on qubit 0, or of the projector on the state of index 0."""
    if name == "local":
        return np.diag(kron([Z, *[np.eye(2)] * (n_qubits - 1)])).real
    return np.eye(2**n_qubits)[0]


def shifted_gradient(circuit: Circuit, angles: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """The parameter-shift rule on dense matrices."""
    values, found = dense_observable(name, circuit.n_qubits), np.empty(len(angles))
    for index in range(len(angles)):
        shift = np.zeros_like(angles)
        shift[index] = np.pi / 2
        both = [probabilities(circuit, angles + sign * shift) @ values for sign in (1, -1)]
        found[index] = (both[0] - both[1]) / 2
    return found


@pytest.mark.parametrize("n_qubits", [2, 3])
@pytest.mark.parametrize("name", ["ry", "rx", "rxrz", "ryrz"])
def test_each_draw_is_the_square_of_the_shifted_gradient(name: str, n_qubits: int) -> None:
    circuit = getattr(ansatze, name)(n_qubits, 2)
    found = circuit_gradients(circuit, ["local", "global"], 3, 7, quiet)
    for draw, observable in itertools.product(range(3), found):
        gradient = shifted_gradient(circuit, random_angles(circuit.n_angles, 7, draw).numpy(), observable)
        assert found[observable][draw] == pytest.approx(np.mean(gradient**2), abs=SAME)


@pytest.mark.parametrize("observable", ["local", "global"])
def test_the_variance_is_that_over_the_whole_circle(observable: str) -> None:
    """A squared derivative has degree 2 in each angle: five equally spaced ones average it exactly."""
    circuit = ansatze.ry(2, 1)
    grid = np.arange(5) * 2 * np.pi / 5
    gradients = np.array(
        [shifted_gradient(circuit, np.array(angles), observable) for angles in itertools.product(grid, grid)]
    )
    assert gradients.mean(axis=0) == pytest.approx(0, abs=SAME)
    squares = circuit_gradients(circuit, [observable], 500, 0, quiet)[observable]
    error = squares.std(ddof=1) / np.sqrt(len(squares))
    assert abs(squares.mean() - gradients.var(axis=0).mean()) < STANDARD_ERRORS * error


@pytest.mark.parametrize("target", ["lora", "dora"])
def test_the_gradient_of_a_loss_is_that_of_a_fresh_cell(target: str, tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, QPA.format(target=target))
    features = open_features(ensure_features(cell))
    squares, size = loss_gradients(cell, features, TOKENS, 2, 3, quiet)
    split = features.splits["train"]
    text = torch.nonzero(split.mask).squeeze(1)
    positions = text[[index * len(text) // TOKENS for index in range(TOKENS)]]
    d_out, d_in = features.weight.shape
    for draw in range(2):
        fresh = replace(cell, seed=derive_seed(3, "gradient-draw", draw))
        built = build(fresh, LayerShape(d_in, d_out, n_positions=32))
        built.target.prepare(features.weight)
        factors = features.factors(built.target, split, positions, built.generator(), None)
        weights = torch.full((TOKENS,), 1 / TOKENS)
        loss = plain_loss(factors, features.weight, split.labels[positions], weights, features.bias)
        theta = built.generator.theta()
        assert theta is not None
        (gradient,) = torch.autograd.grad(loss, theta)
        assert squares[draw] == pytest.approx(float(gradient.square().mean()), rel=SAME_FLOAT32)
    assert size["n_tokens"] == TOKENS
    assert size["n_theta"] == cell.n_theta


def test_a_softcap_is_kept(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, QPA.format(target="lora"))
    features = replace(open_features(ensure_features(cell)), softcap=0.5)
    split, positions = features.splits["train"], torch.arange(TOKENS)
    d_out, d_in = features.weight.shape
    built = build(cell, LayerShape(d_in, d_out, n_positions=32))
    factors = features.factors(built.target, split, positions, built.generator(), None)
    weights = torch.full((TOKENS,), 1 / TOKENS)
    plain = plain_loss(factors, features.weight, split.labels[positions], weights, features.bias, 0.5)
    found = FrozenHead(features, split, positions).loss(factors)
    assert found.item() == pytest.approx(plain.item(), rel=SAME_FLOAT32)


def test_draws_depend_on_the_seed_alone() -> None:
    circuit = ansatze.rx(3, 1)
    first, again, other = (
        circuit_gradients(circuit, ["local"], 4, seed, quiet)["local"] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
