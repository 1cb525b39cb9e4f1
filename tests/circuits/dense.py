"""An independent oracle: every gate as a full Kronecker matrix in numpy."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpabench.circuits.circuit import Circuit, Gate

IDENTITY = np.eye(2)
X, Y, Z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1.0, -1.0])
PAULI = {"rx": X, "ry": Y, "rz": Z}
ZERO, ONE = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])


def kron(factors: list[NDArray[np.complex128]]) -> NDArray[np.complex128]:
    """Multiply out, qubit 0 first, that is most significant."""
    return reduce(np.kron, factors)


def matrix(gate: Gate, n_qubits: int, angles: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the gate on all qubits, (2**N, 2**N)."""
    if gate.angle is None:
        control, target = gate.qubits
        idle = [IDENTITY] * n_qubits
        off, on = list(idle), list(idle)
        off[control], on[control], on[target] = ZERO, ONE, X
        return kron(off) + kron(on)
    half = angles[gate.angle] / 2
    factors = [IDENTITY] * n_qubits
    factors[gate.qubits[0]] = np.cos(half) * IDENTITY - 1j * np.sin(half) * PAULI[gate.name]
    return kron(factors)


def probabilities(circuit: Circuit, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |U_k ... U_1 |0>|^2."""
    state = np.zeros(circuit.n_states, dtype=complex)
    state[0] = 1
    for gate in circuit.gates:
        state = matrix(gate, circuit.n_qubits, angles) @ state
    return np.abs(state) ** 2


def gate_by_gate(circuit: Circuit, angles: Tensor) -> Tensor:
    """Return probabilities by one small tensor product a gate, differentiable by autograd."""
    state = torch.zeros([2] * circuit.n_qubits, dtype=torch.complex128)
    state[(0,) * circuit.n_qubits] = 1
    for gate in circuit.gates:
        if gate.angle is None:
            moved = state.movedim(gate.qubits, (0, 1))
            state = torch.stack([moved[0], moved[1].flip(0)]).movedim((0, 1), gate.qubits)
            continue
        half = angles[gate.angle] / 2
        pauli = torch.tensor(PAULI[gate.name], dtype=torch.complex128)
        turn = half.cos() * torch.eye(2, dtype=torch.float64) - 1j * half.sin() * pauli
        state = torch.tensordot(turn, state, dims=([1], [gate.qubits[0]])).movedim(0, gate.qubits[0])
    return (state.real**2 + state.imag**2).flatten()
