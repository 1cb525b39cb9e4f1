"""The native state vector against dense matrices, finite differences and the binomial distribution."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce

import dense
import numpy as np
import pytest
import torch
from torch import Tensor

from qpabench.circuits import ansatze, fast
from qpabench.circuits.circuit import Circuit, Gate, Rotation, cnot_chain
from qpabench.circuits.layers import compiled, layers, permutation
from qpabench.circuits.native import (
    NativeBackend,
    exact_probabilities,
    sample_frequencies,
    state_vector,
)
from qpabench.circuits.products import Products, RealProducts
from qpabench.hooks.entries import BackendOptions

DOUBLE = 1e-13  # rounding of a few hundred double-precision products
GRADIENT = 1e-12  # sums of 2**N terms
STEP = 1e-5
FINITE_DIFFERENCE = 1e-8  # second-order error STEP**2 plus rounding 1e-16 / STEP, with room
ANSATZE = {"ry": ansatze.ry, "rx": ansatze.rx, "rxrz": ansatze.rxrz, "ryrz": ansatze.ryrz}


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run every test on both paths, whatever is quicker."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        monkeypatch.setattr(fast, "FASTER_QUBITS", 30)
    monkeypatch.setenv("QPABENCH_COMPILED", str(int(request.param == "compiled")))
    return str(request.param)


def random_circuit(n_qubits: int, n_gates: int, seed: int) -> Circuit:
    """Draw any gates on any qubits: rotations on rotated qubits, long-range and upward CNOTs."""
    draw = np.random.default_rng(seed)
    gates: list[Gate] = []
    for _ in range(n_gates):
        name = draw.choice(["rx", "ry", "rz", "cx"] if n_qubits > 1 else ["rx", "ry", "rz"])
        if name == "cx":
            control, target = draw.choice(n_qubits, 2, replace=False)
            gates.append(Gate("cx", (int(control), int(target))))
        else:
            angle = sum(gate.angle is not None for gate in gates)
            gates.append(Gate(name, (int(draw.integers(n_qubits)),), angle))
    return Circuit(n_qubits, tuple(gates))


def angles_of(circuit: Circuit, rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, circuit.n_angles, generator=generator, dtype=torch.float64) * 2 - 1) * math.pi


@pytest.mark.parametrize("n_qubits", [1, 2, 5, 6])  # 6 has two blocks
@pytest.mark.parametrize("name", ANSATZE)
def test_ansatz_probabilities_equal_dense_kronecker_matrices(name: str, n_qubits: int) -> None:
    circuit = ANSATZE[name](n_qubits, 3)
    angles = angles_of(circuit, 2)
    found = exact_probabilities(circuit, angles)
    for row in range(2):
        expected = dense.probabilities(circuit, angles[row].numpy())
        np.testing.assert_allclose(found[row].numpy(), expected, atol=DOUBLE)


@pytest.mark.parametrize("seed", range(8))
def test_any_circuit_equals_dense_kronecker_matrices(seed: int) -> None:
    circuit = random_circuit(1 + seed % 7, 40, seed)
    angles = angles_of(circuit, 1, seed)
    expected = dense.probabilities(circuit, angles[0].numpy())
    np.testing.assert_allclose(exact_probabilities(circuit, angles)[0].numpy(), expected, atol=DOUBLE)


@pytest.mark.parametrize("n_qubits", [1, 2, 3, 5, 7, 9])  # 7: two blocks kept, two of other sizes uncomputed
@pytest.mark.parametrize("name", ANSATZE)
def test_uncomputed_states_give_what_kept_states_give(name: str, n_qubits: int) -> None:
    circuit = ANSATZE[name](n_qubits, 4)
    angles = angles_of(circuit, 1)
    cotangent = torch.randn(circuit.n_states, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for keep in (True, False):
        leaf = angles.clone().requires_grad_()
        value = exact_probabilities(circuit, leaf, keep=keep)
        found.append((value.detach(), *torch.autograd.grad(value[0] @ cotangent, leaf)))
    for kept, uncomputed in zip(*found, strict=True):
        torch.testing.assert_close(kept, uncomputed, rtol=0, atol=DOUBLE)


def check_gate_by_gate(circuit: Circuit, angles: Tensor) -> None:
    leaf = angles.clone().requires_grad_()
    value = exact_probabilities(circuit, leaf)
    cotangent = torch.randn(circuit.n_states, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(value[0] @ cotangent, leaf)
    plain = angles.clone().requires_grad_()
    expected = dense.gate_by_gate(circuit, plain[0])
    (expected_gradient,) = torch.autograd.grad(expected @ cotangent, plain)
    torch.testing.assert_close(value[0], expected, rtol=0, atol=DOUBLE)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=GRADIENT)


@pytest.mark.parametrize("n_qubits", range(1, 15))  # from 13 on uncomputed; 14: blocks of 4 and 3 qubits
@pytest.mark.parametrize("name", ANSATZE)
def test_an_ansatz_equals_the_plain_gate_by_gate_state(name: str, n_qubits: int) -> None:
    circuit = ANSATZE[name](n_qubits, 2)
    check_gate_by_gate(circuit, angles_of(circuit, 1))


@pytest.mark.parametrize("n_qubits", [2, 3, 6, 9, 12, 13])
def test_layers_with_a_chain_without_cnots_and_with_others_equal_the_plain_state(n_qubits: int) -> None:
    chain, others = list(cnot_chain(n_qubits)), [Gate("cx", (n_qubits - 1, 0)), Gate("cx", (1, 0))]
    gates: list[Gate] = []
    for layer, cnots in enumerate((chain, others, [], chain, chain[:1], [])):
        rotation: Rotation = "ry" if layer % 2 else "rx"
        gates += [Gate(rotation, (q,), layer * n_qubits + q) for q in range(n_qubits)]
        gates += [Gate("rz", (0,), 0), *cnots]  # shares an angle, in a layer of its own
    for kept in (gates, [gate for gate in gates if gate.name in ("ry", "cx")]):
        angles = sorted({gate.angle for gate in kept if gate.angle is not None})
        renamed = [
            gate if gate.angle is None else replace(gate, angle=angles.index(gate.angle)) for gate in kept
        ]
        circuit = Circuit(n_qubits, tuple(renamed))
        check_gate_by_gate(circuit, angles_of(circuit, 1))


def test_cnots_alone_leave_the_first_state() -> None:
    circuit = Circuit(3, tuple(cnot_chain(3)))
    found = exact_probabilities(circuit, torch.zeros(1, 0, dtype=torch.float64, requires_grad=True))
    assert found.tolist() == [[1.0] + [0.0] * 7]
    found[0, 0].backward()


@pytest.mark.parametrize("value", [1e3, -1e5, 1e7])
def test_large_angles_are_as_exact_as_small_ones(value: float) -> None:
    circuit = ansatze.ry(6, 3)
    check_gate_by_gate(circuit, angles_of(circuit, 1) + value)


@pytest.mark.parametrize("n_qubits", [4, 14])
@pytest.mark.parametrize("name", ["ry", "rxrz"])
def test_runs_of_one_circuit_leave_each_other_alone(name: str, n_qubits: int) -> None:
    circuit = ANSATZE[name](n_qubits, 2)
    rows = angles_of(circuit, 2).unbind()

    def run(leaf: Tensor) -> Tensor:
        return exact_probabilities(circuit, leaf.unsqueeze(0))[0].square().sum()

    alone = [torch.autograd.grad(run(leaf), leaf)[0] for leaf in (row.requires_grad_() for row in rows)]
    first, second = run(rows[0]), run(rows[1])
    state_vector(circuit, rows[1].unsqueeze(0))
    for row, value in ((1, second), (0, first), (0, first)):
        (gradient,) = torch.autograd.grad(value, rows[row], retain_graph=True)
        assert torch.equal(gradient, alone[row])
        state_vector(circuit, rows[1 - row].unsqueeze(0))


@pytest.mark.parametrize("n_qubits", [1, 2, 3, 13])
@pytest.mark.parametrize("name", ["ry", "rxrz"])
def test_the_states_of_a_batch_are_those_of_its_rows(name: str, n_qubits: int) -> None:
    circuit = ANSATZE[name](n_qubits, 2)
    angles = angles_of(circuit, 3)
    expected = torch.stack([dense.gate_by_gate(circuit, row) for row in angles])
    found = state_vector(circuit, angles)
    torch.testing.assert_close(found.abs().square(), expected, rtol=0, atol=DOUBLE)
    torch.testing.assert_close(exact_probabilities(circuit, angles), expected, rtol=0, atol=DOUBLE)


def test_a_run_leaves_its_room_to_the_next(path: str) -> None:
    circuit = ansatze.ry(5, 2)
    plan = compiled(circuit, torch.device("cpu"), torch.float64, True)
    for _ in range(3):
        leaves = [angles.requires_grad_() for angles in angles_of(circuit, 3).split(1)]
        values = [exact_probabilities(circuit, leaf) for leaf in leaves]
        assert not plan.rooms
        for value in values:
            value[0, 0].backward()
        del values, value
        assert len(plan.rooms) == (3 if path == "torch" else 0)


@pytest.mark.parametrize("n_qubits", range(2, 13))
def test_a_chain_leaves_nothing_to_permute_and_other_cnots_do(n_qubits: int) -> None:
    for name, circuit in [
        ("chain", ansatze.ry(n_qubits, 2)),
        ("up", Circuit(n_qubits, (Gate("cx", (n_qubits - 1, 0)),))),
    ]:
        plan = compiled(circuit, torch.device("cpu"), torch.float64, True)
        assert plan.kept
        assert [index is None for index in plan.permutations] == [name == "chain"] * plan.n_layers


@pytest.mark.parametrize("gates", [1, 2, 3, 5])
def test_products_hold_the_entries_of_kronecker_matrices(gates: int) -> None:
    half = torch.rand(3, gates, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 6
    turns = torch.tensor([[0, -1], [1, 0]], dtype=torch.complex128).view(1, 1, 4).expand(3, gates, 4)
    for products in (RealProducts(gates, half), Products(gates, torch.eye(2).to(turns).view(4), turns)):
        found = products(half)
        assert found.shape[1] == products.per_row
        cosines, sines = half.cos(), half.sin()
        matrices = torch.stack([cosines, -sines, sines, cosines], dim=2).view(3, gates, 2, 2)
        for row in range(3):
            expected = reduce(torch.kron, matrices[row].unbind())
            actual = found[row][products.places(gates)]
            torch.testing.assert_close(actual, expected.to(actual), rtol=0, atol=DOUBLE)
            half_of_first = half.clone()
            half_of_first[:, 1:] = 0
            actual = products(half_of_first)[row][products.places(1)]
            torch.testing.assert_close(actual, matrices[row, 0].to(actual), rtol=0, atol=DOUBLE)


def test_threads_are_as_they_were_after_a_small_circuit() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        circuit = ansatze.ry(3, 1)
        exact_probabilities(circuit, angles_of(circuit, 1).requires_grad_())[0, 0].backward()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_equals_finite_differences_of_dense_matrices(seed: int) -> None:
    circuit = random_circuit(2 + seed, 20, 100 + seed)
    angles = angles_of(circuit, 1, seed)[0]
    cotangent = torch.randn(
        circuit.n_states, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    leaf = angles.clone().requires_grad_()
    (exact_probabilities(circuit, leaf.unsqueeze(0))[0] @ cotangent).backward()
    assert leaf.grad is not None
    for index in range(circuit.n_angles):
        shift = np.zeros(circuit.n_angles)
        shift[index] = STEP
        plus = dense.probabilities(circuit, angles.numpy() + shift)
        minus = dense.probabilities(circuit, angles.numpy() - shift)
        expected = float(cotangent.numpy() @ (plus - minus) / (2 * STEP))
        assert float(leaf.grad[index]) == pytest.approx(expected, abs=FINITE_DIFFERENCE)


def test_rows_of_a_batch_have_independent_gradients() -> None:
    circuit = ansatze.ryrz(3, 2)
    angles = angles_of(circuit, 3).requires_grad_()
    exact_probabilities(circuit, angles)[1, 5].backward()
    assert angles.grad is not None
    assert not angles.grad[[0, 2]].any()
    assert angles.grad[1].any()


def test_a_shared_angle_sums_the_gradients_of_its_gates() -> None:
    circuit = Circuit(1, (Gate("rx", (0,), 0), Gate("rx", (0,), 0)))
    angles = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    exact_probabilities(circuit, angles)[0, 1].backward()
    assert angles.grad is not None
    assert float(angles.grad) == pytest.approx(math.sin(0.6))  # p(1) = sin^2(angle)


def test_qubit_0_is_the_most_significant_bit() -> None:
    circuit = Circuit(3, (Gate("rx", (0,), 0),))
    found = exact_probabilities(circuit, torch.tensor([[math.pi]], dtype=torch.float64))
    assert int(found.argmax()) == 0b100


def test_ry_circuits_stay_real_and_others_do_not() -> None:
    assert not state_vector(ansatze.ry(3, 1), angles_of(ansatze.ry(3, 1), 1)).is_complex()
    assert state_vector(ansatze.rx(3, 1), angles_of(ansatze.rx(3, 1), 1)).is_complex()


@pytest.mark.parametrize("value", [0.0, math.pi, -math.pi, 4 * math.pi])
def test_special_angles_stay_finite_with_finite_gradients(value: float) -> None:
    circuit = ansatze.rxrz(3, 2)
    angles = torch.full((1, circuit.n_angles), value, dtype=torch.float64, requires_grad=True)
    found = exact_probabilities(circuit, angles)
    found[0, 0].backward()
    assert angles.grad is not None
    assert torch.isfinite(found).all()
    assert torch.isfinite(angles.grad).all()


def test_the_result_keeps_the_precision_of_its_angles() -> None:
    circuit = ansatze.rxrz(2, 1)
    assert exact_probabilities(circuit, angles_of(circuit, 1).float()).dtype == torch.float32


def test_a_run_of_cnots_is_one_permutation() -> None:
    circuit = ansatze.ry(3, 2)
    assert [layer.cx for layer in layers(circuit)] == [((0, 1), (1, 2))] * 2
    assert permutation(2, ((0, 1),)).tolist() == [0, 1, 3, 2]


SHOTS = 20_000
SHOT_TOLERANCE = 5 / (2 * math.sqrt(SHOTS))  # five standard deviations of a frequency of one half


def test_frequencies_approach_the_probabilities() -> None:
    exact = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    found = sample_frequencies(exact, SHOTS, seed=1)
    assert float((found - exact).abs().max()) < SHOT_TOLERANCE
    assert float(found[3]) == 0
    assert float(found.sum()) == pytest.approx(1)


def test_more_shots_than_one_chunk_are_all_drawn() -> None:
    shots = (1 << 20) + 3
    found = sample_frequencies(torch.tensor([0.25, 0.75], dtype=torch.float64), shots, seed=1)
    assert float(found.sum() * shots) == pytest.approx(shots)


def test_the_same_seed_draws_the_same_shots_and_another_others() -> None:
    circuit = ansatze.ry(3, 2)
    backend, angles = NativeBackend(BackendOptions(shots=500)), angles_of(circuit, 1)[0]
    first, again, other = (backend.probabilities(circuit, angles, shots=500, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("n_qubits", [3, 14])
@pytest.mark.parametrize("ansatz", ["ry", "rxrz"])
def test_a_circuit_runs_where_its_angles_are_and_says_so(ansatz: str, n_qubits: int, path: str) -> None:
    """On the meta device reading a number, or mixing it with one of the CPU, would raise."""
    backend, circuit = NativeBackend(BackendOptions()), ANSATZE[ansatz](n_qubits, 2)
    angles = torch.zeros(circuit.n_angles, dtype=torch.float64, device="meta", requires_grad=True)
    probabilities = backend.probabilities(circuit, angles, shots=None, seed=0)
    (gradient,) = torch.autograd.grad(probabilities, angles, torch.ones_like(probabilities))
    assert probabilities.device == gradient.device == angles.device
    assert backend.describe(circuit) == {"path": "torch on meta"}
    backend.probabilities(circuit, torch.zeros(circuit.n_angles, dtype=torch.float64), shots=None, seed=0)
    assert backend.describe(circuit) == {"path": path}
