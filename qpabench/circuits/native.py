"""The built-in exact state vector: the reference for all other backends, and the fast path.

A circuit is compiled into rotation layers and index permutations (any run of CNOTs is one). A rotation
layer is a Kronecker product; it is applied as a few small matrix products over blocks of qubits. The
backward pass is adjoint differentiation: the state is uncomputed layer by layer instead of stored, so
memory is O(2**N) at any depth. Amplitudes are real where the circuit has RY rotations only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import ROTATIONS, Circuit, Gate
from qpabench.randomness import derive_seed

BLOCK_QUBITS = 5  # 32 x 32 factors: large enough to amortise a call, small enough to waste no arithmetic
SAMPLE_CHUNK = 1 << 20


@dataclass(frozen=True)
class Layer:
    """Rotations, at most one a qubit, then a permutation ``new[m] = old[permutation[m]]`` (or none)."""

    axes: tuple[int, ...]  # index into ROTATIONS per qubit, -1 for none
    angles: tuple[int, ...]  # angle index per qubit, -1 for none
    cx: tuple[tuple[int, int], ...]


@dataclass
class Plan:
    """A compiled circuit on one device."""

    n_qubits: int
    n_angles: int
    blocks: tuple[int, ...]  # qubits per block, summing to n_qubits
    real: bool
    axis: Tensor  # (R, N) index into the generators
    angle: Tensor  # (R, N) index into angles extended by one zero
    turns: Tensor  # (R, N, 2, 2) generator -iP of each rotation
    permutations: list[Tensor | None]
    inverses: list[Tensor | None]
    projectors: list[Tensor]  # per block (n_axes, b, k*k): the generators embedded in the block


def layers(circuit: Circuit) -> tuple[Layer, ...]:
    """Group gates into layers: rotations on distinct qubits, followed by a run of CNOTs."""
    result: list[Layer] = []
    rotations: dict[int, Gate] = {}
    chain: list[tuple[int, int]] = []

    def close() -> None:
        if rotations or chain:
            axes = [-1] * circuit.n_qubits
            angles = [-1] * circuit.n_qubits
            for qubit, gate in rotations.items():
                axes[qubit] = ROTATIONS.index(gate.name)  # type: ignore[arg-type]
                angles[qubit] = -1 if gate.angle is None else gate.angle
            result.append(Layer(tuple(axes), tuple(angles), tuple(chain)))
            rotations.clear()
            chain.clear()

    for gate in circuit.gates:
        if gate.name == "cx":
            chain.append((gate.qubits[0], gate.qubits[1]))
            continue
        if chain or gate.qubits[0] in rotations:
            close()
        rotations[gate.qubits[0]] = gate
    close()
    return tuple(result)


def permutation(n_qubits: int, chain: tuple[tuple[int, int], ...]) -> Tensor:
    """Return the index permutation of a run of CNOTs: ``new[m] = old[index[m]]``, shape (2**N,)."""
    states = torch.arange(2**n_qubits)
    index = states.clone()
    for control, target in chain:
        flipped = states ^ (((states >> (n_qubits - 1 - control)) & 1) << (n_qubits - 1 - target))
        index = index[flipped]
    return index


def _blocks(n_qubits: int) -> tuple[int, ...]:
    count = -(-n_qubits // BLOCK_QUBITS)
    base, extra = divmod(n_qubits, count)
    return tuple(base + (1 if block < extra else 0) for block in range(count))


@lru_cache(maxsize=64)
def _compile(circuit: Circuit, device: torch.device, real_dtype: torch.dtype) -> Plan:
    n_qubits = circuit.n_qubits
    steps = layers(circuit)
    used = {axis for step in steps for axis in step.axes if axis >= 0}
    real = used <= {ROTATIONS.index("ry")}
    dtype = real_dtype if real else (torch.complex128 if real_dtype == torch.float64 else torch.complex64)
    pauli = torch.tensor(
        [[[0, -1j], [-1j, 0]], [[0, -1], [1, 0]], [[-1j, 0], [0, 1j]]], dtype=torch.complex128
    )  # -iX, -iY, -iZ
    generators = (pauli.real if real else pauli).to(device, dtype)
    axis = torch.tensor([step.axes for step in steps], device=device).reshape(len(steps), n_qubits)
    angle = torch.tensor([step.angles for step in steps], device=device).reshape(len(steps), n_qubits)
    permutations, inverses = [], []
    for step in steps:
        if step.cx:
            index = permutation(n_qubits, step.cx)
            permutations.append(index.to(device))
            inverses.append(torch.argsort(index).to(device))
        else:
            permutations.append(None)
            inverses.append(None)
    projectors = []
    for size in _blocks(n_qubits):
        embedded = []
        for generator in generators:
            for qubit in range(size):
                left = torch.eye(2**qubit, dtype=dtype, device=device)
                right = torch.eye(2 ** (size - 1 - qubit), dtype=dtype, device=device)
                embedded.append(torch.kron(torch.kron(left, generator), right).reshape(-1))
        projectors.append(torch.stack(embedded).reshape(len(generators), size, -1))
    return Plan(
        n_qubits=n_qubits,
        n_angles=circuit.n_angles,
        blocks=_blocks(n_qubits),
        real=real,
        axis=axis.clamp(min=0),
        angle=torch.where(angle < 0, circuit.n_angles, angle),
        turns=generators[axis.clamp(min=0)],
        permutations=permutations,
        inverses=inverses,
        projectors=projectors,
    )


def _factors(plan: Plan, angles: Tensor) -> list[Tensor]:
    """Return per block the Kronecker factors of all layers, each (batch, R, k, k)."""
    extended = torch.cat([angles, angles.new_zeros(angles.shape[0], 1)], dim=1)
    half = extended[:, plan.angle] / 2  # (batch, R, N)
    eye = torch.eye(2, dtype=plan.turns.dtype, device=angles.device)
    gates = half.cos()[..., None, None] * eye + half.sin()[..., None, None] * plan.turns
    factors, first = [], 0
    for size in plan.blocks:
        factor = gates[:, :, first]
        for qubit in range(first + 1, first + size):
            gate = gates[:, :, qubit]
            factor = (factor[..., :, None, :, None] * gate[..., None, :, None, :]).flatten(-4, -3).flatten(-2, -1)
        factors.append(factor)
        first += size
    return factors


def _apply(state: Tensor, factors: list[Tensor], *, inverse: bool) -> Tensor:
    """Apply one layer's factors (each (batch, k, k)) to states (..., batch, 2**N)."""
    shape = state.shape
    before = 1
    for factor in factors:
        k = factor.shape[-1]
        matrix = factor.mH if inverse else factor
        if before * k == shape[-1]:  # last block: rows times a matrix, no batch of small products
            state = state.reshape(*shape[:-1], before, k) @ matrix.mT
        else:
            state = matrix.unsqueeze(-3) @ state.reshape(*shape[:-1], before, k, -1)
        before *= k
        state = state.reshape(shape)
    return state


