"""The built-in exact state vector: the reference for all other backends, and the fast path.

Amplitudes are real where the circuit has RY rotations only. The backward pass is adjoint differentiation.
Up to ``KEPT_QUBITS`` qubits the states of all layers are kept, so that the way back turns one state only;
beyond, both states are uncomputed layer by layer, and memory is O(2**N) at any depth. Where numba is there
and quicker, ``fast`` does the same by compiled loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits import fast
from qpabench.circuits.backend import Backend
from qpabench.circuits.circuit import Circuit
from qpabench.circuits.layers import Plan, angle_gradient, compiled, factors, split
from qpabench.randomness import derive_seed

SAMPLE_CHUNK = 1 << 20
ROOM_AMPLITUDES = 1 << 18  # kept states of as many stay for the next runs: 10 MiB a circuit, with factors
ONE_THREAD_QUBITS = 17  # up to here a product takes microseconds: a second thread costs more than it brings
AS_MANY_THREADS = nullcontext()


def _suitable_threads(n_qubits: int) -> AbstractContextManager[None]:
    before = torch.get_num_threads()
    return AS_MANY_THREADS if n_qubits > ONE_THREAD_QUBITS or before == 1 else _one_thread(before)


@contextmanager
def _one_thread(before: int) -> Iterator[None]:
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Room:
    """The arrays of a run on kept states, and their parts: to name one takes half as long as to multiply."""

    def __init__(self, plan: Plan) -> None:
        self.factors = plan.projectors[0].new_empty(len(plan.entries))
        lefts, rights = split(plan, self.factors)
        rows, columns = lefts.shape[-1], rights.shape[-1]
        self.kets = lefts.new_zeros(plan.n_layers + 1, rows, columns)  # before each layer, and after the last
        self.kets[:1, :1, :1].fill_(1)
        self.bras = torch.empty_like(self.kets)
        self.half = lefts.new_empty(rows, columns)
        self.halves = self.half.view(2, -1, columns)
        parts = (lefts, self.kets[:-1], rights, self.kets[1:].unflatten(1, (2, -1)))
        self.forward = list(zip(*(part.unbind() for part in parts), plan.permutations, strict=True))
        parts = (lefts.mT, self.bras[:-1], rights.mT, self.bras[1:].unflatten(1, (2, -1)))
        self.backward = list(zip(*(part.unbind() for part in parts), plan.inverses, strict=True))[::-1]


class _Lease:
    """A room that goes back to its plan when nothing holds this any more.

    A CUDA graph writes into its room whenever it is replayed: on a GPU each run has its own.
    """

    def __init__(self, plan: Plan, room: _Room) -> None:
        self._plan, self.room = plan, room

    def __del__(self) -> None:
        rooms, kets = self._plan.rooms, self.room.kets
        if kets.device.type == "cpu" and (len(rooms) + 1) * kets.numel() <= ROOM_AMPLITUDES:
            rooms.append(self.room)


def _lease(plan: Plan) -> _Lease:
    try:
        return _Lease(plan, plan.rooms.pop())
    except IndexError:
        return _Lease(plan, _Room(plan))


def _forward_kept(room: _Room) -> Tensor:
    """Return the state after the last layer, (2**N,), which is the room's."""
    for left, ket, right, after, index in room.forward:
        torch.mm(left, ket, out=room.half)
        torch.bmm(room.halves, right, out=after)
        if index is not None:
            after.copy_(after.view(-1).index_select(0, index).view(after.shape))
    return room.kets[-1].view(-1)


def _backward_kept(room: _Room) -> list[Tensor]:
    """Return per block the cross products of all layers, taken before each."""
    for left, before, right, after, index in room.backward:
        turned = after if index is None else after.view(-1).index_select(0, index).view(after.shape)
        torch.bmm(turned, right, out=room.halves)
        torch.mm(left, room.half, out=before)
    bras, kets = room.bras[:-1], room.kets[:-1]
    return [torch.bmm(bras, kets.mT).flatten(1), torch.bmm(bras.mT, kets).flatten(1)]


