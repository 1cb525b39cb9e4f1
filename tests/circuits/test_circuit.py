"""The circuit value: what it refuses, its angle index, its drawings."""

from __future__ import annotations

import pytest

from qpabench.circuits import ansatze
from qpabench.circuits.circuit import Circuit, Gate, cnot_chain, to_qasm3, to_text
from qpabench.errors import InputError


def test_a_circuit_counts_its_angles_and_states() -> None:
    circuit = Circuit(3, (Gate("rx", (0,), 0), Gate("cx", (0, 2)), Gate("rz", (1,), 1)))
    assert (circuit.n_angles, circuit.n_states) == (2, 8)


def test_circuits_of_the_same_gates_are_the_same() -> None:
    gates = (Gate("rx", (0,), 0), Gate("cx", (0, 1)), Gate("rz", (1,), 1))
    circuit, again = Circuit(2, gates), Circuit(2, tuple(Gate(g.name, g.qubits, g.angle) for g in gates))
    assert (circuit, hash(circuit)) == (again, hash(again))
    others = [Circuit(3, gates), Circuit(2, gates[:2]), Circuit(2, (*gates[:2], Gate("ry", (1,), 1)))]
    shared = Circuit(2, (*gates[:2], Gate("rz", (1,), 0)))
    assert circuit not in [*others, shared, (2, gates)]


@pytest.mark.parametrize(
    ("n_qubits", "gates", "said"),
    [
        (0, (), "n_qubits = 0"),
        (2, (Gate("rx", (2,), 0),), r"expected 1 distinct in 0\.\.1"),
        (2, (Gate("cx", (0, 0)),), "expected 2 distinct"),
        (2, (Gate("rx", (0, 1), 0),), "expected 1 distinct"),
        (2, (Gate("rx", (0,)),), "has angle None"),
        (2, (Gate("cx", (0, 1), 0),), "has angle 0"),
        (1, (Gate("rx", (0,), 1),), "without gaps"),
    ],
)
def test_a_wrong_circuit_is_refused_with_what_was_found(
    n_qubits: int, gates: tuple[Gate, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        Circuit(n_qubits, gates)


def test_a_shared_angle_is_seen() -> None:
    assert Circuit(1, (Gate("rx", (0,), 0), Gate("ry", (0,), 0))).angle_is_shared()
    assert not ansatze.ryrz(3, 2).angle_is_shared()


def test_the_cnot_chain_runs_from_first_to_last_qubit() -> None:
    assert [gate.qubits for gate in cnot_chain(4)] == [(0, 1), (1, 2), (2, 3)]
    assert list(cnot_chain(1)) == []


def test_openqasm_declares_every_angle_and_writes_gates_in_order() -> None:
    assert to_qasm3(ansatze.rxrz(2, 1)).splitlines() == [
        "OPENQASM 3.0;",
        'include "stdgates.inc";',
        "input float[64] theta_0;",
        "input float[64] theta_1;",
        "input float[64] theta_2;",
        "input float[64] theta_3;",
        "qubit[2] q;",
        "rx(theta_0) q[0];",
        "rx(theta_1) q[1];",
        "cx q[0], q[1];",
        "rz(theta_2) q[0];",
        "rz(theta_3) q[1];",
        "cx q[0], q[1];",
    ]


def test_the_drawing_shows_angles_controls_and_targets() -> None:
    assert to_text(ansatze.ry(3, 1)) == (
        "q0: -RY(0)-*---\n"
        "q1: -RY(1)-X-*-\n"
        "q2: -RY(2)---X-\n"
    )  # fmt: skip
