"""Runs circuits on Qiskit Aer; all rows of a batch are one job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import qiskit
import qiskit_aer
import torch
from jaxtyping import Float
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit_aer import AerSimulator
from torch import Tensor

from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit
from qpabench.circuits.native import exact_probabilities
from qpabench.errors import UnsupportedError
from qpabench.hooks.entries import BackendOptions
from qpabench.randomness import derive_seed
from qpabench_aer import NoisyOptions
from qpabench_aer.device import Transpiled, device_facts, transpile_to_device
from qpabench_aer.qiskit_circuit import frequencies, to_qiskit

DENSITY_MATRIX_QUBITS = 10  # one density matrix beats a thousand noisy trajectories up to here


@dataclass
class Prepared:
    """A parametrised circuit, ready to run with any angles."""

    circuit: QuantumCircuit
    theta: ParameterVector
    simulator: AerSimulator
    transpiled: Transpiled | None = None
    last_angles: Tensor | None = None
    last_result: Tensor | None = None


class AerBackend(Backend):
    """Exact probabilities from Aer's state vector (double precision)."""

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self._prepared: dict[Circuit, Prepared] = {}

    def probabilities(
        self, circuit: Circuit, angles: Float[Tensor, "n_angles"], *, shots: int | None, seed: int
    ) -> Float[Tensor, "n_states"]:
        """Run one circuit; see ``Backend``."""
        return self.batch(circuit, angles.unsqueeze(0), shots=shots, seeds=[seed]).squeeze(0)

    def batch(
        self,
        circuit: Circuit,
        angles: Float[Tensor, "batch n_angles"],
        *,
        shots: int | None,
        seeds: Sequence[int],
    ) -> Float[Tensor, "batch n_states"]:
        """Run all rows as one job; see ``Backend``.

        Raises:
            UnsupportedError: shots asked of the exact backend, or none of a sampling one.
        """
        self._check_shots(shots)
        if circuit not in self._prepared:
            self._prepared[circuit] = self._prepare(circuit)
        prepared = self._prepared[circuit]
        data = _run(prepared, angles, shots, seeds)
        if shots is None:
            rows = [torch.as_tensor(row["probabilities"], dtype=torch.float64) for row in data]
        else:
            rows = [frequencies(row["counts"], circuit.n_states) for row in data]
        result = torch.stack(rows)
        prepared.last_angles, prepared.last_result = angles[-1].detach().cpu().double(), result[-1]
        return result.to(angles.device)

    def describe(self, circuit: Circuit) -> dict[str, object]:
        """Return the versions that simulated."""
        return {"qiskit": qiskit.__version__, "qiskit_aer": qiskit_aer.__version__}

    def _check_shots(self, shots: int | None) -> None:
        if shots is not None:
            raise UnsupportedError(f"aer is exact, found shots = {shots}; use the backend aer-shots")

    def _prepare(self, circuit: Circuit) -> Prepared:
        translated, theta = to_qiskit(circuit, measured=False)
        translated.save_probabilities()
        return Prepared(translated, theta, AerSimulator(method="statevector"))


class AerShotsBackend(AerBackend):
    """Frequencies of ideal shots."""

    def describe(self, circuit: Circuit) -> dict[str, object]:
        """Return versions, and for the run before: its result, the ideal one and their distance."""
        return super().describe(circuit) | _distance(
            circuit, self._prepared.get(circuit), self._shots(circuit)
        )

    def _shots(self, circuit: Circuit) -> int | None:
        return self.options.shots_for(circuit.n_qubits)

    def _check_shots(self, shots: int | None) -> None:
        if shots is None:
            raise UnsupportedError("this Aer backend samples, found no shots; set shots or shots_per_state")

    def _prepare(self, circuit: Circuit) -> Prepared:
        translated, theta = to_qiskit(circuit, measured=True)
        return Prepared(translated, theta, AerSimulator(method="statevector"))


class NoisyBackend(AerShotsBackend):
    """Frequencies of shots under a device's noise model.

    Args:
        options: ``NoisyOptions``.
    """

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self._noisy = options if isinstance(options, NoisyOptions) else NoisyOptions()

    def describe(self, circuit: Circuit) -> dict[str, object]:
        """Return device, layout (physical qubit of our qubits in order), depth, gate counts and distance."""
        prepared = self._prepared.get(circuit)
        transpiled = None if prepared is None else prepared.transpiled
        return super().describe(circuit) | device_facts(self._noisy, transpiled)

    def _prepare(self, circuit: Circuit) -> Prepared:
        translated, theta = to_qiskit(circuit, measured=True)
        transpiled = transpile_to_device(translated, self._noisy)
        few = len(transpiled.physical) <= DENSITY_MATRIX_QUBITS
        simulator = AerSimulator(
            noise_model=transpiled.noise,
            method="density_matrix" if few else "automatic",
            fusion_threshold=1,  # fused noise halves the time of small circuits too
        )
        return Prepared(transpiled.circuit, theta, simulator, transpiled)


def _run(prepared: Prepared, angles: Tensor, shots: int | None, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Send one job of all rows; Aer gives each of them its own seed, counted up from the job's."""
    kept = prepared.circuit.parameters  # the transpiler drops a rotation that no measurement can see
    columns = angles.detach().cpu().double().T.tolist()
    binds = {parameter: columns[index] for index, parameter in enumerate(prepared.theta) if parameter in kept}
    job = {"shots": shots} if shots is not None else {}
    job["seed_simulator"] = derive_seed(seeds[0], "aer", *seeds[1:]) % 2**31
    if binds:
        outcome = prepared.simulator.run([prepared.circuit], parameter_binds=[binds], **job).result()
    else:
        outcome = prepared.simulator.run([prepared.circuit] * len(angles), **job).result()
    if not outcome.success:
        raise UnsupportedError(f"aer: the job failed: {outcome.status}")
    return [outcome.data(row) for row in range(len(angles))]


def _distance(circuit: Circuit, prepared: Prepared | None, shots: int | None) -> dict[str, object]:
    if prepared is None or prepared.last_angles is None or prepared.last_result is None:
        return {}
    return distance_facts(circuit, prepared.last_angles, prepared.last_result, shots)


def distance_facts(circuit: Circuit, angles: Tensor, result: Tensor, shots: int | None) -> dict[str, object]:
    """Compare a run with the ideal distribution of the same angles.

    Args:
        circuit: what was run.
        angles: radians, (n_angles,).
        result: probabilities or frequencies.
        shots: None for probabilities.

    Source: total variation distance = half the sum of |p - q|. ``..._from_shots_alone`` is its expectation
    for ideal shots, half the sum of sqrt(2 p (1 - p) / (pi shots)) (each frequency taken as normal).
    """
    ideal = exact_probabilities(circuit, angles.unsqueeze(0)).squeeze(0)
    facts: dict[str, object] = {
        "total_variation_distance": float((result - ideal).abs().sum() / 2),
        "ideal_probabilities": ideal.tolist(),
        "probabilities": result.tolist(),
    }
    if shots is not None:
        spread = (2 * ideal * (1 - ideal).clamp(min=0) / (torch.pi * shots)).sqrt().sum() / 2
        facts["total_variation_distance_from_shots_alone"] = float(spread)
    return facts
