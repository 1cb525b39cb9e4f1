"""Writes a new backend plugin that installs, works and passes the conformance kit as it is."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from qpabench.errors import InputError, cause, one_line

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_PYPROJECT = Template("""\
[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "qpabench-$name"
version = "0.1.0"
description = "A circuit backend for qpabench"
requires-python = ">=3.11"
dependencies = ["qpabench", "torch"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points.qpabench]
$name = "$package"

[tool.hatch.build.targets.wheel]
packages = ["$package"]
""")

_ENTRY = Template('''\
"""What this plugin brings; importing it imports neither torch nor a simulator."""

import qpabench


@qpabench.hookimpl
def qpabench_backends():
    yield qpabench.BackendEntry(
        name="$name",
        summary="a dense state vector, gate by gate",
        load="$package.backend:DenseBackend",
        exact=True,
        shots=True,
        gradient=True,
        max_qubits=12,
    )
''')

_BACKEND = Template('''\
"""A dense state vector; replace the body of ``probabilities`` with your simulator or device."""

import torch

from qpabench.circuits.backend import Backend
from qpabench.circuits.native import sample_frequencies

PAULI = {"rx": [[0, 1], [1, 0]], "ry": [[0, -1j], [1j, 0]], "rz": [[1, 0], [0, -1]]}


class DenseBackend(Backend):
    def probabilities(self, circuit, angles, *, shots, seed):
        state = torch.zeros([2] * circuit.n_qubits, dtype=torch.complex128)
        state[(0,) * circuit.n_qubits] = 1  # axis q is qubit q: qubit 0 is the most significant bit
        for gate in circuit.gates:
            if gate.name == "cx":
                state = state.movedim(gate.qubits, (0, 1))
                state = torch.stack([state[0], state[1].flip(0)]).movedim((0, 1), gate.qubits)
            else:
                pauli = torch.tensor(PAULI[gate.name], dtype=torch.complex128)
                turn = torch.linalg.matrix_exp(-0.5j * angles[gate.angle] * pauli)
                state = torch.tensordot(turn, state, dims=([1], [gate.qubits[0]])).movedim(0, gate.qubits[0])
        exact = (state.real**2 + state.imag**2).flatten()
        return exact if shots is None else sample_frequencies(exact, shots, seed)
''')

_TEST = Template("""\
from $package import qpabench_backends
from qpabench.testing.pytest_plugin import conformance_test

[entry] = qpabench_backends()
test_exact = conformance_test(entry)
test_shots = conformance_test(entry, shots=8192)
""")


def scaffold(name: str, folder: Path) -> list[Path]:
    """Write an installable backend plugin.

    Args:
        name: of the backend: lower case letters, digits and single hyphens, for instance ``my-simulator``.
        folder: where the new folder ``qpabench-<name>`` is made.

    Returns:
        The files written: ``pyproject.toml``, the entry, the backend and its test.

    Raises:
        InputError: another kind of name, or the new folder exists already.
    """
    if not _NAME.fullmatch(name) or len(name) > 50:
        raise InputError(
            f"plugin name: found {one_line(name, 60)!r}, expected lower case letters, digits and single "
            "hyphens, at most 50, for instance my-simulator"
        )
    package = f"qpabench_{name.replace('-', '_')}"
    root = folder / f"qpabench-{name}"
    if root.exists():
        raise InputError(f"{root} exists already; take another name or remove it")
    files = {
        root / "pyproject.toml": _PYPROJECT,
        root / package / "__init__.py": _ENTRY,
        root / package / "backend.py": _BACKEND,
        root / "tests" / "test_conformance.py": _TEST,
    }
    try:
        for path, template in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(template.substitute(name=name, package=package), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {root}: {cause(error)}; choose a writable folder") from error
    return list(files)
