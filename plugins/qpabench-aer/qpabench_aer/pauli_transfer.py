"""A transpiled circuit under a noise model as real matrices on the Pauli components of its state.

The state is r_P = Tr(P rho) for every Pauli string P, 4**n real numbers. Gates and errors are real matrices
on the four (or sixteen) components of one (or two) qubits. All that acts on one qubit between two of its
two-qubit gates is one 4 x 4 chain, and goes into the 16 x 16 matrix of the next two-qubit gate or, after
the last one, into the readout. Only rotations about Z carry angles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction, ParameterVector
from qiskit.circuit.library import HGate, SXdgGate, SXGate
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import PTM, Operator, SuperOp
from qiskit_aer.noise import NoiseModel
from torch import Tensor

from qpabench.errors import UnsupportedError

Matrix = NDArray[np.float64]
#: A rotation about Z, or one that a fixed gate before and after makes one.
TURNED = {"rz": None, "p": None, "u1": None, "rx": (HGate(), HGate()), "ry": (SXGate(), SXdgGate())}
POPULATION = np.array([[0.5, 0, 0, 0.5], [0.5, 0, 0, -0.5]])  # Pauli components -> probabilities of 0 and 1
TRACE = np.array([[1.0, 0, 0, 0]])


@dataclass
class Chain:
    """Single-qubit operations in order: a constant, then turns about Z, each followed by a constant."""

    constants: list[Matrix] = field(default_factory=lambda: [np.eye(4)])
    turns: list[int] = field(default_factory=list)

    def fixed(self, matrix: Matrix) -> None:
        """Add a constant operation."""
        self.constants[-1] = matrix @ self.constants[-1]

    def turn(self, angle: int) -> None:
        """Add a rotation about Z by the given row of the program's angles."""
        self.turns.append(angle)
        self.constants.append(np.eye(4))


@dataclass(frozen=True)
class Program:
    """What is needed to propagate.

    Args:
        n_qubits: of the transpiled circuit.
        offset, slope: its angles are ``offset + slope @ angles``, (n_turns,) and (n_turns, n_angles).
        constants, turns: of all chains, padded to one length: (T + 1, chains, 4, 4) and (T, chains); a turn
            equal to n_turns is by zero.
        gates: (n_gates, 16, 16), two-qubit gates with their errors.
        pairs: the qubits of each gate, in the order of its matrix.
        before: (n_gates, 2), the chains that act just before each gate.
        readout: per classical bit, highest first, then per qubit that isn't measured: (2 or 1, 4).
        last: the chain that acts just before each of them, and its qubit.
    """

    n_qubits: int
    offset: Tensor
    slope: Tensor
    constants: Tensor
    turns: Tensor
    gates: Tensor
    pairs: tuple[tuple[int, int], ...]
    before: Tensor
    readout: tuple[Tensor, ...]
    last: tuple[tuple[int, int], ...]


def transfer(operation: Any) -> Matrix:
    """Return the Pauli transfer matrix of a gate or an error; its first qubit is the least significant."""
    return np.asarray(PTM(operation).data.real, dtype=np.float64)


def translate(circuit: QuantumCircuit, theta: ParameterVector, noise: NoiseModel) -> Program:
    """Translate a transpiled, measured circuit.

    Args:
        circuit: on its used qubits, with free parameters.
        theta: those, in the order of our angle indices.
        noise: of these qubits.

    Raises:
        UnsupportedError: an instruction that is neither a gate on at most two qubits nor a final measurement,
            or an angle that is no linear function of the parameters.
    """
    chains: list[Chain] = []
    current = [_new(chains) for _ in range(circuit.num_qubits)]
    rows: list[tuple[float, dict[int, float]]] = []
    gates: list[Matrix] = []
    pairs: list[tuple[int, int]] = []
    before: list[tuple[int, int]] = []
    measured: dict[int, int] = {}
    known: dict[tuple[Any, ...], Matrix] = {}
    for instruction in circuit.data:
        name = instruction.operation.name
        qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
        if name == "barrier":
            continue
        if set(qubits) & set(measured.values()):
            raise UnsupportedError(f"native-noisy: found {name} after a measurement, expected none")
        if name == "measure":
            measured[circuit.find_bit(instruction.clbits[0]).index] = qubits[0]
        elif len(qubits) == 1:
            _single(
                instruction, qubits[0], chains[current[qubits[0]]], theta, rows, _error(noise, name, qubits)
            )
        else:
            gates.append(_pair(instruction, qubits, noise, known))
            pairs.append((qubits[1], qubits[0]))  # the matrix has the gate's first qubit last
            before.append((current[qubits[1]], current[qubits[0]]))
            for qubit in qubits:
                current[qubit] = _new(chains)
    order = [measured[bit] for bit in sorted(measured, reverse=True)]
    idle = [qubit for qubit in range(circuit.num_qubits) if qubit not in order]
    readout = [_assignment(noise, qubit) @ POPULATION for qubit in order] + [TRACE] * len(idle)
    slope = np.zeros((len(rows), len(theta)))
    for row, (_, coefficients) in enumerate(rows):
        for index, value in coefficients.items():
            slope[row, index] = value
    constants, turns = _padded(chains, len(rows))
    return Program(
        n_qubits=circuit.num_qubits,
        offset=torch.tensor([offset for offset, _ in rows], dtype=torch.float64),
        slope=torch.from_numpy(slope),
        constants=torch.from_numpy(constants),
        turns=torch.from_numpy(turns),
        gates=torch.from_numpy(np.stack(gates) if gates else np.zeros((0, 16, 16))),
        pairs=tuple(pairs),
        before=torch.tensor(before, dtype=torch.long).reshape(-1, 2),
        readout=tuple(torch.from_numpy(np.ascontiguousarray(matrix)) for matrix in readout),
        last=tuple((current[qubit], qubit) for qubit in order + idle),
    )


