"""Propagates a program's Pauli components, differentiable in the angles by an adjoint backward pass."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench_aer.pauli_transfer import Program

KEPT_BYTES = 1 << 28  # states kept for the way back; beyond, some are kept and those between computed twice


def probabilities(program: Program, angles: Float[Tensor, "n_angles"]) -> Float[Tensor, "n_states"]:
    """Return the probabilities of what is read out, highest classical bit most significant.

    Args:
        program: a translated circuit.
        angles: radians, float64; gradients are exact.

    Raises:
        MemoryError: more qubits than fit.
    """
    chains = _chains(program, angles)
    first, second = chains[program.before[:, 0]], chains[program.before[:, 1]]
    both = first[:, :, None, :, None] * second[:, None, :, None, :]
    state: Tensor = _Propagate.apply(
        program.gates @ both.reshape(-1, 16, 16), program.pairs, program.n_qubits
    )
    order = _orders(program.pairs, program.n_qubits)[-1]
    wanted = [order.index(qubit) for _, qubit in program.last]
    state = state.view([4] * program.n_qubits).permute(wanted).reshape(-1)
    for (chain, _), readout in zip(program.last, program.readout, strict=True):
        # each product reads one qubit and turns it to the end
        state = (state.view(4, -1).T @ (readout @ chains[chain]).T).reshape(-1)
    return state


def _chains(program: Program, angles: Tensor) -> Tensor:
    """Multiply out every single-qubit chain, (chains, 4, 4)."""
    turned = torch.cat([program.offset + program.slope @ angles, angles.new_zeros(1)])[program.turns]
    cosine, sine = turned.cos()[..., None, None], turned.sin()[..., None, None]
    still, along, across = _turn_parts(angles.dtype)
    product = program.constants[0] + 0 * turned.sum()  # a gradient, if of 0, where no rotation is left
    for step in range(len(turned)):
        turn = still + cosine[step] * along + sine[step] * across
        product = program.constants[step + 1] @ (turn @ product)
    return product


def _turn_parts(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the parts of a rotation about Z: X -> cos X + sin Y, Y -> cos Y - sin X."""
    still, along, across = (torch.zeros(4, 4, dtype=dtype) for _ in range(3))
    still[0, 0] = still[3, 3] = along[1, 1] = along[2, 2] = across[2, 1] = 1
    across[1, 2] = -1
    return still, along, across


@lru_cache(maxsize=32)
def _orders(pairs: tuple[tuple[int, int], ...], n_qubits: int) -> list[tuple[int, ...]]:
    """Return the qubits' order before the first and after each gate: a gate brings its own to the front."""
    orders = [tuple(range(n_qubits))]
    for pair in pairs:
        orders.append((*pair, *(qubit for qubit in orders[-1] if qubit not in pair)))
    return orders


@lru_cache(maxsize=32)
def _moves(pairs: tuple[tuple[int, int], ...], n_qubits: int) -> list[tuple[list[int], list[int]]]:
    """Return for each gate the permutation of axes that it needs, and the inverse."""
    moves = []
    for old, new in pairwise(_orders(pairs, n_qubits)):
        there = [old.index(qubit) for qubit in new]
        moves.append((there, [new.index(qubit) for qubit in old]))
    return moves


class _Propagate(torch.autograd.Function):
    """Apply two-qubit matrices in order to the Pauli components of |0...0>.

    Backward: with a the adjoint after a gate M and r the state before, dL/dM = a r^T, and M^T a goes on.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor, pairs: tuple[tuple[int, int], ...], n_qubits: int) -> Tensor:
        moves, shape = _moves(pairs, n_qubits), [4] * n_qubits
        zero = matrices.new_tensor([1.0, 0.0, 0.0, 1.0])
        state = zero
        for _ in range(n_qubits - 1):
            state = torch.outer(state, zero).view(-1)
        room = max(1, KEPT_BYTES // (8 * 4**n_qubits))
        stride = 1 if len(pairs) <= room else max(1, round(len(pairs) ** 0.5))
        kept = {}
        for step, matrix in enumerate(matrices.unbind()):
            state = state.view(shape).permute(moves[step][0]).reshape(16, -1)
            if ctx.needs_input_grad[0] and step % stride == 0:
                kept[step] = state
            state = matrix @ state
        ctx.save_for_backward(matrices)
        ctx.kept, ctx.moves, ctx.shape, ctx.stride = kept, moves, shape, stride
        return state.reshape(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        (matrices,) = ctx.saved_tensors
        gradient, adjoint = torch.empty_like(matrices), cotangent
        for start in reversed(range(0, len(matrices), ctx.stride)):
            steps = range(start, min(start + ctx.stride, len(matrices)))
            states = [ctx.kept.pop(start)]
            for step in steps[1:]:
                after = matrices[step - 1] @ states[-1]
                states.append(after.view(ctx.shape).permute(ctx.moves[step][0]).reshape(16, -1))
            for step in reversed(steps):
                adjoint = adjoint.reshape(16, -1)
                torch.mm(adjoint, states.pop().T, out=gradient[step])
                adjoint = (matrices[step].T @ adjoint).view(ctx.shape).permute(ctx.moves[step][1])
        return gradient, None, None
