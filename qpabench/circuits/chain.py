"""The fastest path of the native state vector: circuits of RY rotations and CNOT chains, as the RY ansatz.

The mathematics is that of ``qpabench.circuits.native``: real amplitudes, adjoint differentiation, both states
uncomputed, memory O(2**N) at any depth. ``chain_kernels`` are the loops, ``halves`` the first layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench import compiled
from qpabench.circuits import halves
from qpabench.circuits.circuit import ROTATIONS, Circuit, cnot_chain
from qpabench.circuits.layers import layers

FEWEST_QUBITS = 6
BLOCK_QUBITS = 10  # a block of both states fits a first-level cache of 32 KiB, with the one that is fetched
TILE = 2048  # numbers of a tile, which fits as well; the longer its rows, the better they come from afar
LEVEL_QUBITS = 7  # at most, so that rows of a tile have the sixteen numbers that are turned at once
PADDING = 16  # numbers between blocks: columns of blocks don't fall into the same lines of the cache


def _loops() -> ModuleType:
    return compiled.needed("qpabench.circuits.chain_kernels")


@dataclass(frozen=True)
class ChainPlan:
    """A circuit as tables for the compiled loops; ``chain_kernels`` says what each is."""

    n_qubits: int
    n_angles: int
    within: int
    stride: int  # numbers from block to block
    places: Any
    order: Any
    layout: Any
    chains: Any
    angle: Tensor  # (R, N) index into the angles extended by one zero
    halved: int  # so many layers run on halves
    odd: Any  # numbers of the left half
    rooms: list[Tensor]  # (2, size) for the way back, kept: to get memory anew takes as long as two layers

    @property
    def above(self) -> int:
        """Qubits above a block."""
        return self.n_qubits - self.within

    @property
    def size(self) -> int:
        """Numbers of a state, with the zeros between its blocks."""
        return self.stride << self.above

    def blocks(self, state: Tensor) -> Float[Tensor, "blocks numbers"]:
        """Return a state without what is between its blocks."""
        return state[: self.size].view(-1, self.stride)[:, : 1 << self.within]

    def gaps(self, state: Tensor) -> Float[Tensor, "blocks padding"]:
        """Return what is between a state's blocks."""
        return state[: self.size].view(-1, self.stride)[:, 1 << self.within :]


@lru_cache(maxsize=64)
def planned(circuit: Circuit) -> ChainPlan | None:
    """Prepare the tables of a circuit.

    Returns:
        None if it has other gates, or too few qubits.
    """
    n_qubits, steps = circuit.n_qubits, layers(circuit)
    whole = tuple((gate.qubits[0], gate.qubits[1]) for gate in cnot_chain(n_qubits))
    if n_qubits < FEWEST_QUBITS or not steps:
        return None
    if any(step.cx not in ((), whole) or not set(step.axes) <= {-1, ROTATIONS.index("ry")} for step in steps):
        return None
    within = min(n_qubits, BLOCK_QUBITS)
    above = n_qubits - within
    count = -(-above // LEVEL_QUBITS)
    levels = [above // count + (level < above % count) for level in range(count)]
    stride = (1 << within) + (PADDING if above else 0)
    places = torch.arange(1 << above) * stride
    numbers = torch.arange(1 << within)
    order = numbers ^ (numbers >> 1) if steps[-1].cx else numbers
    angle = torch.tensor([step.angles for step in steps]).reshape(len(steps), n_qubits)
    layout = (within, places.numpy(), _levels(levels, within, stride))
    return ChainPlan(
        n_qubits=n_qubits,
        n_angles=circuit.n_angles,
        within=within,
        stride=stride,
        places=places.numpy(),
        order=order.to(torch.int32).numpy().view("uint32"),
        layout=layout,
        chains=torch.tensor([False, *(bool(step.cx) for step in steps)]).numpy(),
        angle=torch.where(angle < 0, circuit.n_angles, angle),
        halved=halves.layers_on_halves(n_qubits, within, [bool(step.cx) for step in steps[:-1]]),
        odd=halves.odd(above),
        rooms=[],
    )


def _levels(qubits: list[int], within: int, stride: int) -> Any:
    levels = torch.zeros(len(qubits), 4, dtype=torch.long)
    columns = 1 << within
    for level, count in zip(reversed(levels.unbind()), reversed(qubits), strict=True):
        level[:] = torch.tensor([count, stride, columns, math.gcd(columns, TILE >> count)])
        stride <<= count
        columns = stride
    return levels.numpy()


def _prepared(plan: ChainPlan, angles: Tensor) -> Any:
    half = torch.cat([angles.double(), angles.new_zeros(1, dtype=torch.float64)])[plan.angle] / 2
    return _loops().prepare(half.cos().numpy(), half.sin().numpy(), plan.chains)


def forward(plan: ChainPlan, angles: Float[Tensor, "n_angles"]) -> tuple[Tensor, Tensor, Any]:
    """Run a circuit.

    Args:
        plan: of the circuit.
        angles: radians, on the CPU.

    Returns:
        The probabilities in float64, and for ``gradient`` the state and what was made of the angles.
    """
    turns = _prepared(plan, angles)
    tangents, _, _, scales, growths, flips = turns
    if plan.halved:
        state = halves.forward(plan, tangents)
    else:
        state = torch.zeros(plan.size, dtype=torch.float64)
        state[0] = 1
    numbers = state[: plan.size].numpy()
    _loops().forward(numbers, plan.layout, plan.halved, plan.chains, tangents, scales)
    result = torch.empty(1 << plan.n_qubits, dtype=torch.float64)
    ends = (plan.within, plan.places, plan.order, flips, plan.chains[-1])
    _loops().probabilities(numbers, ends, growths[-1], result.numpy())
    return result, state, turns


def gradient(
    plan: ChainPlan, state: Tensor, turns: Any, cotangent: Float[Tensor, "n_states"]
) -> Float[Tensor, "n_angles"]:
    """Return d(cotangent . probabilities)/d(angles) in float64.

    Args:
        plan: of the circuit.
        state: what ``forward`` returned; kept.
        turns: likewise.
        cotangent: by which the probabilities are weighted.
    """
    tangents, signs, cosines, _, growths, flips = turns
    tangents = -tangents
    numbers = state[: plan.size].numpy()
    try:
        room = plan.rooms.pop()
    except IndexError:
        room = torch.zeros(2, plan.size, dtype=torch.float64)
    ket, bra = room.unbind()
    ends = (plan.within, plan.places, plan.order, flips, plan.chains[-1])
    _loops().weighted(numbers, ends, cotangent.double().contiguous().numpy(), bra.numpy())
    sums = torch.zeros(*plan.angle.shape, _loops().LANES, dtype=torch.float64)
    weights, growth = _loops().backward(
        numbers, ket.numpy(), bra.numpy(), plan.layout, plan.halved, plan.chains, tangents,
        sums.flatten(1).numpy(), growths[-1], cosines,
    )  # fmt: skip
    if plan.halved:
        growth *= growths[plan.halved - 1]
        halves.backward(plan, state, bra, tangents, sums, weights, growth, cosines)
    slopes = sums.sum(2) * torch.from_numpy(weights * signs)
    if not plan.rooms and bool(slopes.isfinite().all()):  # else what lies between the blocks isn't zero
        plan.rooms.append(room)
    result = torch.zeros(plan.n_angles + 1, dtype=torch.float64)
    return result.index_add_(0, plan.angle.flatten(), slopes.flatten())[:-1]
