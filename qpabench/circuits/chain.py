"""The fastest path of the native state vector: RY rotations and CNOT chains, as in the RY ansatz."""

from __future__ import annotations

import mmap, os
from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits import halves
from qpabench.circuits.circuit import ROTATIONS, Circuit, cnot_chain
from qpabench.circuits.layers import layers

BLOCK_QUBITS = 10  # two blocks of both states fit a first-level cache of 32 KiB
FEWEST_QUBITS = 6
LEVEL_QUBITS = 7  # at most, so that a tile fits as well
PADDING = 16  # numbers between blocks: columns of blocks don't fall into the same lines of the cache


@cache
def _loops() -> ModuleType:
    from qpabench.circuits import chain_kernels

    return chain_kernels


@dataclass(frozen=True)
class ChainPlan:
    """A circuit as tables for the compiled loops; ``chain_kernels`` says what each is."""

    n_qubits: int
    n_angles: int
    within: int
    stride: int
    levels: Any
    tables: Any
    tables_back: Any
    quads: Any
    columns: Any
    order: Any
    chains: Any
    angle: Tensor  # (R, N) index into the angles extended by one zero
    halved: int  # so many layers run on halves, see ``halves``
    rooms: list[Tensor]

    @property
    def size(self) -> int:
        """Numbers of a state, with what lies between its blocks."""
        return self.stride << (self.n_qubits - self.within)

    def padded(self) -> Tensor:
        """Return room for a state, with zeros between its blocks."""
        state = torch.empty(self.size, dtype=torch.float64)
        state.view(-1, self.stride)[:, 1 << self.within :] = 0
        return state


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
    stride = (1 << within) + (PADDING if above else 0)
    count = -(-above // LEVEL_QUBITS)
    levels = [above // count + (level < above % count) for level in range(count)]
    place = torch.arange(1 << within)
    angle = torch.tensor([step.angles for step in steps]).reshape(len(steps), n_qubits)
    return ChainPlan(
        n_qubits=n_qubits,
        n_angles=circuit.n_angles,
        within=within,
        stride=stride,
        levels=torch.tensor(levels, dtype=torch.long).numpy(),
        tables=_tables(levels, stride, back=False),
        tables_back=_tables(levels, stride, back=True),
        quads=(torch.arange(1 << (max(within, above) - 5)) * _loops().QUAD).numpy(),
        columns=(torch.arange(1 << LEVEL_QUBITS) * _loops().COLUMNS).numpy(),
        order=((place ^ (place >> 1)) if steps[-1].cx else place).to(torch.int32).numpy().view("uint32"),
        chains=torch.tensor([False, *(bool(step.cx) for step in steps)]).numpy(),
        angle=torch.where(angle < 0, circuit.n_angles, angle),
        halved=halves.layers_on_halves(n_qubits, within, [bool(step.cx) for step in steps[:-1]]),
        rooms=[],
    )


def _room(numbers: int) -> Tensor:
    if os.environ.get("HUGE") and numbers >= 1<<18:
        place = mmap.mmap(-1, numbers * 8 + (2<<20))
        place.madvise(mmap.MADV_HUGEPAGE)
        whole = torch.frombuffer(place, dtype=torch.float64)
        skip = (-whole.data_ptr() % (2<<20)) // 8
        return whole[skip : skip + numbers].zero_()
    return torch.zeros(numbers, dtype=torch.float64)


def _tables(levels: list[int], stride: int, *, back: bool) -> Any:
    tables = torch.zeros(len(levels), 3, 1 << max(levels, default=0), dtype=torch.long)
    for table, qubits in zip(reversed(tables.unbind()), reversed(levels), strict=True):
        rows = torch.arange(1 << qubits)
        plain = rows * stride
        table[0, : len(rows)] = plain
        for odd in (0, 1):
            read = rows ^ (rows >> 1) ^ (odd << (qubits - 1))
            table[1 + odd, : len(rows)] = plain[torch.argsort(read) if back else read]
        stride <<= qubits
    return tables.numpy()


def _prepared(plan: ChainPlan, angles: Tensor) -> Any:
    half = torch.cat([angles.double(), angles.new_zeros(1, dtype=torch.float64)])[plan.angle] / 2
    return _loops().prepare(half.cos().numpy(), half.sin().numpy(), plan.chains)


def _spare(plan: ChainPlan) -> Any:
    numbers = max(_loops().COLUMNS << LEVEL_QUBITS, 1 << (plan.n_qubits - plan.within))
    return torch.empty(2, numbers, dtype=torch.float64).numpy()


def forward(plan: ChainPlan, angles: Float[Tensor, "n_angles"]) -> tuple[Tensor, Tensor]:
    """Run a circuit.

    Args:
        plan: of the circuit.
        angles: radians, on the CPU.

    Returns:
        The probabilities in float64, and the state for ``gradient``.
    """
    loops = _loops()
    tangents, _, _, scales, growths, flips = _prepared(plan, angles)
    spare = _spare(plan)
    if plan.halved:
        kept = halves.forward(plan, tangents, spare)
        state = kept[: plan.size]
    else:
        state = kept = torch.zeros(plan.size, dtype=torch.float64)
        state[0] = 1
    loops.forward(
        state.numpy(), plan.within, plan.stride, plan.levels, plan.tables, plan.quads, plan.columns, spare,
        plan.halved, plan.chains, tangents, scales,
    )  # fmt: skip
    result = torch.empty(1 << plan.n_qubits, dtype=torch.float64)
    loops.probabilities(
        state.numpy(), plan.within, plan.stride, plan.order, flips, plan.chains[-1], growths[-1], result.numpy()
    )
    return result, kept


def gradient(
    plan: ChainPlan, angles: Float[Tensor, "n_angles"], state: Tensor, cotangent: Float[Tensor, "n_states"]
) -> Float[Tensor, "n_angles"]:
    """Return d(cotangent . probabilities)/d(angles) in float64.

    Args:
        plan: of the circuit.
        angles: radians, as given to ``forward``.
        state: what ``forward`` returned; kept.
        cotangent: by which the probabilities are weighted.
    """
    loops = _loops()
    tangents, signs, cosines, _, growths, flips = _prepared(plan, angles)
    try:
        room = plan.rooms.pop()
    except IndexError:
        room = _room(2 * plan.size)
    ket, bra = room.split(plan.size)
    loops.weighted(
        state.numpy(), plan.within, plan.stride, plan.order, flips, plan.chains[-1],
        cotangent.double().contiguous().numpy(), bra.numpy(),
    )
    spare = _spare(plan)
    sums = torch.zeros(*plan.angle.shape, loops.LANES, dtype=torch.float64)
    weights, grown = loops.backward(
        state.numpy(), ket.numpy(), bra.numpy(), plan.within, plan.stride, plan.levels, plan.tables_back, plan.quads,
        plan.columns, spare, plan.halved, plan.chains, -tangents, sums.flatten(1).numpy(), growths[-1], cosines,
    )  # fmt: skip
    if plan.halved:
        halves.backward(plan, state, bra, -tangents, spare, sums, weights, grown * growths[plan.halved - 1], cosines)
    plan.rooms.append(room)
    slopes = sums.sum(2) * torch.from_numpy(weights * signs)
    result = torch.zeros(plan.n_angles + 1, dtype=torch.float64)
    return result.index_add_(0, plan.angle.flatten(), slopes.flatten())[:-1]
