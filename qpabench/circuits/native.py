"""The built-in exact state vector: the reference for all other backends, and the fast path.

Amplitudes are real where the circuit has RY rotations only. The backward pass is adjoint differentiation.
Up to ``KEPT_QUBITS`` qubits the states of all layers are kept, so that the way back turns one state only;
beyond, both states are uncomputed layer by layer, and memory is O(2**N) at any depth. Where numba is there
and quicker, ``fast`` does the same by compiled loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits import fast
from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit
from qpabench.circuits.layers import Plan, angle_gradient, compiled, factors, halved
from qpabench.randomness import derive_seed

SAMPLE_CHUNK = 1 << 20
ONE_THREAD_QUBITS = 17  # up to here a product takes microseconds: a second thread costs more than it brings


@contextmanager
def _suitable_threads(n_qubits: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if n_qubits > ONE_THREAD_QUBITS or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start(plan: Plan) -> Tensor:
    state = torch.zeros(2**plan.n_qubits, dtype=plan.turns.dtype, device=plan.turns.device)
    state[:1].fill_(1)
    return state


def _pair(plan: Plan, blocks: list[Tensor]) -> tuple[Tensor, Tensor]:
    return blocks[0], blocks[1] if len(blocks) > 1 else plan.one


def _forward_kept(plan: Plan, blocks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the state and those just after each layer's rotations, (R, 2**N)."""
    rows, columns = _pair(plan, blocks)
    state = _start(plan).view(rows.shape[-1], columns.shape[-1])
    flat, half = state.view(-1), torch.empty_like(state)
    rotated = torch.empty(plan.n_layers, *state.shape, dtype=state.dtype, device=state.device)
    steps = zip(rows.unbind(), columns.mT.unbind(), rotated.unbind(), plan.permutations, strict=True)
    for left, right, after, index in steps:
        torch.mm(left, state, out=half)
        torch.mm(half, right, out=after)
        if index is None:
            state.copy_(after)
        else:
            torch.index_select(after.view(-1), 0, index, out=flat)
    return flat, rotated


def _backward_kept(plan: Plan, blocks: list[Tensor], bra: Tensor, kets: Tensor) -> list[Tensor]:
    """Return per block the cross products of all layers; ``bra`` is used up."""
    rows, columns = _pair(plan, blocks)
    bra = bra.view(kets.shape[1:])
    flat, half = bra.view(-1), torch.empty_like(bra)
    bras = torch.empty_like(kets)
    back = zip(rows.mH.unbind(), columns.conj().unbind(), bras.unbind(), plan.inverses, strict=True)
    for left, right, after, index in reversed(list(back)):
        if index is None:
            after.copy_(bra)
        else:
            torch.index_select(flat, 0, index, out=after.view(-1))
        torch.mm(left, after, out=half)
        torch.mm(half, right, out=bra)
    bras = bras.conj()
    crosses = [torch.bmm(bras, kets.mT).flatten(1)]
    if len(blocks) > 1:
        crosses.append(torch.bmm(bras.mT, kets).flatten(1))
    return crosses


