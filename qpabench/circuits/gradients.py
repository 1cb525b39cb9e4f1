"""Gradient estimators: how a gradient reaches the angles through a backend, and what that costs.

Whatever a backend can't differentiate is differentiated here: by the parameter-shift rule (as a
vector-Jacobian product), by simultaneous perturbation (SPSA), or straight through the exact state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit
from qpabench.circuits.native import exact_probabilities
from qpabench.devices import moved
from qpabench.errors import NumericalError, UnsupportedError
from qpabench.hooks.entries import BackendOptions
from qpabench.randomness import derive_seed


@dataclass
class Counts:
    """Circuits and shots executed so far; the number of circuits seeds the next one."""

    circuits: int = 0
    shots: int = 0


class CircuitFunction:
    """A circuit on a backend as one differentiable function of its angles.

    Args:
        backend: what runs the circuit.
        circuit: the circuit.
        options: shots, and SPSA's step and repeats.
        method: ``own``, ``parameter-shift``, ``spsa`` or ``straight-through``.
        seed: the cell's seed; every run derives a fresh one from it.

    Raises:
        UnsupportedError: the parameter-shift rule on a circuit in which two gates share an angle.
    """

    def __init__(
        self, backend: Backend, circuit: Circuit, options: BackendOptions, method: str, seed: int
    ) -> None:
        if method == "parameter-shift" and circuit.angle_is_shared():
            raise UnsupportedError(
                "parameter-shift: two gates share an angle; expected one gate an angle; use spsa"
            )
        self.backend = backend
        self.circuit = circuit
        self.options = options
        self.method = method
        self.shots = options.shots_for(circuit.n_qubits)
        self.counts = Counts()
        self._seed = seed

    def __call__(self, angles: Float[Tensor, "n_angles"]) -> Float[Tensor, "n_states"]:
        """Run the circuit.

        Args:
            angles: radians.

        Returns:
            Probabilities (or frequencies) in float64, with a gradient if ``angles`` wants one.

        Raises:
            NumericalError: the backend returned other than a finite (2**N,) vector.
        """
        angles = angles.double()
        if self.method == "own":
            result = self.backend.probabilities(
                self.circuit, self._given(angles), shots=self.shots, seed=self._seeds(1)[0]
            )
            self._checked(result.detach().unsqueeze(0), 1)
            return result.to(angles)
        value: Tensor = _Estimated.apply(angles, self)  # type: ignore[no-untyped-call]
        return value

    def run(self, angles: Float[Tensor, "batch n_angles"]) -> Float[Tensor, "batch n_states"]:
        """Run a batch without gradient; counted."""
        seeds = self._seeds(len(angles))
        with torch.no_grad():
            given = self._given(angles.detach())
            result = self.backend.batch(self.circuit, given, shots=self.shots, seeds=seeds)
        return moved(self._checked(result, len(angles)), angles.device)

    def vector_jacobian(
        self, angles: Float[Tensor, "n_angles"], cotangent: Float[Tensor, "n_states"]
    ) -> Float[Tensor, "n_angles"]:
        """Estimate d(cotangent . probabilities)/d(angles) by the chosen method.

        Source: parameter shift (Mitarai et al. 2018; Schuld et al. 2019): for exp(-i theta/2 P) the
        derivative is (f(theta + pi/2) - f(theta - pi/2)) / 2. SPSA: Spall 1992.
        """
        if self.method == "straight-through":
            with torch.enable_grad():
                leaf = angles.detach().requires_grad_()
                exact = exact_probabilities(self.circuit, leaf.unsqueeze(0)).squeeze(0)
                return torch.autograd.grad(exact, leaf, cotangent)[0]
        if self.method == "parameter-shift":
            shift = torch.eye(len(angles), dtype=angles.dtype, device=angles.device) * (torch.pi / 2)
            both = self.run(torch.cat([angles + shift, angles - shift]))
            plus, minus = (both @ cotangent).chunk(2)
            return (plus - minus) / 2
        step, repeats = self.options.spsa_step, self.options.spsa_repeats
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "spsa", self.counts.circuits))
        drawn = torch.randint(0, 2, (repeats, len(angles)), generator=generator)
        signs = moved(drawn, angles.device).to(angles) * 2 - 1
        both = self.run(torch.cat([angles + step * signs, angles - step * signs]))
        plus, minus = (both @ cotangent).chunk(2)
        return (((plus - minus) / (2 * step)).unsqueeze(1) * signs).mean(0)

    def _given(self, angles: Tensor) -> Tensor:
        """Return the angles where the backend takes them."""
        return angles if self.backend.on_device else angles.cpu()

    def _seeds(self, number: int) -> list[int]:
        done = self.counts.circuits
        seeds = [derive_seed(self._seed, "circuit-run", done + index) for index in range(number)]
        self.counts.circuits += number
        self.counts.shots += number * (self.shots or 0)
        return seeds

    def _checked(self, result: Tensor, rows: int) -> Tensor:
        wanted = (rows, self.circuit.n_states)
        if tuple(result.shape) != wanted:
            raise NumericalError(
                f"backend returned shape {tuple(result.shape)}, expected {wanted} (runs, 2**n_qubits)"
            )
        # elsewhere reading it would wait for the device; the loss tells then
        if result.device.type == "cpu" and not math.isfinite(float(result.sum())):
            raise NumericalError("backend returned a probability that isn't finite")
        return result.double()


class _Estimated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, angles: Tensor, function: CircuitFunction) -> Tensor:
        ctx.save_for_backward(angles)
        ctx.function = function
        return function.run(angles.unsqueeze(0)).squeeze(0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        (angles,) = ctx.saved_tensors
        return ctx.function.vector_jacobian(angles, cotangent), None
