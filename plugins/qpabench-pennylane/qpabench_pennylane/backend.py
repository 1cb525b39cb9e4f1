"""Runs a circuit on a PennyLane device through ``pennylane.execute``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pennylane as qml
import scipy.sparse
import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit
from qpabench.errors import UnavailableError, UnsupportedError
from qpabench.hooks.entries import BackendOptions
from qpabench_pennylane import ADJOINT, BACKPROP, PennyLaneOptions

_GATES: dict[str, Any] = {"rx": qml.RX, "ry": qml.RY, "rz": qml.RZ}
_SEEDS = 2**32  # lightning takes seeds of 32 bits


class PennyLaneBackend(Backend):
    """A PennyLane device; its wire 0 is the most significant bit, as ours.

    Args:
        options: ``PennyLaneOptions``.

    Raises:
        UnavailableError: the device can't be made; the message holds PennyLane's reason.
    """

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self._name = options.device if isinstance(options, PennyLaneOptions) else "default.qubit"
        self._exact_devices: dict[int, Any] = {}

    def probabilities(
        self, circuit: Circuit, angles: Float[Tensor, "n_angles"], *, shots: int | None, seed: int
    ) -> Float[Tensor, "n_states"]:
        """Return exact probabilities (with the device's gradient) or relative frequencies; see ``Backend``.

        Raises:
            UnsupportedError: a gradient of a device that has none, or shots on one that takes no seed.
        """
        if shots is None and angles.requires_grad and torch.is_grad_enabled():
            if self._name in BACKPROP:
                (result,) = qml.execute(
                    [_tape(circuit, angles)], self._device(circuit.n_qubits), diff_method="backprop"
                )
                return torch.as_tensor(result)
            value: Tensor = _Adjoint.apply(angles, circuit, self)
            return value
        return self.batch(circuit, angles.unsqueeze(0), shots=shots, seeds=[seed]).squeeze(0)

    def batch(
        self,
        circuit: Circuit,
        angles: Float[Tensor, "batch n_angles"],
        *,
        shots: int | None,
        seeds: Sequence[int],
    ) -> Float[Tensor, "batch n_states"]:
        """Run all rows (exact: in one call; with shots: a device each, for its seed); see ``Backend``."""
        tapes = [_tape(circuit, row, shots) for row in angles.detach().cpu().tolist()]
        if shots is None:
            results = qml.execute(tapes, self._device(circuit.n_qubits), diff_method=None)
        else:
            results = [
                qml.execute([tape], self._device(circuit.n_qubits, seed), diff_method=None)[0]
                for tape, seed in zip(tapes, seeds, strict=True)
            ]
        return torch.stack([torch.as_tensor(result) for result in results]).to(angles.device)

    def vector_jacobian(
        self, circuit: Circuit, angles: Float[Tensor, "n_angles"], cotangent: Float[Tensor, "n_states"]
    ) -> Float[Tensor, "n_angles"]:
        """Return the gradient of cotangent . probabilities by the device's adjoint method.

        It is the gradient of one expectation: that of the diagonal observable with the cotangent on it.
        """
        if self._name not in ADJOINT:
            raise UnsupportedError(
                f"pennylane: device {self._name!r} gives no gradient, expected one of "
                f"{', '.join(BACKPROP + ADJOINT)}; set gradient to parameter-shift or spsa"
            )
        device = self._device(circuit.n_qubits)
        diagonal = scipy.sparse.csr_matrix(scipy.sparse.diags(cotangent.detach().cpu().double().numpy()))
        observable = qml.SparseHamiltonian(diagonal, wires=range(circuit.n_qubits))
        rotations = [gate.angle for gate in circuit.gates if gate.angle is not None]
        tape = qml.tape.QuantumScript(
            _operations(circuit, angles.detach().cpu().tolist()),
            [qml.expval(observable)],
            trainable_params=range(len(rotations)),
        )
        # the device is asked directly: on its way through the torch interface the result becomes float32
        config = qml.devices.ExecutionConfig(gradient_method="adjoint")
        config = device.setup_execution_config(config, tape)
        (ready,), _ = device.preprocess_transforms(config)([tape])
        derivatives = torch.as_tensor(np.array(device.compute_derivatives(ready, config), dtype=np.float64))
        result = torch.zeros(circuit.n_angles, dtype=torch.float64)
        result.index_add_(0, torch.tensor(rotations), derivatives.reshape(-1))
        return result.to(angles)

    def describe(self, circuit: Circuit) -> dict[str, object]:
        """Return the device and how it is differentiated."""
        own = "backprop" if self._name in BACKPROP else "adjoint" if self._name in ADJOINT else None
        return {"device": self._name, "own_gradient": own, "pennylane": qml.__version__}

    def _device(self, n_qubits: int, seed: int | None = None) -> Any:
        if seed is None:
            if n_qubits not in self._exact_devices:
                self._exact_devices[n_qubits] = self._make(n_qubits)
            return self._exact_devices[n_qubits]
        device = self._make(n_qubits)
        if "seed" not in inspect.signature(type(device)).parameters:
            raise UnsupportedError(
                f"pennylane: device {self._name!r} takes no seed, so its shots could not be repeated; "
                "expected default.qubit or lightning.qubit for shots"
            )
        return self._make(n_qubits, seed=seed % _SEEDS)

    def _make(self, n_qubits: int, **arguments: int) -> Any:
        try:
            return qml.device(self._name, wires=n_qubits, **arguments)
        except (qml.exceptions.DeviceError, ImportError, TypeError) as error:
            raise UnavailableError(f"pennylane: device {self._name!r} can't be made: {error}") from error


def _operations(circuit: Circuit, angles: Any) -> list[Any]:
    return [
        qml.CNOT(wires=gate.qubits)
        if gate.angle is None
        else _GATES[gate.name](angles[gate.angle], wires=gate.qubits[0])
        for gate in circuit.gates
    ]


def _tape(circuit: Circuit, angles: Any, shots: int | None = None) -> Any:
    measured = [qml.probs(wires=range(circuit.n_qubits))]
    return qml.tape.QuantumScript(_operations(circuit, angles), measured, shots=shots)


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, angles: Tensor, circuit: Circuit, backend: PennyLaneBackend) -> Tensor:
        ctx.save_for_backward(angles)
        ctx.circuit, ctx.backend = circuit, backend
        return backend.batch(circuit, angles.unsqueeze(0), shots=None, seeds=[0]).squeeze(0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        (angles,) = ctx.saved_tensors
        return ctx.backend.vector_jacobian(ctx.circuit, angles, cotangent), None, None