def _turned(state: Tensor, spare: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a matrix to the last block, which becomes the first one.

    Results go from one buffer to the other; both are returned, the result first.
    """
    k = matrix.shape[0]
    torch.mm(matrix, state.view(-1, k).T, out=spare.view(k, -1))
    return spare, state


def _permuted(state: Tensor, spare: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor]:
    if index is None:
        return state, spare
    return torch.index_select(state, 0, index, out=spare), state


def _forward_streamed(plan: Plan, blocks: list[Tensor]) -> Tensor:
    state = _start(plan)
    spare = torch.empty_like(state)
    for step, index in enumerate(plan.permutations):
        for block in reversed(blocks):
            state, spare = _turned(state, spare, block[step])
        state, spare = _permuted(state, spare, index)
    return state


def _backward_streamed(plan: Plan, blocks: list[Tensor], bra: Tensor, ket: Tensor) -> list[Tensor]:
    """Return per part the cross products of all layers; a layer's rotations commute with its generators."""
    backward = []
    for block, size in zip(blocks, plan.blocks, strict=True):
        upper, lower = (1 << part for part in halved(size))
        high = block.new_empty(plan.n_layers, upper, upper)
        low = block.new_empty(plan.n_layers, upper, lower, lower)
        backward.append((block.mH, high, low))
    ket, spare_bra, spare_ket = ket.clone(), torch.empty_like(bra), torch.empty_like(ket)
    for step in reversed(range(plan.n_layers)):
        bra, spare_bra = _permuted(bra, spare_bra, plan.inverses[step])
        ket, spare_ket = _permuted(ket, spare_ket, plan.inverses[step])
        for inverse, high, low in reversed(backward):
            bra, spare_bra = _turned(bra, spare_bra, inverse[step])
            ket, spare_ket = _turned(ket, spare_ket, inverse[step])
            _, upper, lower, _ = low.shape
            torch.mm(bra.view(upper, -1).conj(), ket.view(upper, -1).T, out=high[step])
            torch.bmm(bra.view(upper, lower, -1).conj(), ket.view(upper, lower, -1).mT, out=low[step])
    return [part.flatten(1) for _, high, low in backward for part in (high, low.sum(1))]


def state_vector(circuit: Circuit, angles: Float[Tensor, "batch n_angles"]) -> Tensor:
    """Return the exact states, without a gradient.

    Args:
        circuit: any circuit.
        angles: radians, one row a state.

    Returns:
        Shape (batch, 2**N); real where the circuit has RY rotations only, else complex.
    """
    plan = compiled(circuit, angles.device, angles.dtype)
    with torch.no_grad(), _suitable_threads(plan.n_qubits):
        return torch.stack([_state(plan, factors(plan, row))[0] for row in angles.detach()])


def _state(plan: Plan, blocks: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    return _forward_kept(plan, blocks) if plan.kept else (_forward_streamed(plan, blocks), None)


class _Probabilities(torch.autograd.Function):
    """|amplitude|^2 of one state, with an adjoint backward pass."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, circuit: Circuit, keep: bool) -> Tensor:
        ctx.circuit, ctx.fast = circuit, fast.chosen(circuit, angles.device)
        if ctx.fast:
            probabilities, state, ctx.turns = fast.forward(circuit, angles)
            ctx.save_for_backward(state)
            return probabilities.to(angles.dtype)
        plan = compiled(circuit, angles.device, angles.dtype, keep)
        with _suitable_threads(plan.n_qubits):
            blocks = factors(plan, angles)
            state, kets = _state(plan, blocks)
            ctx.save_for_backward(state, kets, *blocks)
            ctx.plan = plan
            return state.square() if plan.real else state.real.square() + state.imag.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        if ctx.fast:
            (state,) = ctx.saved_tensors
            gradient = fast.gradient(ctx.circuit, state, ctx.turns, cotangent)
            return gradient.to(cotangent.dtype), None, None
        state, kets, *blocks = ctx.saved_tensors
        plan: Plan = ctx.plan
        with _suitable_threads(plan.n_qubits):
            bra = 2 * cotangent * state
            if kets is not None:
                crosses = _backward_kept(plan, blocks, bra, kets)
            else:
                crosses = _backward_streamed(plan, blocks, bra, state)
            return angle_gradient(plan, crosses, cotangent.dtype), None, None


def exact_probabilities(
    circuit: Circuit, angles: Float[Tensor, "batch n_angles"], *, keep: bool = True
) -> Float[Tensor, "batch n_states"]:
    """Return exact probabilities, differentiable in the angles.

    Args:
        circuit: any circuit.
        angles: radians, one row a circuit; float64 keeps the result exact to 1e-15.
        keep: keep small states for the way back; False: always uncompute them.

    Returns:
        Probabilities, qubit 0 most significant, in the dtype of ``angles``.
    """
    run: Callable[..., Tensor] = _Probabilities.apply
    return torch.stack([run(row, circuit, keep) for row in angles.unbind()])


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

    on_device: ClassVar[bool] = True
    _device = torch.device("cpu")

    def probabilities(
        self, circuit: Circuit, angles: Float[Tensor, "n_angles"], *, shots: int | None, seed: int
    ) -> Float[Tensor, "n_states"]:
        """Return exact probabilities (with a gradient) or relative frequencies; see ``Backend``."""
        self._device = angles.device
        exact: Tensor = _Probabilities.apply(angles, circuit, True)  # type: ignore[no-untyped-call]
        return exact if shots is None else sample_frequencies(exact, shots, seed)

    def describe(self, circuit: Circuit) -> dict[str, object]:
        """Return which path runs this circuit: ``compiled``, ``torch`` or ``torch on cuda``."""
        if fast.chosen(circuit, self._device):
            return {"path": "compiled"}
        kind = self._device.type
        return {"path": "torch" if kind == "cpu" else f"torch on {kind}"}
