"""The compiled path: the same numbers as the torch path, chosen quietly."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from qpabench.circuits import ansatze, fast
from qpabench.circuits.circuit import Circuit
from qpabench.circuits.native import NativeBackend, exact_probabilities
from qpabench.hooks.entries import BackendOptions

SAME = 1e-12  # rounding of the same sums in another order
CPU = torch.device("cpu")


@pytest.fixture
def numba() -> None:
    pytest.importorskip("numba")


def value_and_gradient(circuit: Circuit, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(circuit.n_qubits)
    angles = torch.rand(circuit.n_angles, generator=generator, dtype=torch.float64) * 6
    cotangent = torch.randn(circuit.n_states, generator=generator, dtype=torch.float64).to(dtype)
    leaf = angles.to(dtype).requires_grad_()
    value = exact_probabilities(circuit, leaf.unsqueeze(0))[0]
    (gradient,) = torch.autograd.grad(value @ cotangent, leaf)
    return value.detach(), gradient


@pytest.mark.usefixtures("numba")
@pytest.mark.parametrize("n_qubits", [1, 2, 6, 7, 10, 11, 12, 13, 14, 16])  # the last two in tiles
@pytest.mark.parametrize("name", ["ry", "rx", "rxrz", "ryrz"])
def test_both_paths_give_the_same(monkeypatch: pytest.MonkeyPatch, name: str, n_qubits: int) -> None:
    circuit = getattr(ansatze, name)(n_qubits, 5)
    monkeypatch.setattr(fast, "FASTER_QUBITS", 30)
    assert fast.chosen(circuit, CPU)
    compiled = value_and_gradient(circuit, torch.float64)
    monkeypatch.setenv("QPABENCH_COMPILED", "0")
    assert not fast.chosen(circuit, CPU)
    for found, expected in zip(compiled, value_and_gradient(circuit, torch.float64), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=SAME)


@pytest.mark.usefixtures("numba")
def test_single_precision_angles_give_single_precision() -> None:
    value, gradient = value_and_gradient(ansatze.ryrz(4, 2), torch.float32)
    assert value.dtype == gradient.dtype == torch.float32


@pytest.mark.usefixtures("numba")
def test_an_angle_that_is_not_a_number_is_not_hidden() -> None:
    circuit = ansatze.ry(3, 1)
    assert exact_probabilities(circuit, torch.full((1, 3), torch.nan, dtype=torch.float64)).isnan().any()


@pytest.mark.usefixtures("numba")
def test_two_backward_passes_through_one_state_agree() -> None:
    leaf = torch.tensor([[0.3, 0.7]], dtype=torch.float64, requires_grad=True)
    value = exact_probabilities(ansatze.ry(2, 1), leaf)[0, 1]
    (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
    (again,) = torch.autograd.grad(value, leaf)
    assert torch.equal(first, again)


def test_the_backend_says_which_path_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, circuit = NativeBackend(BackendOptions()), ansatze.ry(3, 1)
    assert backend.describe(circuit) == {"path": "compiled" if fast.chosen(circuit, CPU) else "torch"}
    monkeypatch.setenv("QPABENCH_COMPILED", "0")
    assert backend.describe(circuit) == {"path": "torch"}


WITHOUT = """
import sys
sys.modules["numba"] = None  # as if it were not installed
import torch
from qpabench.circuits import ansatze, fast
from qpabench.circuits.native import exact_probabilities
circuit = ansatze.ry(2, 1)
print(fast.chosen(circuit, torch.device("cpu")), float(exact_probabilities(circuit, torch.zeros(1, 2))[0, 0]))
"""


def test_without_numba_the_torch_path_runs_quietly() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False 1.0\n", "")


def test_numba_is_not_imported_before_a_circuit_runs() -> None:
    code = "import sys, qpabench.circuits.native; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
