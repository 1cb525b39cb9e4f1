"""The four ansätze of the paper; qubit counts N, repetitions L, angles in radians.

A bracket with superscript L in the paper means: the bracket acts L times, each time with its own angles.
"""

from __future__ import annotations

from qpabench.circuits.circuit import Circuit, Gate, Rotation, cnot_chain


def _layered(n_qubits: int, n_layers: int, rotations: tuple[Rotation, ...]) -> Circuit:
    gates: list[Gate] = []
    angle = 0
    for _ in range(n_layers):
        for rotation in rotations:
            for qubit in range(n_qubits):
                gates.append(Gate(rotation, (qubit,), angle))
                angle += 1
            gates.extend(cnot_chain(n_qubits))
    return Circuit(n_qubits, tuple(gates))


def ry(n_qubits: int, n_layers: int) -> Circuit:
    """Build RY on every qubit, then the CNOT chain, L times; theta has shape (L, N).

    Source: equation 1.
    """
    return _layered(n_qubits, n_layers, ("ry",))


def rx(n_qubits: int, n_layers: int) -> Circuit:
    """Build RX on every qubit, then the CNOT chain, L times; theta has shape (L, N).

    Source: equation 12.
    """
    return _layered(n_qubits, n_layers, ("rx",))


def rxrz(n_qubits: int, n_layers: int) -> Circuit:
    """Build RX, chain, RZ, chain, L times; theta has shape (L, 2, N), the RX angles first.

    Source: equation 13 (the rightmost factor acts first).
    """
    return _layered(n_qubits, n_layers, ("rx", "rz"))


def ryrz(n_qubits: int, n_layers: int) -> Circuit:
    """Build RY, chain, RZ, chain, L times; theta has shape (L, 2, N), the RY angles first.

    Source: equation 14 (the rightmost factor acts first).
    """
    return _layered(n_qubits, n_layers, ("ry", "rz"))