def _cross(bra: Tensor, ket: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
    """Return per block C[i, j] = sum over the other qubits of conj(bra)[i] ket[j], each (batch, k*k)."""
    batch, n_states = ket.shape
    result, before = [], 1
    for size in blocks:
        k = 2**size
        left = bra.conj().reshape(batch, before, k, -1)
        right = ket.reshape(batch, before, k, -1)
        if before == 1:
            product = left[:, 0] @ right[:, 0].mT
        elif before * k == n_states:
            product = left[..., 0].mT @ right[..., 0]
        else:
            product = (left @ right.mT).sum(dim=1)
        result.append(product.reshape(batch, -1))
        before *= k
    return result


def state_vector(circuit: Circuit, angles: Float[Tensor, "batch n_angles"]) -> Tensor:
    """Return the exact states, without a gradient.

    Args:
        circuit: any circuit.
        angles: radians, one row a state.

    Returns:
        Shape (batch, 2**N); real where the circuit has RY rotations only, else complex.
    """
    plan = _compile(circuit, angles.device, angles.dtype)
    return _forward(plan, angles.detach(), _factors(plan, angles.detach()))


def _forward(plan: Plan, angles: Tensor, factors: list[Tensor]) -> Tensor:
    state = torch.zeros(angles.shape[0], 2**plan.n_qubits, dtype=plan.turns.dtype, device=angles.device)
    state[:, 0] = 1
    for step, index in enumerate(plan.permutations):
        state = _apply(state, [factor[:, step] for factor in factors], inverse=False)
        if index is not None:
            state = state[:, index]
    return state


class _Probabilities(torch.autograd.Function):
    """|amplitude|^2 with an adjoint backward pass.

    Source: dU/dtheta = G U / 2 with G = -iP, so d<phi|psi>/dtheta = <phi| G |psi> / 2 just after the gate.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, angles: Tensor, circuit: Circuit) -> Tensor:
        plan = _compile(circuit, angles.device, angles.dtype)
        state = _forward(plan, angles, _factors(plan, angles))
        ctx.save_for_backward(angles, state)
        ctx.plan = plan  # type: ignore[attr-defined]
        return state.square() if plan.real else state.real.square() + state.imag.square()

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: torch.autograd.function.FunctionCtx, cotangent: Tensor) -> tuple[Tensor, None]:
        angles, state = ctx.saved_tensors  # type: ignore[attr-defined]
        plan: Plan = ctx.plan  # type: ignore[attr-defined]
        factors = _factors(plan, angles)
        both = torch.stack([2 * cotangent * state, state])  # bra and ket: (2, batch, 2**N)
        crosses: list[list[Tensor]] = []
        for step in reversed(range(len(plan.permutations))):
            index = plan.inverses[step]
            if index is not None:
                both = both[..., index]
            crosses.append(_cross(both[0], both[1], plan.blocks))
            both = _apply(both, [factor[:, step] for factor in factors], inverse=True)
        crosses.reverse()
        columns = []
        for block, projector in enumerate(plan.projectors):
            stacked = torch.stack([cross[block] for cross in crosses], dim=1)  # (batch, R, k*k)
            columns.append(torch.einsum("brk,aqk->braq", stacked, projector))
        every_axis = torch.cat(columns, dim=-1).real / 2  # (batch, R, axes, N)
        chosen = every_axis.gather(2, plan.axis.expand(len(angles), -1, -1).unsqueeze(2)).squeeze(2)
        gradient = angles.new_zeros(len(angles), plan.n_angles + 1)
        gradient.index_add_(1, plan.angle.flatten(), chosen.flatten(1))
        return gradient[:, :-1], None


def exact_probabilities(
    circuit: Circuit, angles: Float[Tensor, "batch n_angles"]
) -> Float[Tensor, "batch n_states"]:
    """Return exact probabilities, differentiable in the angles.

    Args:
        circuit: any circuit.
        angles: radians, one row a circuit; float64 keeps the result exact to 1e-15.

    Returns:
        Probabilities, qubit 0 most significant, in the dtype of ``angles``.
    """
    result: Tensor = _Probabilities.apply(angles, circuit)
    return result


def sample_frequencies(
    probabilities: Float[Tensor, "n_states"], shots: int, seed: int
) -> Float[Tensor, "n_states"]:
    """Draw shots and return relative frequencies.

    Args:
        probabilities: non-negative, summing to 1 within rounding.
        shots: at least 1.
        seed: the same seed draws the same.

    Returns:
        Counts divided by shots, on the device of ``probabilities``.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "shots"))
    weights = probabilities.detach().cpu().double().clamp(min=0)
    counts = torch.zeros_like(weights)
    left = shots
    while left > 0:
        draw = min(left, SAMPLE_CHUNK)
        drawn = torch.multinomial(weights, draw, replacement=True, generator=generator)
        counts += torch.bincount(drawn, minlength=len(weights))
        left -= draw
    return (counts / shots).to(probabilities)


class NativeBackend(Backend):
    """The state vector of this module, exact or sampled."""

    def probabilities(
        self, circuit: Circuit, angles: Float[Tensor, "n_angles"], *, shots: int | None, seed: int
    ) -> Float[Tensor, "n_states"]:
        """Return exact probabilities (with a gradient) or relative frequencies; see ``Backend``."""
        exact = exact_probabilities(circuit, angles.unsqueeze(0)).squeeze(0)
        return exact if shots is None else sample_frequencies(exact, shots, seed)
