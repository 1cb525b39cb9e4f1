"""Backends that are wrong in one way each; the kit must say in which."""

from __future__ import annotations

import torch
from torch import Tensor

from qpabench import BackendEntry
from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit
from qpabench.circuits.native import exact_probabilities, sample_frequencies


class Reversed(Backend):
    """Little-endian."""

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        exact = exact_probabilities(circuit, angles.unsqueeze(0))[0]
        axes = list(reversed(range(circuit.n_qubits)))
        return exact.reshape([2] * circuit.n_qubits).permute(axes).reshape(-1)


class Lossy(Backend):
    """Sums to 0.9."""

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        return exact_probabilities(circuit, angles.unsqueeze(0))[0] * 0.9


class IgnoresSeed(Backend):
    """Draws the same shots for every seed."""

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        exact = exact_probabilities(circuit, angles.unsqueeze(0))[0]
        return exact if shots is None else sample_frequencies(exact, shots, 0)


class GlobalRandomness(Backend):
    """Draws other shots each time, whatever the seed."""

    runs = 0

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        exact = exact_probabilities(circuit, angles.unsqueeze(0))[0]
        GlobalRandomness.runs += 1
        return exact if shots is None else sample_frequencies(exact, shots, GlobalRandomness.runs)


class WrongGradient(Backend):
    """Right probabilities, half the gradient."""

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        exact = exact_probabilities(circuit, angles.unsqueeze(0))[0]
        return exact / 2 + exact.detach() / 2


class NoGradient(Backend):
    """Declares a gradient and detaches."""

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        return exact_probabilities(circuit, angles.detach().unsqueeze(0))[0]


class NanAtPi(Backend):
    """Divides by the sine of the first angle."""

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        exact = exact_probabilities(circuit, angles.unsqueeze(0))[0]
        first = angles[0]
        return exact * (first / first) if first.abs() != 3.0 else exact * torch.nan


class SwappedRows(Backend):
    """A batch in reverse order."""

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        return exact_probabilities(circuit, angles.unsqueeze(0))[0]

    def batch(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seeds: object) -> Tensor:
        return exact_probabilities(circuit, angles.flip(0))


class Raises(Backend):
    """Fails while it runs."""

    def probabilities(self, circuit: Circuit, angles: Tensor, *, shots: int | None, seed: int) -> Tensor:
        raise ZeroDivisionError("planted")


def entry(planted: type[Backend], **declared: object) -> BackendEntry:
    """Register a planted backend."""
    settings: dict[str, object] = {"exact": True, "shots": True, "gradient": False, "max_qubits": 12}
    return BackendEntry(
        name=planted.__name__.lower(),
        summary="planted",
        load=f"{planted.__module__}:{planted.__name__}",
        **{**settings, **declared},  # type: ignore[arg-type]
    )
