"""Our circuits as Qiskit circuits, and Aer's counts as our frequencies.

Qiskit is little-endian. Our qubit q becomes Qiskit's qubit N-1-q, so that Qiskit's basis index is ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from torch import Tensor

from qpabench.circuits.circuit import Circuit


def to_qiskit(circuit: Circuit, *, measured: bool) -> tuple[QuantumCircuit, ParameterVector]:
    """Translate a circuit.

    Args:
        circuit: ours.
        measured: measure every qubit at the end, into the classical bit of the same index.

    Returns:
        The Qiskit circuit with free parameters, and those, in the order of our angle indices.
    """
    last = circuit.n_qubits - 1
    theta = ParameterVector("theta", circuit.n_angles)
    result = QuantumCircuit(circuit.n_qubits, circuit.n_qubits if measured else 0)
    for gate in circuit.gates:
        if gate.angle is None:
            result.cx(last - gate.qubits[0], last - gate.qubits[1])
        else:
            getattr(result, gate.name)(theta[gate.angle], last - gate.qubits[0])
    if measured:
        result.measure(range(circuit.n_qubits), range(circuit.n_qubits))
    return result, theta


def frequencies(counts: Mapping[str, int], n_states: int) -> Tensor:
    """Turn Aer's counts by hexadecimal basis index into relative frequencies, shape (n_states,)."""
    index = torch.tensor([int(key, 16) for key in counts])
    number = torch.tensor(list(counts.values()), dtype=torch.float64)
    return torch.zeros(n_states, dtype=torch.float64).index_put((index,), number / number.sum())