def _new(chains: list[Chain]) -> int:
    chains.append(Chain())
    return len(chains) - 1


def _single(
    instruction: CircuitInstruction,
    qubit: int,
    chain: Chain,
    theta: ParameterVector,
    rows: list[tuple[float, dict[int, float]]],
    error: Matrix | None,
) -> None:
    operation = instruction.operation
    if operation.is_parameterized():
        if operation.name not in TURNED:
            raise UnsupportedError(
                f"native-noisy: found an angle in gate {operation.name}, expected one of {', '.join(TURNED)}"
            )
        around = TURNED[operation.name]
        if around is not None:
            chain.fixed(transfer(Operator(around[0])))
        chain.turn(len(rows))
        rows.append(_linear(operation.params[0], theta))
        if around is not None:
            chain.fixed(transfer(Operator(around[1])))
    elif operation.name != "id":
        chain.fixed(_unitary(operation))
    if error is not None:
        chain.fixed(error)


def _pair(
    instruction: CircuitInstruction,
    qubits: tuple[int, ...],
    noise: NoiseModel,
    known: dict[tuple[Any, ...], Matrix],
) -> Matrix:
    operation = instruction.operation
    if len(qubits) > 2 or operation.is_parameterized():
        raise UnsupportedError(
            f"native-noisy: found gate {operation.name} on {len(qubits)} qubits, "
            "expected fixed gates on two and rotations on one"
        )
    key = (operation.name, tuple(operation.params), qubits)
    if key not in known:
        error = _error(noise, operation.name, qubits)
        gate = _unitary(operation)
        known[key] = gate if error is None else error @ gate
    return known[key]


def _unitary(operation: Any) -> Matrix:
    try:
        return transfer(Operator(operation))
    except QiskitError as error:
        raise UnsupportedError(f"native-noisy: found {operation.name}, expected a gate") from error


def _error(noise: NoiseModel, name: str, qubits: tuple[int, ...]) -> Matrix | None:
    local = noise._local_quantum_errors.get(name, {})
    found = local.get(qubits, noise._default_quantum_errors.get(name))
    return None if found is None else transfer(SuperOp(found))


def _assignment(noise: NoiseModel, qubit: int) -> Matrix:
    """Return P(measured | actual), (2, 2)."""
    found = noise._local_readout_errors.get((qubit,), noise._default_readout_error)
    return np.eye(2) if found is None else np.asarray(found.probabilities, dtype=np.float64).T


def _linear(expression: Any, theta: ParameterVector) -> tuple[float, dict[int, float]]:
    index = {parameter: position for position, parameter in enumerate(theta)}
    try:
        slopes = {index[p]: float(expression.gradient(p)) for p in expression.parameters}
    except (TypeError, KeyError) as error:
        raise UnsupportedError(
            f"native-noisy: found the angle {expression}, expected a linear one"
        ) from error
    zero = expression.bind(dict.fromkeys(expression.parameters, 0.0))
    return float(zero), slopes


def _padded(chains: Sequence[Chain], no_turn: int) -> tuple[Matrix, NDArray[np.int64]]:
    length = max(len(chain.turns) for chain in chains)
    constants = np.tile(np.eye(4), (length + 1, len(chains), 1, 1))
    turns = np.full((length, len(chains)), no_turn, dtype=np.int64)
    for column, chain in enumerate(chains):
        turns[: len(chain.turns), column] = chain.turns
        constants[: len(chain.constants), column] = chain.constants
    return constants, turns
