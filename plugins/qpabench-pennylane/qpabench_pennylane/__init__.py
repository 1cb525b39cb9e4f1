"""The ``pennylane`` backend for qpabench; importing this module imports neither torch nor PennyLane."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import Field

import qpabench
from qpabench.errors import nearest, one_line

#: Device -> how its probabilities are differentiated; for any other device the core estimates.
BACKPROP = ("default.qubit", "default.mixed")
ADJOINT = ("lightning.qubit", "lightning.kokkos", "lightning.gpu", "lightning.amdgpu")
#: Device -> package on the index; devices not named here come from some PennyLane plugin.
PACKAGES = {
    "lightning.qubit": "pennylane-lightning",
    "lightning.kokkos": "pennylane-lightning-kokkos",
    "lightning.gpu": "pennylane-lightning-gpu",
    "lightning.amdgpu": "pennylane-lightning-amdgpu",
}


class PennyLaneOptions(qpabench.BackendOptions):
    """What may be asked of PennyLane."""

    device: str = Field(
        default="default.qubit",
        min_length=1,
        description="short name of a PennyLane device, e.g. lightning.qubit",
    )

    def missing(self) -> str | None:
        """Say whether PennyLane or the plugin that brings the device is missing."""
        if importlib.util.find_spec("pennylane") is None:
            return "pennylane is not installed; python -m pip install pennylane"
        if self.device == "default.qubit":
            return None
        known = sorted({point.name for point in importlib.metadata.entry_points(group="pennylane.plugins")})
        if self.device in known:
            return None
        name = one_line(self.device, 60)
        if self.device in PACKAGES:
            return (
                f"PennyLane device {name!r} is not installed; python -m pip install {PACKAGES[self.device]}"
            )
        return (
            f"PennyLane device {name!r} is not installed, {nearest(self.device, known)} "
            "(python -m pip install the PennyLane plugin that brings it)"
        )


@dataclass(frozen=True, kw_only=True)
class PennyLaneEntry(qpabench.BackendEntry):
    """A backend whose own gradient depends on the device asked for."""

    def gradient_method(self, options: qpabench.BackendOptions) -> str:
        """Return the estimator: the device's own where it has one, else as for any backend without."""
        device = getattr(options, "device", "default.qubit")
        entry = self if device in BACKPROP + ADJOINT else replace(self, gradient=False)
        return qpabench.BackendEntry.gradient_method(entry, options)


@qpabench.hookimpl
def qpabench_backends() -> Iterable[qpabench.BackendEntry]:
    """Bring PennyLane's devices."""
    yield PennyLaneEntry(
        name="pennylane",
        summary="a PennyLane device by name (default.qubit, lightning.qubit, ...), exact or with shots",
        load="qpabench_pennylane.backend:PennyLaneBackend",
        options=PennyLaneOptions,
        exact=True,
        shots=True,
        gradient=True,
        max_qubits=20,
    )
