"""The density matrix in Pauli components against Aer's: probabilities, gradients, readout errors, shots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("qpabench_aer")
from qpabench import BackendEntry, UnsupportedError
from qpabench.circuits import ansatze
from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit, Gate
from qpabench.circuits.native import exact_probabilities
from qpabench.testing.pytest_plugin import conformance_test
from qpabench_aer import NoisyOptions, qpabench_backends

ENTRY: BackendEntry = {entry.name: entry for entry in qpabench_backends()}["native-noisy"]
LACKING = ENTRY.options().missing()
needs_aer = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
#: Aer drops terms of a channel below 1e-8 of it
AERS_TRUNCATION = 1e-8
CUSTOM = {"device": "custom", "depolarizing_1q": 0.01, "depolarizing_2q": 0.05, "readout_error": 0.03}
DEVICES: list[dict[str, Any]] = [{"device": "torino"}, {"device": "fez"}, {"device": "manila"}, CUSTOM]

test_torino = conformance_test(ENTRY, device="torino")
test_torino_shots = conformance_test(ENTRY, device="torino", shots=8192)
test_custom = conformance_test(ENTRY, device="custom", depolarizing_2q=0.01, readout_error=0.01)


def backend(**asked: Any) -> Backend:
    made = ENTRY.component()(ENTRY.options(**asked))
    assert isinstance(made, Backend)
    return made


def angles_of(circuit: Circuit, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(circuit.n_angles, generator=generator, dtype=torch.float64) * 2 - 1) * math.pi


def aer(circuit: Circuit, angles: Tensor, **asked: Any) -> Tensor:
    """Aer's density matrix of the same transpiled circuit, its diagonal under the readout errors."""
    from qiskit_aer import AerSimulator

    from qpabench_aer.device import transpile_to_device
    from qpabench_aer.qiskit_circuit import to_qiskit

    translated, theta = to_qiskit(circuit, measured=True)
    transpiled = transpile_to_device(translated, NoisyOptions(**asked))
    kept = transpiled.circuit.parameters
    bound = transpiled.circuit.assign_parameters(
        {parameter: float(angle) for parameter, angle in zip(theta, angles, strict=True) if parameter in kept}
    )
    unmeasured, measured = bound.copy_empty_like(), {}
    for instruction in bound.data:
        if instruction.operation.name == "measure":
            measured[bound.find_bit(instruction.clbits[0]).index] = bound.find_bit(
                instruction.qubits[0]
            ).index
        elif instruction.operation.name != "barrier":
            unmeasured.append(instruction)
    qubits = [measured[bit] for bit in range(circuit.n_qubits)]
    unmeasured.save_probabilities(qubits)
    simulator = AerSimulator(noise_model=transpiled.noise, method="density_matrix")
    found = np.asarray(simulator.run(unmeasured).result().data(0)["probabilities"])
    found = found.reshape([2] * circuit.n_qubits)
    for bit, qubit in enumerate(qubits):
        axis = circuit.n_qubits - 1 - bit
        local = transpiled.noise._local_readout_errors.get((qubit,), transpiled.noise._default_readout_error)
        found = np.moveaxis(np.tensordot(np.asarray(local.probabilities).T, found, axes=(1, axis)), 0, axis)
    return torch.from_numpy(found.reshape(-1).copy())


@needs_aer
@pytest.mark.parametrize("asked", DEVICES, ids=lambda asked: asked["device"])
@pytest.mark.parametrize("name", ["ry", "rxrz"])
def test_probabilities_are_those_of_aers_density_matrix(name: str, asked: dict[str, Any]) -> None:
    circuit = getattr(ansatze, name)(3, 3)
    angles = angles_of(circuit)
    found = backend(**asked).probabilities(circuit, angles, shots=None, seed=0)
    torch.testing.assert_close(found, aer(circuit, angles, **asked), rtol=0, atol=AERS_TRUNCATION)


@needs_aer
@pytest.mark.parametrize("name", ["rx", "ry", "rz", "p"])
def test_every_rotation_is_a_turn_about_z(name: str) -> None:
    from qiskit import QuantumCircuit
    from qiskit.circuit import ParameterVector
    from qiskit.quantum_info import Operator
    from qiskit_aer.noise import NoiseModel

    from qpabench_aer.density import _chains
    from qpabench_aer.pauli_transfer import transfer, translate

    theta = ParameterVector("theta", 2)
    turned, fixed = QuantumCircuit(1), QuantumCircuit(1)
    getattr(turned, name)(0.5 - 2 * theta[1] + theta[0], 0)
    getattr(fixed, name)(0.5 - 2 * 0.4 + 0.9, 0)
    program = translate(turned, theta, NoiseModel())
    found = _chains(program, torch.tensor([0.9, 0.4], dtype=torch.float64))[0]
    np.testing.assert_allclose(found.numpy(), transfer(Operator(fixed)), atol=1e-14)


