"""PennyLane devices pass the kit, exact and with shots, each with the gradient it gives."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

pytest.importorskip("qpabench_pennylane")
from qpabench import BackendOptions, UnavailableError, UnsupportedError
from qpabench.circuits import ansatze
from qpabench.testing.pytest_plugin import conformance_test
from qpabench_pennylane import qpabench_backends

[ENTRY] = qpabench_backends()
needs_pennylane = pytest.mark.skipif(
    ENTRY.options().missing() is not None, reason=str(ENTRY.options().missing())
)
test_default_qubit = conformance_test(ENTRY, device="default.qubit")
test_default_qubit_shots = conformance_test(ENTRY, device="default.qubit", shots=8192)
test_lightning_qubit = conformance_test(ENTRY, device="lightning.qubit")
test_lightning_qubit_shots = conformance_test(ENTRY, device="lightning.qubit", shots=8192)


def options(**asked: object) -> BackendOptions:
    chosen = ENTRY.options(**asked)
    assert isinstance(chosen, BackendOptions)
    return chosen


@pytest.mark.parametrize(
    ("device", "method"),
    [("default.qubit", "own"), ("lightning.qubit", "own"), ("reference.qubit", "parameter-shift")],
)
def test_auto_takes_the_devices_own_gradient_where_it_has_one(device: str, method: str) -> None:
    assert ENTRY.gradient_method(options(device=device)) == method


def test_an_own_gradient_of_a_device_without_one_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no gradient of its own"):
        ENTRY.gradient_method(options(device="reference.qubit", gradient="own"))


@needs_pennylane
def test_backprop_and_adjoint_agree() -> None:
    circuit = ansatze.rxrz(4, 2)
    angles = torch.linspace(-3, 3, circuit.n_angles, dtype=torch.float64)
    cotangent = torch.linspace(-1, 1, circuit.n_states, dtype=torch.float64)
    found = []
    for device in ("default.qubit", "lightning.qubit"):
        leaf = angles.clone().requires_grad_()
        backend = ENTRY.component()(options(device=device))
        result = backend.probabilities(circuit, leaf, shots=None, seed=1)
        found.append(torch.autograd.grad(result @ cotangent, leaf)[0])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


@needs_pennylane
def test_a_device_that_takes_no_seed_refuses_shots() -> None:
    backend = ENTRY.component()(options(device="null.qubit", shots=10))
    circuit = ansatze.ry(2, 1)
    with pytest.raises(UnsupportedError, match="takes no seed"):
        backend.probabilities(circuit, torch.zeros(circuit.n_angles), shots=10, seed=1)


@needs_pennylane
@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("lightning.kokkos", "python -m pip install pennylane-lightning-kokkos"),
        ("lightnin.qubit", "did you mean 'lightning.qubit'"),
    ],
)
def test_an_absent_device_is_unavailable_with_what_to_do(device: str, said: str) -> None:
    assert said in str(options(device=device).missing())


@needs_pennylane
def test_a_device_that_cannot_be_made_is_one_line() -> None:
    backend = ENTRY.component()(options(device="no.such"))
    circuit = ansatze.ry(2, 1)
    with pytest.raises(UnavailableError, match=r"no\.such"):
        backend.probabilities(circuit, torch.zeros(circuit.n_angles), shots=None, seed=1)


def test_listing_it_imports_neither_torch_nor_pennylane() -> None:
    code = (
        "import sys, qpabench_pennylane\n"
        "[entry] = qpabench_pennylane.qpabench_backends()\n"
        "entry.options().missing()\n"
        "print([name for name in ('torch', 'pennylane', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
