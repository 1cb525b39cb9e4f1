"""Gradient estimators: right on average, and honest about the circuits and shots they cost."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from qpabench.circuits import ansatze
from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit, Gate
from qpabench.circuits.gradients import CircuitFunction
from qpabench.circuits.native import NativeBackend, exact_probabilities
from qpabench.errors import NumericalError, UnsupportedError
from qpabench.hooks.builtin import qpabench_backends
from qpabench.hooks.entries import BackendOptions

[NATIVE] = qpabench_backends()
CIRCUIT = ansatze.ryrz(3, 2)
GENERATOR = torch.Generator().manual_seed(0)
ANGLES = (torch.rand(CIRCUIT.n_angles, generator=GENERATOR, dtype=torch.float64) * 2 - 1) * math.pi
COTANGENT = torch.rand(CIRCUIT.n_states, generator=GENERATOR, dtype=torch.float64) * 2 - 1
EXACT = 1e-12


def function(method: str, seed: int = 1, **options: object) -> CircuitFunction:
    chosen = BackendOptions(**options)  # type: ignore[arg-type]
    return CircuitFunction(NativeBackend(chosen), CIRCUIT, chosen, method, seed)


def gradient(estimated: CircuitFunction) -> Tensor:
    leaf = ANGLES.clone().requires_grad_()
    (found,) = torch.autograd.grad(estimated(leaf) @ COTANGENT, leaf)
    return found


def exact_gradient() -> Tensor:
    leaf = ANGLES.clone().requires_grad_()
    (found,) = torch.autograd.grad(exact_probabilities(CIRCUIT, leaf.unsqueeze(0))[0] @ COTANGENT, leaf)
    return found


@pytest.mark.parametrize("method", ["own", "parameter-shift", "straight-through"])
def test_exact_estimators_equal_the_exact_gradient(method: str) -> None:
    torch.testing.assert_close(gradient(function(method)), exact_gradient(), rtol=0, atol=EXACT)


def test_parameter_shift_from_shots_is_within_five_standard_deviations() -> None:
    shots = 20_000
    tolerance = 5 / math.sqrt(2 * shots)  # half a difference of two means of values in [-1, 1]
    found = gradient(function("parameter-shift", shots=shots))
    assert float((found - exact_gradient()).abs().max()) < tolerance


def test_straight_through_takes_the_forward_value_from_shots() -> None:
    estimated = function("straight-through", shots=100)
    found = estimated(ANGLES)
    assert torch.equal((found * 100).round() / 100, found)
    torch.testing.assert_close(gradient(estimated), exact_gradient(), rtol=0, atol=EXACT)


def test_spsa_is_right_on_average() -> None:
    repeats, step = 1000, 0.01
    exact = exact_gradient()
    found = gradient(function("spsa", spsa_repeats=repeats, spsa_step=step))
    deviation = float(exact.norm()) / math.sqrt(repeats)  # of one component, over random directions
    assert float((found - exact).abs().max()) < 5 * deviation + step


@pytest.mark.parametrize(
    ("method", "options", "circuits"),
    [
        ("own", {}, 1),
        ("parameter-shift", {}, 1 + 2 * CIRCUIT.n_angles),
        ("spsa", {}, 3),
        ("spsa", {"spsa_repeats": 5}, 11),
        ("straight-through", {}, 1),
    ],
)
def test_a_step_costs_the_circuits_that_the_plan_states(
    method: str, options: dict[str, object], circuits: int
) -> None:
    shots = None if method == "own" else 50
    estimated = function(method, shots=shots, **options)
    gradient(estimated)
    assert estimated.counts.circuits == circuits
    assert estimated.counts.shots == circuits * (shots or 0)
    asked = BackendOptions(gradient=method, shots=shots, **options)  # type: ignore[arg-type]
    assert NATIVE.circuits_per_step(asked, CIRCUIT.n_angles) == circuits


def test_shots_per_state_multiply_with_the_states() -> None:
    estimated = function("straight-through", shots_per_state=10)
    estimated(ANGLES)
    assert estimated.counts.shots == 80


def test_every_run_draws_fresh_shots_and_a_second_run_of_the_cell_the_same() -> None:
    first, second = function("spsa", shots=200), function("spsa", shots=200)
    one, two = first(ANGLES), first(ANGLES)
    assert not torch.equal(one, two)
    assert torch.equal(one, second(ANGLES))


def test_parameter_shift_refuses_a_shared_angle() -> None:
    shared = Circuit(1, (Gate("rx", (0,), 0), Gate("ry", (0,), 0)))
    options = BackendOptions()
    with pytest.raises(UnsupportedError, match="share an angle"):
        CircuitFunction(NativeBackend(options), shared, options, "parameter-shift", 1)


@pytest.mark.parametrize(
    ("asked", "method"),
    [({}, "own"), ({"shots": 10}, "parameter-shift"), ({"gradient": "spsa"}, "spsa")],
)
def test_auto_takes_the_own_gradient_where_there_is_one(asked: dict[str, object], method: str) -> None:
    assert NATIVE.gradient_method(BackendOptions(**asked)) == method  # type: ignore[arg-type]


class _Broken(Backend):
    def __init__(self, result: Tensor) -> None:
        super().__init__(BackendOptions())
        self.result = result

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        return self.result


@pytest.mark.parametrize(
    ("result", "said"),
    [(torch.ones(3), "shape"), (torch.full((8,), math.nan), "isn't finite")],
)
def test_a_backend_that_returns_nonsense_is_named(result: Tensor, said: str) -> None:
    options = BackendOptions()
    broken = CircuitFunction(_Broken(result), CIRCUIT, options, "own", 1)
    with pytest.raises(NumericalError, match=said):
        broken(ANGLES)