@needs_aer
def test_a_circuit_that_must_be_routed_over_other_qubits_is_right_too() -> None:
    gates = [Gate("ry", (qubit,), qubit) for qubit in range(4)]
    gates += [Gate("cx", pair) for pair in ((0, 3), (3, 1), (0, 2), (2, 1), (1, 0), (3, 2))]
    gates += [Gate("rx", (qubit,), 4 + qubit) for qubit in range(4)]
    circuit = Circuit(4, tuple(gates))
    angles = angles_of(circuit)
    found = backend(device="torino").probabilities(circuit, angles, shots=None, seed=0)
    torch.testing.assert_close(found, aer(circuit, angles, device="torino"), rtol=0, atol=AERS_TRUNCATION)


@needs_aer
@pytest.mark.parametrize("asked", [{"device": "torino"}, CUSTOM], ids=lambda asked: asked["device"])
def test_the_gradient_is_aers_by_parameter_shift(asked: dict[str, Any]) -> None:
    circuit = ansatze.ryrz(3, 1)
    angles = angles_of(circuit)
    cotangent = torch.linspace(-1, 1, circuit.n_states, dtype=torch.float64)
    leaf = angles.clone().requires_grad_()
    (backend(**asked).probabilities(circuit, leaf, shots=None, seed=0) @ cotangent).backward()
    assert leaf.grad is not None
    for index in range(circuit.n_angles):
        shift = torch.zeros_like(angles)
        shift[index] = math.pi / 2
        plus, minus = (aer(circuit, angles + sign * shift, **asked) @ cotangent for sign in (1, -1))
        assert float(leaf.grad[index]) == pytest.approx(float(plus - minus) / 2, abs=AERS_TRUNCATION)


@needs_aer
def test_states_computed_twice_give_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = ansatze.rxrz(4, 3)
    found = []
    for kept_bytes in (1 << 28, 1):
        monkeypatch.setattr("qpabench_aer.density.KEPT_BYTES", kept_bytes)
        leaf = angles_of(circuit).requires_grad_()
        backend(**CUSTOM).probabilities(circuit, leaf, shots=None, seed=0)[3].backward()
        found.append(leaf.grad)
    assert found[0] is not None
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-14)


@needs_aer
def test_shots_follow_its_probabilities_and_their_seed() -> None:
    circuit, shots = ansatze.ry(3, 2), 20_000
    angles, noisy = angles_of(ansatze.ry(3, 2)), backend(device="torino", shots=20_000)
    exact = noisy.probabilities(circuit, angles, shots=None, seed=0)
    first, again, other = (noisy.probabilities(circuit, angles, shots=shots, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float((first - exact).abs().max()) < 5 / (2 * math.sqrt(shots))  # five deviations


@needs_aer
def test_the_record_holds_layout_gates_and_the_distance_to_the_ideal() -> None:
    circuit, noisy = ansatze.ry(3, 2), backend(device="torino", transpile_seed=3)
    angles = angles_of(circuit)
    found = noisy.probabilities(circuit, angles, shots=None, seed=0)
    facts = noisy.describe(circuit)
    ideal = exact_probabilities(circuit, angles.unsqueeze(0))[0]
    assert facts["transpile_seed"] == 3
    assert len(facts["layout"]) == 3  # type: ignore[arg-type]
    assert facts["total_variation_distance"] == pytest.approx(float((found - ideal).abs().sum() / 2))
    assert "total_variation_distance_from_shots_alone" not in facts


@needs_aer
def test_a_readout_error_flips_each_bit_with_its_rate() -> None:
    circuit, flip = ansatze.ry(2, 1), 0.1
    noisy = backend(device="custom", readout_error=flip, depolarizing_1q=1e-12)
    found = noisy.probabilities(circuit, torch.zeros(2, dtype=torch.float64), shots=None, seed=0)
    once = flip * (1 - flip)  # of the state 00
    expected = torch.tensor([(1 - flip) ** 2, once, once, flip**2], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@needs_aer
def test_a_circuit_that_would_get_no_noise_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no error on any gate"):
        backend(device="custom", depolarizing_2q=0.1).probabilities(
            ansatze.ry(1, 1), torch.tensor([0.3]), shots=None, seed=1
        )


@needs_aer
def test_a_rotation_that_no_measurement_sees_has_gradient_zero() -> None:
    leaf = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    circuit = Circuit(1, (Gate("rz", (0,), 0),))
    found = backend(device="manila").probabilities(circuit, leaf, shots=None, seed=1)
    (gradient,) = torch.autograd.grad(found[0], leaf)
    assert float(found[0].detach()) > 0.9
    assert float(gradient) == pytest.approx(0, abs=1e-15)
