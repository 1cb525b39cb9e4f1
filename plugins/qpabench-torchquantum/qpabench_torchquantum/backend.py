"""Runs a circuit on TorchQuantum's batched state vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit
from qpabench.circuits.native import sample_frequencies
from qpabench.errors import UnavailableError
from qpabench.hooks.entries import BackendOptions
from qpabench_torchquantum import INSTALL
from qpabench_torchquantum.tolerant import import_torchquantum


class TorchQuantumBackend(Backend):
    """TorchQuantum 0.1.8; its wire 0 is the most significant bit, as ours.

    TorchQuantum computes in complex64, so probabilities are exact to about 1e-6. Shots are drawn from its
    probabilities with the seed given (its own ``measure`` takes none).

    Args:
        options: ``TorchQuantumOptions``.

    Raises:
        UnavailableError: TorchQuantum can't be imported; the message holds the command that installs it.
    """

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        try:
            self._torchquantum = import_torchquantum()
        except ImportError as error:
            raise UnavailableError(f"torchquantum: {error}; {INSTALL}") from error

    def probabilities(
        self, circuit: Circuit, angles: Float[Tensor, "n_angles"], *, shots: int | None, seed: int
    ) -> Float[Tensor, "n_states"]:
        """Return exact probabilities (with a gradient) or relative frequencies; see ``Backend``."""
        return self.batch(circuit, angles.unsqueeze(0), shots=shots, seeds=[seed]).squeeze(0)

    def batch(
        self,
        circuit: Circuit,
        angles: Float[Tensor, "batch n_angles"],
        *,
        shots: int | None,
        seeds: Sequence[int],
    ) -> Float[Tensor, "batch n_states"]:
        """Run all rows as one batched state; see ``Backend``."""
        functional = self._torchquantum.functional
        device = self._torchquantum.QuantumDevice(
            n_wires=circuit.n_qubits, bsz=len(angles), device=angles.device
        )
        for gate in circuit.gates:
            if gate.angle is None:
                functional.cnot(device, wires=list(gate.qubits))
            else:
                rotate = getattr(functional, gate.name)
                rotate(device, wires=gate.qubits[0], params=angles[:, gate.angle : gate.angle + 1])
        states = device.get_states_1d()
        exact: Tensor = states.real.square() + states.imag.square()
        if shots is None:
            return exact
        return torch.stack(
            [sample_frequencies(row, shots, seed) for row, seed in zip(exact, seeds, strict=True)]
        )

    def describe(self, circuit: Circuit) -> dict[str, object]:
        """Return TorchQuantum's version and precision."""
        return {"torchquantum": self._torchquantum.__version__, "dtype": "complex64"}
