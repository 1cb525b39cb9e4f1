"""Aer passes the kit: exact, with shots, and under noise that is really there."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
import torch
from pydantic import ValidationError

pytest.importorskip("qpabench_aer")
from qpabench import BackendEntry, UnsupportedError
from qpabench.circuits import ansatze
from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit, Gate
from qpabench.circuits.native import exact_probabilities
from qpabench.testing.pytest_plugin import conformance_test
from qpabench_aer import NoisyOptions, qpabench_backends

ENTRIES: dict[str, BackendEntry] = {entry.name: entry for entry in qpabench_backends()}
NOISY = ENTRIES["noisy"]
LACKING = NOISY.options().missing()
needs_aer = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))

test_aer = conformance_test(ENTRIES["aer"])
test_aer_shots = conformance_test(ENTRIES["aer-shots"], shots=8192)
test_noisy_torino = conformance_test(NOISY, device="torino", shots=8192)
test_noisy_fez = conformance_test(NOISY, device="fez", shots=8192)
test_noisy_custom = conformance_test(
    NOISY, device="custom", depolarizing_1q=0.001, depolarizing_2q=0.01, readout_error=0.01, shots=8192
)

CIRCUIT = ansatze.rxrz(4, 3)
ANGLES = torch.linspace(-3, 3, CIRCUIT.n_angles, dtype=torch.float64)


def noisy(**asked: Any) -> Backend:
    backend = NOISY.component()(NOISY.options(**{"shots": 4096, **asked}))
    assert isinstance(backend, Backend)
    return backend


@needs_aer
def test_the_record_holds_layout_depth_gates_and_the_distance_to_the_ideal() -> None:
    backend = noisy(device="torino", transpile_seed=3)
    found = backend.probabilities(CIRCUIT, ANGLES, shots=4096, seed=1)
    facts = backend.describe(CIRCUIT)
    ideal = exact_probabilities(CIRCUIT, ANGLES.unsqueeze(0))[0]
    assert facts["transpile_seed"] == 3
    assert len(facts["layout"]) == len(set(facts["layout"])) == 4  # type: ignore[arg-type]
    assert facts["two_qubit_gates"] == 18  # 3 repetitions x 2 chains x 3 CNOTs, one cz each: nothing routed
    assert int(facts["depth"]) > 18  # type: ignore[call-overload]
    assert facts["ideal_probabilities"] == pytest.approx(ideal.tolist())
    assert facts["probabilities"] == pytest.approx(found.tolist())
    expected = float((found - ideal).abs().sum() / 2)
    assert facts["total_variation_distance"] == pytest.approx(expected)
    assert expected > float(facts["total_variation_distance_from_shots_alone"])  # type: ignore[arg-type]


@needs_aer
def test_a_circuit_is_transpiled_once_and_reused_with_new_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    import qpabench_aer.device as device

    calls = []
    original = device.transpile

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(device, "transpile", counted)
    backend = noisy()
    for seed in range(3):
        backend.probabilities(CIRCUIT, ANGLES + seed, shots=100, seed=seed)
    assert len(calls) == 1


@needs_aer
def test_a_batch_is_one_job_in_which_each_row_has_its_own_noise() -> None:
    from qiskit_aer import AerSimulator

    backend = noisy()
    jobs = []
    original = AerSimulator.run

    def counted(*args: Any, **kwargs: Any) -> Any:
        jobs.append(kwargs["seed_simulator"])
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AerSimulator, "run", counted)
        rows = backend.batch(CIRCUIT, ANGLES.expand(5, -1), shots=2000, seeds=range(5))
        backend.batch(CIRCUIT, ANGLES.expand(5, -1), shots=2000, seeds=range(5, 10))
    assert len(jobs) == len(set(jobs)) == 2
    assert len({tuple(row.tolist()) for row in rows}) == 5


@needs_aer
def test_the_noise_of_the_used_qubits_is_that_of_the_whole_device() -> None:
    from qiskit_aer.noise import NoiseModel

    from qpabench_aer.device import fake_device, transpile_to_device
    from qpabench_aer.qiskit_circuit import to_qiskit

    options = NoisyOptions(device="manila")  # five qubits: the whole model is quick
    translated, _ = to_qiskit(ansatze.ry(3, 1), measured=True)
    part = transpile_to_device(translated, options)
    whole = NoiseModel.from_backend(fake_device("manila"))
    for name, errors in part.noise._local_quantum_errors.items():
        for qubits, error in errors.items():
            physical = tuple(part.physical[qubit] for qubit in qubits)
            assert error == whole._local_quantum_errors[name][physical]
    for qubits, error in part.noise._local_readout_errors.items():
        assert error == whole._local_readout_errors[(part.physical[qubits[0]],)]
    assert {"cx", "sx", "measure"} <= set(part.noise.noise_instructions)


@needs_aer
def test_qubits_are_simulated_only_where_used() -> None:
    backend = noisy(device="fez")
    backend.probabilities(CIRCUIT, ANGLES, shots=100, seed=1)  # loads, transpiles
    started = time.perf_counter()
    backend.probabilities(CIRCUIT, ANGLES, shots=100, seed=2)
    assert time.perf_counter() - started < 2  # all 156 qubits: several seconds


@needs_aer
def test_a_rotation_that_no_measurement_sees_may_vanish_in_transpilation() -> None:
    circuit = Circuit(1, (Gate("rz", (0,), 0),))
    found = noisy(device="manila").probabilities(circuit, torch.tensor([0.3]), shots=1000, seed=1)
    assert float(found[0]) > 0.9


@needs_aer
def test_a_circuit_that_would_get_no_noise_is_refused() -> None:
    backend = noisy(device="custom", depolarizing_2q=0.1)
    circuit = ansatze.ry(1, 1)
    with pytest.raises(UnsupportedError, match="no error on any gate"):
        backend.probabilities(circuit, torch.tensor([0.3]), shots=100, seed=1)


@needs_aer
def test_a_device_with_too_few_qubits_is_refused_with_both_numbers() -> None:
    circuit = ansatze.ry(6, 1)
    with pytest.raises(UnsupportedError, match=r"'manila' has 5 qubits, found a circuit of 6"):
        noisy(device="manila").probabilities(circuit, torch.zeros(6), shots=100, seed=1)


@needs_aer
def test_exact_and_sampling_backends_refuse_each_others_work() -> None:
    for name, asked, shots in (("aer", {}, 100), ("aer-shots", {"shots": 100}, None)):
        backend = ENTRIES[name].component()(ENTRIES[name].options(**asked))
        with pytest.raises(UnsupportedError, match="shots"):
            backend.probabilities(CIRCUIT, ANGLES, shots=shots, seed=1)


@pytest.mark.parametrize("name", ["FakeTorino", "fake_torino", "Torino", "torino"])
def test_a_device_has_one_name_in_a_cell(name: str) -> None:
    assert NoisyOptions(device=name).device == "torino"


@needs_aer
def test_an_unknown_device_is_named_with_the_nearest() -> None:
    assert "did you mean 'torino'" in str(NoisyOptions(device="tornio").missing())
    with pytest.raises(UnsupportedError, match="did you mean 'torino'"):
        noisy(device="tornio").probabilities(CIRCUIT, ANGLES, shots=10, seed=1)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"device": "custom"}, "no noise"),
        ({"device": "custom", "readout_error": 0.0}, "no noise"),
        ({"device": "torino", "depolarizing_2q": 0.1}, "with device 'custom' only"),
        ({"device": "custom", "depolarizing_2q": 2.0}, "depolarizing_2q"),
        ({"shots": 0}, "shots"),
    ],
)
def test_wrong_options_say_what_was_expected(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NoisyOptions(**asked)


def test_listing_it_imports_neither_torch_nor_qiskit() -> None:
    code = (
        "import sys, qpabench_aer\n"
        "[entry.options().missing() for entry in qpabench_aer.qpabench_backends()]\n"
        "heavy = ('torch', 'qiskit', 'qiskit_ibm_runtime', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