def _turned(state: Tensor, spare: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a transposed matrix to the first block, which becomes the last one.

    Results go from one buffer to the other; both are returned, the result first.
    """
    k = matrix.shape[0]
    torch.mm(state.view(k, -1).T, matrix, out=spare.view(-1, k))
    return spare, state


def _permuted(state: Tensor, spare: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor]:
    if index is None:
        return state, spare
    return torch.index_select(state, 0, index, out=spare), state


def _forward_streamed(plan: Plan, blocks: list[Tensor]) -> Tensor:
    """Return the state after the last layer, (2**N,)."""
    state = blocks[0].new_zeros(2**plan.n_qubits)
    state[:1].fill_(1)
    spare = torch.empty_like(state)
    for step, index in enumerate(plan.permutations):
        for block in blocks:
            state, spare = _turned(state, spare, block[step])
        state, spare = _permuted(state, spare, index)
    return state


def _backward_streamed(plan: Plan, blocks: list[Tensor], bra: Tensor, ket: Tensor) -> list[Tensor]:
    """Return per block the cross products of all layers; a layer's rotations commute with its generators."""
    backward = [(block.mT, block.mH, torch.empty_like(block)) for block in blocks]
    ket = ket.clone()
    spare_bra, spare_ket = torch.empty_like(bra), torch.empty_like(ket)
    for step in reversed(range(plan.n_layers)):
        bra, spare_bra = _permuted(bra, spare_bra, plan.inverses[step])
        ket, spare_ket = _permuted(ket, spare_ket, plan.inverses[step])
        for for_bra, for_ket, cross in backward:
            bra, spare_bra = _turned(bra, spare_bra, for_bra[step])
            ket, spare_ket = _turned(ket, spare_ket, for_ket[step])
            k = cross.shape[-1]
            torch.mm(bra.view(-1, k).T, ket.view(-1, k), out=cross[step])
    return [cross.flatten(1) for _, _, cross in backward]


def state_vector(circuit: Circuit, angles: Float[Tensor, "batch n_angles"]) -> Tensor:
    """Return the exact states, without a gradient.

    Args:
        circuit: any circuit.
        angles: radians, one row a state.

    Returns:
        Shape (batch, 2**N); real where the circuit has RY rotations only, else complex.
    """
    plan = compiled(circuit, angles.device, angles.dtype, True)
    with torch.no_grad(), _suitable_threads(plan.n_qubits):
        result = plan.projectors[0].new_empty(len(angles), 2**plan.n_qubits)
        for row, into in zip(angles.detach(), result, strict=True):
            state, _held = _state(plan, row)
            into.copy_(plan.natural(state))
        return result


def _state(plan: Plan, angles: Tensor) -> tuple[Tensor, _Lease | list[Tensor]]:
    if plan.kept:
        lease = _lease(plan)
        factors(plan, angles, lease.room.factors)
        return _forward_kept(lease.room), lease
    blocks = split(plan, factors(plan, angles))
    return _forward_streamed(plan, blocks), blocks


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
            state, rest = _state(plan, angles)
            ctx.save_for_backward(state)
            ctx.plan, ctx.rest = plan, rest
            state = plan.natural(state)
            return state.square() if plan.real else state.real.square() + state.imag.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        (state,) = ctx.saved_tensors
        if ctx.fast:
            gradient = fast.gradient(ctx.circuit, state, ctx.turns, cotangent)
            return gradient.to(cotangent.dtype), None, None
        plan: Plan = ctx.plan
        with _suitable_threads(plan.n_qubits):
            bra = ctx.rest.room.bras[-1].view(-1) if plan.kept else torch.empty_like(state)
            torch.mul(plan.stored(cotangent), state.conj(), out=bra)
            if plan.kept:
                crosses = _backward_kept(ctx.rest.room)
            else:
                crosses = _backward_streamed(plan, ctx.rest, bra, state)
            return angle_gradient(plan, crosses), None, None


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
