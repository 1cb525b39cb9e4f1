"""Circuit forward and gradient: native beside every other backend; noise beside Aer; memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ratios import FEW_ROUNDS, Clock, Ratio, in_torch, ratio, take_turns, timed

from qpabench.circuits import ansatze
from qpabench.circuits.gradients import CircuitFunction
from qpabench.hooks.entries import BackendEntry, BackendOptions
from qpabench.hooks.manager import load_registry

GIGABYTE = 2**30


def step(name: str, n_qubits: int, n_layers: int, **asked: Any) -> Callable[[], object]:
    """Return a function that runs one forward and backward pass of the RY ansatz."""
    entry = load_registry().find("backend", name).entry
    assert isinstance(entry, BackendEntry)
    options = entry.options(**asked)
    assert isinstance(options, BackendOptions)
    lacking = options.missing()
    if lacking:
        pytest.skip(lacking)
    circuit = ansatze.ry(n_qubits, n_layers)
    generator = torch.Generator().manual_seed(0)
    angles, cotangent = (
        torch.rand(n, generator=generator, dtype=torch.float64).to(Clock.device)
        for n in (circuit.n_angles, circuit.n_states)
    )
    backend = entry.component()(options)
    backend.on_device = True  # TorchQuantum too is measured where the others are
    function = CircuitFunction(backend, circuit, options, entry.gradient_method(options), 0)

    def run() -> None:
        leaf = (angles * 6).requires_grad_()
        (function(leaf) * cotangent).sum().backward()

    return run


@pytest.mark.parametrize(
    ("n_qubits", "n_layers", "others", "target", "in_torch_alone", "rounds"),
    [
        (7, 8, ("torchquantum", "pennylane", "lightning", "aer"), 30, 30, 7),
        (10, 8, ("torchquantum", "pennylane", "lightning"), 40, 40, 9),
        (10, 64, ("torchquantum", "pennylane", "lightning"), 90, 90, 5),
        (16, 64, ("torchquantum",), 100, 15, 5),
        (20, 8, ("torchquantum",), 100, 10, 5),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_circuit(
    benchmark: Any,
    measured: list[Ratio],
    n_qubits: int,
    n_layers: int,
    others: tuple[str, ...],
    target: float,
    in_torch_alone: float,
    rounds: int,
) -> None:
    size = (n_qubits, n_layers)
    known = {"lightning": ("pennylane", {"device": "lightning.qubit"})}
    rivals = {
        "native": timed(step("native", *size)),
        "native in torch": in_torch(timed(step("native", *size))),
    }
    for name in others:
        backend, asked = known.get(name, (name, {}))
        rivals[name] = timed(step(backend, *size, **asked))
    for name in ("native", "native in torch"):
        rivals[name]()  # compiles the circuit
    seconds = take_turns(benchmark, rivals, rounds, warm_up=rounds > FEW_ROUNDS)
    for name in others:
        aim = target if name == "torchquantum" else None
        measured.append(
            ratio(f"circuit {size}: {name} / native", seconds[name], seconds["native"], "high", aim)
        )
    name = f"circuit {size}: torchquantum / native in torch"
    measured.append(ratio(name, seconds["torchquantum"], seconds["native in torch"], "high", in_torch_alone))


def test_noisy_gradient(benchmark: Any, measured: list[Ratio]) -> None:
    """Aer: parameter shift on the reduced noise model's density matrix, which is read out by shots."""
    aer = timed(step("noisy", 8, 8, device="torino", shots=1024))
    ours = timed(step("native-noisy", 8, 8, device="torino"))
    ours()  # transpiles
    seconds = take_turns(benchmark, {"aer": aer, "native-noisy": ours}, rounds=2, warm_up=False)
    measured.append(
        ratio(
            "noisy gradient (8, 8): aer / native-noisy", seconds["aer"], seconds["native-noisy"], "high", 50
        )
    )


MEMORY = """
import resource, sys, torch
from qpabench.circuits import ansatze
from qpabench.circuits.native import exact_probabilities
circuit = ansatze.ry(20, 64)
angles = torch.rand(1, circuit.n_angles, dtype=torch.float64, requires_grad=True)
exact_probabilities(circuit, angles)[0, :3].sum().backward()
try:  # the figure that getrusage gives begins with the parent's
    lines = open("/proc/self/status").read().splitlines()
    print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024)
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak if sys.platform == "darwin" else peak * 1024)
"""


def test_memory(benchmark: Any, measured: list[Ratio]) -> None:
    """TorchQuantum keeps a state a gate: 20 GB at this size."""

    def run() -> int:
        done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
        return int(done.stdout)

    peak = benchmark.pedantic(run, rounds=1, iterations=1)
    name = "circuit (20, 64): native's peak memory / 1 GiB"
    measured.append(Ratio(name, peak / GIGABYTE, 0.05, "low", 1, f"{peak / 2**20:.0f} MiB, torch included"))
