"""The ``native-noisy`` backend: the density matrix of a device's noise model, with an exact gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit
from qpabench.circuits.native import sample_frequencies
from qpabench.errors import UnsupportedError
from qpabench.hooks.entries import BackendOptions
from qpabench_aer import NoisyOptions
from qpabench_aer.backend import distance_facts
from qpabench_aer.density import probabilities
from qpabench_aer.device import Transpiled, device_facts, transpile_to_device
from qpabench_aer.pauli_transfer import Program, translate
from qpabench_aer.qiskit_circuit import to_qiskit

#: Qubits after routing; the state has 4**n numbers.
MOST_QUBITS = 12


@dataclass
class Prepared:
    """A translated circuit and its last run."""

    transpiled: Transpiled
    program: Program
    last: tuple[Tensor, Tensor] | None = None


class NativeNoisyBackend(Backend):
    """Probabilities under a device's noise, readout errors included, exact or sampled.

    Args:
        options: ``NoisyOptions``.
    """

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self._noisy = options if isinstance(options, NoisyOptions) else NoisyOptions()
        self._prepared: dict[Circuit, Prepared] = {}

    def probabilities(
        self, circuit: Circuit, angles: Float[Tensor, "n_angles"], *, shots: int | None, seed: int
    ) -> Float[Tensor, "n_states"]:
        """Return probabilities (with a gradient) or relative frequencies; see ``Backend``.

        Raises:
            UnsupportedError: the circuit, routed on its device, takes too many qubits.
        """
        if circuit not in self._prepared:
            self._prepared[circuit] = self._prepare(circuit)
        prepared = self._prepared[circuit]
        exact = probabilities(prepared.program, angles.cpu().double())
        result = exact if shots is None else sample_frequencies(exact, shots, seed)
        prepared.last = angles.detach().cpu().double(), result.detach()
        return result.to(angles.device)

    def describe(self, circuit: Circuit) -> dict[str, object]:
        """Return device, layout, depth, gate counts, and the last run's distance to the ideal one."""
        prepared = self._prepared.get(circuit)
        facts = device_facts(self._noisy, prepared.transpiled if prepared else None)
        if prepared is None or prepared.last is None:
            return facts
        return facts | distance_facts(circuit, *prepared.last, self.options.shots_for(circuit.n_qubits))

    def _prepare(self, circuit: Circuit) -> Prepared:
        translated, theta = to_qiskit(circuit, measured=True)
        transpiled = transpile_to_device(translated, self._noisy)
        if len(transpiled.physical) > MOST_QUBITS:
            raise UnsupportedError(
                f"native-noisy: {circuit.n_qubits} qubits take {len(transpiled.physical)} of device "
                f"{self._noisy.device!r}, expected at most {MOST_QUBITS}; take the backend noisy"
            )
        with torch.no_grad():
            return Prepared(transpiled, translate(transpiled.circuit, theta, transpiled.noise))
