"""A backend-neutral circuit: gates, and which angle each rotation takes.

Bit order, stated here once: **qubit 0 is the most significant bit** of a basis index. On three qubits
index 1 is ``001``, that is qubit 2 in state one (PennyLane's and TorchQuantum's order; Qiskit's is the
reverse). All circuits start in the state of index 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from qpabench.errors import InputError

Rotation = Literal["rx", "ry", "rz"]
ROTATIONS: tuple[Rotation, ...] = ("rx", "ry", "rz")


@dataclass(frozen=True)
class Gate:
    """One gate.

    Args:
        name: ``rx``, ``ry``, ``rz`` (exp(-i angle/2 P)) or ``cx`` (control first).
        qubits: one qubit for a rotation, (control, target) for ``cx``.
        angle: index into the flat angle vector, None for ``cx``.
    """

    name: Literal["rx", "ry", "rz", "cx"]
    qubits: tuple[int, ...]
    angle: int | None = None


@dataclass(frozen=True, eq=False)
class Circuit:
    """Gates on ``n_qubits`` qubits in the order in which they act.

    Args:
        n_qubits: N, at least 1.
        gates: first gate first.

    Raises:
        InputError: a qubit outside 0..N-1, a rotation without an angle, or angle indices with gaps.
    """

    n_qubits: int
    gates: tuple[Gate, ...]

    def __post_init__(self) -> None:
        if self.n_qubits < 1:
            raise InputError(f"circuit: found n_qubits = {self.n_qubits}, expected at least 1")
        used = set()
        for gate in self.gates:
            wanted = 2 if gate.name == "cx" else 1
            if len(set(gate.qubits)) != wanted or not all(0 <= q < self.n_qubits for q in gate.qubits):
                raise InputError(
                    f"circuit: gate {gate.name} on qubits {gate.qubits}, "
                    f"expected {wanted} distinct in 0..{self.n_qubits - 1}"
                )
            if (gate.angle is None) != (gate.name == "cx"):
                raise InputError(f"circuit: gate {gate.name} has angle {gate.angle}")
            if gate.angle is not None:
                used.add(gate.angle)
        if used != set(range(len(used))):
            raise InputError("circuit: angle indices must be 0..n_angles-1 without gaps")

    def __eq__(self, other: object) -> bool:
        return self._content == other._content if isinstance(other, Circuit) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def _content(self) -> str:
        """All of it as one text: circuits are looked up in every step, and have thousands of gates."""
        return repr((self.n_qubits, [(gate.name, gate.qubits, gate.angle) for gate in self.gates]))

    @cached_property
    def n_angles(self) -> int:
        """How many angles the circuit takes."""
        return len({gate.angle for gate in self.gates if gate.angle is not None})

    @property
    def n_states(self) -> int:
        """2**n_qubits."""
        return 1 << self.n_qubits

    def angle_is_shared(self) -> bool:
        """Say whether two gates take one angle (the two-term parameter-shift rule then fails)."""
        uses = Counter(gate.angle for gate in self.gates if gate.angle is not None)
        return any(count > 1 for count in uses.values())


def cnot_chain(n_qubits: int) -> Iterable[Gate]:
    """Yield CNOT(i, i+1) for i = 0..N-2, the entangling layer of equations 1, 12, 13 and 14."""
    for qubit in range(n_qubits - 1):
        yield Gate("cx", (qubit, qubit + 1))


def to_qasm3(circuit: Circuit) -> str:
    """Write the circuit as OpenQASM 3 with its angles as an input array.

    Args:
        circuit: any circuit.

    Returns:
        OpenQASM 3 text. ``q[0]`` is qubit 0, the most significant bit.
    """
    lines = [
        "OPENQASM 3.0;",
        'include "stdgates.inc";',
        *[f"input float[64] theta_{index};" for index in range(circuit.n_angles)],
        f"qubit[{circuit.n_qubits}] q;",
    ]
    for gate in circuit.gates:
        operands = ", ".join(f"q[{qubit}]" for qubit in gate.qubits)
        call = "cx" if gate.angle is None else f"{gate.name}(theta_{gate.angle})"
        lines.append(f"{call} {operands};")
    return "\n".join(lines) + "\n"


def to_text(circuit: Circuit) -> str:
    """Draw the circuit, one line a qubit, time from left to right.

    Args:
        circuit: any circuit.

    Returns:
        Text; a rotation shows its angle index, ``*`` is a control and ``X`` its target.
    """
    columns: list[list[str | None]] = []
    free = [0] * circuit.n_qubits
    for gate in circuit.gates:
        low, high = min(gate.qubits), max(gate.qubits)
        column = max(free[low : high + 1])
        while len(columns) <= column:
            columns.append([None] * circuit.n_qubits)
        if gate.angle is None:
            columns[column][gate.qubits[0]], columns[column][gate.qubits[1]] = "*", "X"
            for between in range(low + 1, high):
                columns[column][between] = "|"
        else:
            columns[column][gate.qubits[0]] = f"{gate.name.upper()}({gate.angle})"
        for qubit in range(low, high + 1):
            free[qubit] = column + 1
    lines = []
    for qubit in range(circuit.n_qubits):
        cells = []
        for column_cells in columns:
            width = max((len(cell) for cell in column_cells if cell), default=1)
            cells.append((column_cells[qubit] or "").center(width, "-"))
        lines.append(f"q{qubit}: -" + "-".join(cells) + "-")
    return "\n".join(lines) + "\n"
