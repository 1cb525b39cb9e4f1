"""The ansätze against their equations: gates, order, and the shape of theta."""

from __future__ import annotations

from math import prod

import pytest

from qpabench.circuits.circuit import Circuit, Gate
from qpabench.hooks.builtin import qpabench_ansatze
from qpabench.hooks.entries import AnsatzEntry

ENTRIES = {entry.name: entry for entry in qpabench_ansatze()}
ROTATIONS = {"ry": ("ry",), "rx": ("rx",), "rxrz": ("rx", "rz"), "ryrz": ("ry", "rz")}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize(("n_qubits", "n_layers"), [(1, 1), (1, 3), (4, 2), (10, 8)])
def test_theta_has_the_declared_shape(entry: AnsatzEntry, n_qubits: int, n_layers: int) -> None:
    circuit = entry.component()(n_qubits, n_layers)
    assert circuit.n_angles == prod(entry.angles_shape(n_qubits, n_layers))


@pytest.mark.parametrize("name", ROTATIONS)
def test_a_cnot_chain_follows_every_rotation_layer(name: str) -> None:
    circuit: Circuit = ENTRIES[name].component()(3, 2)
    expected: list[Gate] = []
    for _ in range(2):
        for rotation in ROTATIONS[name]:
            first = sum(gate.angle is not None for gate in expected)
            expected += [Gate(rotation, (qubit,), first + qubit) for qubit in range(3)]  # type: ignore[arg-type]
            expected += [Gate("cx", (0, 1)), Gate("cx", (1, 2))]
    assert circuit.gates == tuple(expected)


def test_a_repetition_takes_n_angles_or_two_n() -> None:
    counts = {name: ENTRIES[name].component()(5, 8).n_angles for name in ROTATIONS}
    assert counts == {"ry": 40, "rx": 40, "rxrz": 80, "ryrz": 80}
