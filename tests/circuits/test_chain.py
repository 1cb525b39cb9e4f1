"""RY rotations and CNOT chains in their own loops: the numbers of the torch path, whatever the angles."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from qpabench.circuits import ansatze, chain
from qpabench.circuits.circuit import Circuit, Gate, cnot_chain
from qpabench.circuits.native import exact_probabilities

SAME = 1e-12  # rounding of the same sums in another order
PI = math.pi
SPECIAL = (0.0, PI / 2, PI, 3 * PI / 2, 2 * PI, -PI / 2, -PI, 3 * PI, 1e5)


@pytest.fixture(autouse=True)
def _numba() -> None:
    pytest.importorskip("numba")


def random_angles(circuit: Circuit, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(circuit.n_angles, generator=generator, dtype=torch.float64) * 12 - 6


def value_and_gradient(circuit: Circuit, angles: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    cotangent = torch.randn(circuit.n_states, generator=generator, dtype=torch.float64)
    leaf = angles.clone().requires_grad_()
    value = exact_probabilities(circuit, leaf.unsqueeze(0))[0]
    (gradient,) = torch.autograd.grad(value @ cotangent, leaf)
    return value.detach(), gradient


def check(monkeypatch: pytest.MonkeyPatch, circuit: Circuit, angles: Tensor) -> None:
    assert chain.planned(circuit) is not None
    found = value_and_gradient(circuit, angles)
    monkeypatch.setenv("QPABENCH_COMPILED", "0")
    for one, other in zip(found, value_and_gradient(circuit, angles), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=SAME)


# one block; tiles of one, two, three, four, seven qubits; two levels of tiles
@pytest.mark.parametrize("n_qubits", [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19])
def test_random_angles(monkeypatch: pytest.MonkeyPatch, n_qubits: int) -> None:
    circuit = ansatze.ry(n_qubits, 8)
    check(monkeypatch, circuit, random_angles(circuit))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_many_levels(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(chain, "LEVEL_QUBITS", width)
    chain.planned.cache_clear()
    circuit = ansatze.ry(14, 5)
    check(monkeypatch, circuit, random_angles(circuit))
    chain.planned.cache_clear()


@pytest.mark.parametrize("n_layers", range(1, 10))
def test_layers_on_halves_and_after_them(monkeypatch: pytest.MonkeyPatch, n_layers: int) -> None:
    circuit = ansatze.ry(16, n_layers)
    check(monkeypatch, circuit, random_angles(circuit))


@pytest.mark.parametrize("n_qubits", [6, 11, 16])
def test_special_angles(monkeypatch: pytest.MonkeyPatch, n_qubits: int) -> None:
    circuit = ansatze.ry(n_qubits, 9)
    generator = torch.Generator().manual_seed(3)
    which = torch.randint(0, len(SPECIAL), (circuit.n_angles,), generator=generator)
    check(monkeypatch, circuit, torch.tensor(SPECIAL, dtype=torch.float64)[which])


@pytest.mark.parametrize("angle", SPECIAL)
def test_one_angle_everywhere(monkeypatch: pytest.MonkeyPatch, angle: float) -> None:
    circuit = ansatze.ry(7, 3)
    check(monkeypatch, circuit, torch.full((circuit.n_angles,), angle, dtype=torch.float64))


def test_a_depth_at_which_unscaled_states_would_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = ansatze.ry(8, 300)  # grows by 2**(8 / 2) in each layer
    check(monkeypatch, circuit, torch.full((circuit.n_angles,), PI / 2, dtype=torch.float64))


@pytest.mark.parametrize("n_qubits", [8, 16])
def test_layers_without_a_chain_and_with_gaps(monkeypatch: pytest.MonkeyPatch, n_qubits: int) -> None:
    gates = list(cnot_chain(n_qubits))
    for layer in range(8):
        gates += [Gate("ry", (qubit,), (3 * layer + qubit) % 11) for qubit in range(n_qubits - layer)]
        gates += cnot_chain(n_qubits) if layer not in (2, 7) else ()
    circuit = Circuit(n_qubits, tuple(gates))
    check(monkeypatch, circuit, random_angles(circuit))


@pytest.mark.parametrize("n_qubits", [7, 12, 16])
def test_an_angle_that_is_not_a_number_shows_then_and_not_later(n_qubits: int) -> None:
    circuit = ansatze.ry(n_qubits, 7)
    angles = random_angles(circuit)
    before = value_and_gradient(circuit, angles)
    angles[-1] = torch.nan
    assert all(each.isnan().all() for each in value_and_gradient(circuit, angles))
    after = value_and_gradient(circuit, random_angles(circuit))
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("n_qubits", [7, 12, 16])
def test_two_backward_passes_through_one_state_agree(n_qubits: int) -> None:
    circuit = ansatze.ry(n_qubits, 7)
    leaf = random_angles(circuit).unsqueeze(0).requires_grad_()
    value = exact_probabilities(circuit, leaf)[0, 5]
    (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
    (again,) = torch.autograd.grad(value, leaf)
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    "gates",
    [
        (Gate("rx", (0,), 0),),
        (Gate("ry", (0,), 0), Gate("cx", (1, 0))),
        (Gate("ry", (0,), 0), *cnot_chain(5)),
        (),
    ],
    ids=["other axis", "upward CNOT", "shorter chain", "empty"],
)
def test_other_circuits_are_left_to_other_loops(gates: tuple[Gate, ...]) -> None:
    assert chain.planned(Circuit(6, gates)) is None
