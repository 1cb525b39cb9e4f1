"""The backends ``aer``, ``aer-shots``, ``noisy`` and ``native-noisy``; imports neither torch nor Qiskit."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, field_validator, model_validator

import qpabench
from qpabench.errors import nearest, one_line

CUSTOM = "custom"


def _missing(*modules: str) -> str | None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            package = module.replace("_", "-")
            return f"{package} is not installed; python -m pip install {package}"
    return None


def device_names() -> list[str]:
    """Return the fake devices of the installed qiskit-ibm-runtime, from its folders, without importing it."""
    spec = importlib.util.find_spec("qiskit_ibm_runtime")
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(next(iter(spec.submodule_search_locations))) / "fake_provider" / "backends"
    return sorted(path.name for path in folder.glob("[a-z]*") if path.is_dir())


class AerOptions(qpabench.BackendOptions):
    """What may be asked of Aer without noise."""

    def missing(self) -> str | None:
        """Say whether Qiskit or Aer is missing."""
        return _missing("qiskit", "qiskit_aer")


class NoisyOptions(AerOptions):
    """What may be asked of Aer under a device's noise model."""

    device: str = Field(
        default="torino",
        description="torino, fez, any fake device of qiskit-ibm-runtime, or custom with the rates below",
    )
    transpile_seed: int = Field(default=0, ge=0, lt=2**31, description="seed of layout and routing")
    optimization_level: int = Field(default=2, ge=0, le=3, description="of Qiskit's transpiler")
    depolarizing_1q: float | None = Field(
        default=None, ge=0, le=4 / 3, description="custom: depolarizing parameter of sx and x"
    )
    depolarizing_2q: float | None = Field(
        default=None, ge=0, le=16 / 15, description="custom: depolarizing parameter of cz"
    )
    readout_error: float | None = Field(
        default=None, ge=0, le=1, description="custom: probability that a measured bit is flipped"
    )

    @field_validator("device")
    @classmethod
    def _city(cls, value: str) -> str:
        """Write ``FakeTorino``, ``fake_torino`` and ``torino`` as one device: ``torino``."""
        return value.strip().lower().removeprefix("fake").strip("_-").removesuffix("v2").strip("_-")

    @model_validator(mode="after")
    def _rates(self) -> NoisyOptions:
        rates = (self.depolarizing_1q, self.depolarizing_2q, self.readout_error)
        if self.device == CUSTOM and not any(rates):
            raise ValueError(
                "device 'custom' has no noise; "
                "expected depolarizing_1q, depolarizing_2q or readout_error above 0"
            )
        if self.device != CUSTOM and any(rate is not None for rate in rates):
            raise ValueError(
                f"rates are given with device {one_line(self.device, 60)!r}; "
                "expected them with device 'custom' only"
            )
        return self

    def missing(self) -> str | None:
        """Say whether Qiskit, Aer or the device's description is missing."""
        lacking = super().missing()
        if lacking or self.device == CUSTOM:
            return lacking
        lacking = _missing("qiskit_ibm_runtime")
        known = device_names()
        if lacking or self.device in known:
            return lacking
        return (
            f"unknown device {one_line(self.device, 60)!r}; {nearest(self.device, [*known, CUSTOM])} "
            "(python -m pip install --upgrade qiskit-ibm-runtime brings newer ones)"
        )


@qpabench.hookimpl
def qpabench_backends() -> Iterable[qpabench.BackendEntry]:
    """Bring Aer: exact, sampled, and sampled under noise; and the same noise as a density matrix."""
    yield qpabench.BackendEntry(
        name="aer",
        summary="Qiskit Aer state vector, exact; all shifted circuits go as one job",
        load="qpabench_aer.backend:AerBackend",
        options=AerOptions,
        max_qubits=20,
    )
    yield qpabench.BackendEntry(
        name="aer-shots",
        summary="Qiskit Aer, ideal shots",
        load="qpabench_aer.backend:AerShotsBackend",
        options=AerOptions,
        exact=False,
        shots=True,
        max_qubits=20,
    )
    yield qpabench.BackendEntry(
        name="noisy",
        summary="Qiskit Aer, shots under the noise of a device (torino, fez, others) or of your own rates",
        load="qpabench_aer.backend:NoisyBackend",
        options=NoisyOptions,
        exact=False,
        shots=True,
        noise=True,
        max_qubits=12,
    )
    yield qpabench.BackendEntry(
        name="native-noisy",
        summary="density matrix under the same noise as noisy, exact gradient; or its shots",
        load="qpabench_aer.native_noisy:NativeNoisyBackend",
        options=NoisyOptions,
        exact=True,
        shots=True,
        noise=True,
        gradient=True,
        max_qubits=10,
    )
