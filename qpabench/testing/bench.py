"""A backend under test: how it is run by the conformance kit, and which tolerances apply to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits import ansatze
from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit
from qpabench.circuits.gradients import CircuitFunction
from qpabench.circuits.native import exact_probabilities
from qpabench.errors import UnavailableError, UnsupportedError
from qpabench.hooks.entries import BackendEntry, BackendOptions

#: Exact probabilities and gradients: room for a simulator in single precision, none for a wrong gate.
EXACT_TOLERANCE = 1e-5
#: Shots the kit asks for, whatever the options say, so that its bounds have the power they promise.
KIT_SHOTS = 8192
#: Shots where noise must be told from sampling.
NOISE_SHOTS = 65536
#: Total variation distance above which a result is not a noisy version of the ideal one but another one.
NOISE_LIMIT = 0.25
#: What noise may change in a derivative of a function with values in [-1, 1], on the kit's small circuits.
NOISE_GRADIENT_LIMIT = 0.25
ANSATZE = {"ry": ansatze.ry, "rx": ansatze.rx, "rxrz": ansatze.rxrz, "ryrz": ansatze.ryrz}
FINITE_DIFFERENCE_STEP = 1e-4


class CheckError(Exception):
    """A check found something wrong; the message says what was found and what was expected."""


def shots_tolerance(shots: int) -> float:
    """Return 5 / (2 sqrt(shots)): five standard deviations of a frequency near one half.

    As a margin above the expected total variation distance it is exceeded once in 270,000 runs
    (McDiarmid: exp(-2 t^2 shots)).
    """
    return 5 / (2 * math.sqrt(shots))


def expected_distance(probabilities: Float[Tensor, "n_states"], shots: int) -> float:
    """Return the total variation distance that ideal shots have on average (frequencies taken as normal)."""
    variance = probabilities * (1 - probabilities).clamp(min=0) / shots
    return float((2 * variance / torch.pi).sqrt().sum() / 2)


def distance(first: Tensor, second: Tensor) -> float:
    """Return the total variation distance of two distributions, half the sum of |p - q|."""
    return float((first - second).abs().sum() / 2)


def native(circuit: Circuit, angles: Tensor) -> Tensor:
    """Return the exact probabilities, the reference of every check."""
    return exact_probabilities(circuit, angles.detach().double().unsqueeze(0)).squeeze(0)


def native_gradient(circuit: Circuit, angles: Tensor, cotangent: Tensor) -> Tensor:
    """Return d(cotangent . probabilities)/d(angles) of the native backend by central finite differences."""
    shift = torch.eye(len(angles), dtype=torch.float64) * FINITE_DIFFERENCE_STEP
    both = exact_probabilities(circuit, torch.cat([angles + shift, angles - shift])) @ cotangent
    plus, minus = both.chunk(2)
    return (plus - minus) / (2 * FINITE_DIFFERENCE_STEP)


def random_angles(circuit: Circuit, seed: int) -> Tensor:
    """Draw angles uniformly from -pi to pi, shape (n_angles,), float64."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(circuit.n_angles, generator=generator, dtype=torch.float64) * 2 - 1) * torch.pi


@dataclass
class Bench:
    """A loaded backend with what the checks ask of it.

    Args:
        entry: the entry of the backend.
        options: its options; a sampling backend has shots in them.
        backend: the instance.
        sampled: results come from shots.
    """

    entry: BackendEntry
    options: BackendOptions
    backend: Backend
    sampled: bool

    @property
    def n_qubits(self) -> int:
        """Qubits of most checks: 4, or what the backend takes."""
        return min(4, self.entry.max_qubits)

    @property
    def shots(self) -> int | None:
        """The kit's shots, None for an exact backend."""
        return KIT_SHOTS if self.sampled else None

    def run(self, circuit: Circuit, angles: Tensor, seed: int = 1, shots: int | None = None) -> Tensor:
        """Run once.

        Raises:
            CheckError: the result isn't a distribution over the basis states.
        """
        with torch.no_grad():
            result = self.backend.probabilities(circuit, angles, shots=shots or self.shots, seed=seed)
        return self.distribution(circuit, result)

    def distribution(self, circuit: Circuit, result: object) -> Tensor:
        """Return the result in float64 if it is a distribution over the basis states.

        Raises:
            CheckError: wrong type, shape or sign, not finite, or a sum other than 1.
        """
        if not isinstance(result, Tensor):
            raise CheckError(f"probabilities returned {type(result).__name__}, expected a torch.Tensor")
        if tuple(result.shape) != (circuit.n_states,):
            raise CheckError(
                f"found shape {tuple(result.shape)}, expected ({circuit.n_states},) for "
                f"{circuit.n_qubits} qubits"
            )
        result = result.detach().cpu().double()
        if not bool(torch.isfinite(result).all()):
            raise CheckError("found a probability that isn't finite, expected finite ones")
        if float(result.min()) < -EXACT_TOLERANCE:
            raise CheckError(f"found a probability of {float(result.min()):.3g}, expected none below 0")
        if abs(float(result.sum()) - 1) > EXACT_TOLERANCE:
            raise CheckError(f"probabilities sum to {float(result.sum()):.6f}, expected 1")
        return result

    def function(self, circuit: Circuit, method: str) -> CircuitFunction:
        """Return the circuit as the core differentiates it by ``method``."""
        options = self.options
        if self.sampled:
            options = options.model_copy(update={"shots": KIT_SHOTS, "shots_per_state": None})
        return CircuitFunction(self.backend, circuit, options, method, seed=7)

    def agree(self, found: Tensor, ideal: Tensor, what: str, shots: int | None = None) -> None:
        """Compare with the ideal distribution within what exactness, shots or noise allow.

        Raises:
            CheckError: they differ by more.
        """
        if not self.sampled and not self.entry.noise:
            worst = float((found - ideal).abs().max())
            if worst > EXACT_TOLERANCE:
                raise CheckError(
                    f"{what}: a probability differs by {worst:.3g} from native, "
                    f"expected at most {EXACT_TOLERANCE:g}"
                )
            return
        allowed = 0.0
        if self.sampled:
            number = shots or KIT_SHOTS
            allowed = expected_distance(ideal, number) + shots_tolerance(number)
        if self.entry.noise:
            allowed += NOISE_LIMIT
        apart = distance(found, ideal)
        if apart > allowed:
            raise CheckError(
                f"{what}: total variation distance to native is {apart:.4f}, expected at most {allowed:.4f}"
            )

    def own_gradient(self) -> bool:
        """Say whether the backend claims a gradient of its own with these options."""
        try:
            return self.entry.gradient_method(self.options.model_copy(update={"gradient": "own"})) == "own"
        except UnsupportedError:
            return False


def make_bench(entry: BackendEntry, options: BackendOptions) -> Bench:
    """Load a backend for testing.

    Args:
        entry: its entry.
        options: its options; a backend that only samples gets the kit's shots if they name none.

    Raises:
        UnavailableError: what it needs is missing.
    """
    lacking = options.missing()
    if lacking:
        raise UnavailableError(lacking)
    sampled = options.shots is not None or options.shots_per_state is not None
    if not sampled and not entry.exact:
        options = options.model_copy(update={"shots": KIT_SHOTS})
        sampled = True
    return Bench(entry, options, entry.component()(options), sampled)
