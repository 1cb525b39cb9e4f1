"""The compiled path of the native state vector: which circuits take it, and the tables that its loops read.

Circuits of RY rotations and CNOT chains have loops of their own, see ``chain``; here are those for the rest.
The mathematics is that of ``qpabench.circuits.native``: real amplitudes where the circuit has RY rotations
only, adjoint differentiation on the way back, both states uncomputed, memory O(2**N) at any depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench import compiled
from qpabench.circuits import chain, halves
from qpabench.circuits.ansatze import ry
from qpabench.circuits.circuit import ROTATIONS, Circuit
from qpabench.circuits.layers import layers, permutation

KERNELS = "qpabench.circuits.kernels"
BLOCK_QUBITS = 10  # two states of this size, each read and written, fit a first-level cache of 32 KiB
SINGLE_BLOCK_QUBITS = 12  # so many are quicker in one block than in tiles and blocks
CACHE_LINE = 8  # numbers of 8 bytes
FASTER_QUBITS = 15  # beyond, the matrix products of the torch path are as quick, but for ``chain``


def _loops() -> ModuleType:
    return compiled.needed(KERNELS)


def chosen(circuit: Circuit, device: torch.device) -> bool:
    """Say whether a circuit runs compiled: on the CPU, where it is quicker, with numba, if allowed.

    Args:
        circuit: any circuit.
        device: of its angles.
    """
    return (
        device.type == "cpu"
        and compiled.is_allowed()
        and compiled.loops(KERNELS) is not None
        and (circuit.n_qubits <= FASTER_QUBITS or chain.planned(circuit) is not None)
    )


def warm_up() -> None:
    """Load the loops, or compile them if this installation never did; quick where they aren't used."""
    for n_qubits in (2, halves.FEWEST_QUBITS):
        circuit = ry(n_qubits, 1)
        angles = torch.zeros(circuit.n_angles, dtype=torch.float64)
        if chosen(circuit, angles.device):
            probabilities, state, turns = forward(circuit, angles)
            gradient(circuit, state, turns, probabilities)


@dataclass(frozen=True)
class FastPlan:
    """A circuit as tables for the compiled loops; ``kernels`` says what each is."""

    above: int
    planes: int
    blocks: int
    size: int
    tiles: int
    tile_size: int
    angle: Tensor  # (R, N) index into the angles extended by one zero
    n_angles: int
    axes: Any
    across: Any
    starts: Any
    starts_back: Any
    which: Any
    which_back: Any
    last: Tensor  # (2**N,) the permutation that ends the circuit
    last_inverse: Tensor

    def state(self) -> Tensor:
        """Return room for one state."""
        return torch.empty(self.blocks, self.planes, _stride(self.blocks, self.size), dtype=torch.float64)

    def spare(self) -> Any:
        """Return room for one state, in tiles if there are any."""
        if not self.above:
            return self.state().numpy()
        stride = _stride(self.tiles, self.tile_size)
        return torch.empty(self.tiles, self.planes, stride, dtype=torch.float64).numpy()


def _stride(count: int, size: int) -> int:
    return size if count <= 1 else size + CACHE_LINE


@lru_cache(maxsize=64)
def planned(circuit: Circuit) -> FastPlan:
    """Prepare the tables of a circuit."""
    n_qubits, steps = circuit.n_qubits, layers(circuit)
    within = n_qubits if n_qubits <= SINGLE_BLOCK_QUBITS else BLOCK_QUBITS
    above = n_qubits - within
    size, rows = 1 << within, 1 << above
    width = max(CACHE_LINE, size >> above)
    tiles, tile_size = (size // width, rows * width) if above else (0, 0)
    used = {axis for step in steps for axis in step.axes if axis >= 0}
    planes = 1 if used <= {ROTATIONS.index("ry")} else 2
    states = torch.arange(1 << n_qubits)
    place = (states // size) * (planes * _stride(rows, size)) + states % size
    order, across = states.view(1, -1), torch.empty(0, size, dtype=torch.long)
    if above:
        order = states.view(rows, tiles, width).transpose(0, 1).reshape(tiles, tile_size)
        tile, column, row = torch.meshgrid(*map(torch.arange, (tiles, width, rows)), indexing="ij")
        halfway = tile * (planes * _stride(tiles, tile_size)) + column * rows + row
        across = halfway.permute(2, 0, 1).reshape(rows, size)
    known: dict[tuple[tuple[int, int], ...], int] = {(): 0}
    permutations = [states]
    for step in steps:
        if step.cx not in known:
            known[step.cx] = len(permutations)
            permutations.append(permutation(n_qubits, step.cx))
    inverses = [torch.argsort(each) for each in permutations]
    kinds = [known[step.cx] for step in steps]
    angle = torch.tensor([step.angles for step in steps]).reshape(len(steps), n_qubits)
    axes = torch.tensor([step.axes for step in steps]).reshape(len(steps), n_qubits)
    last = kinds[-1] if kinds else 0
    return FastPlan(
        above=above,
        planes=planes,
        blocks=rows,
        size=size,
        tiles=tiles,
        tile_size=tile_size,
        angle=torch.where(angle < 0, circuit.n_angles, angle),
        n_angles=circuit.n_angles,
        axes=torch.where(axes < 0, ROTATIONS.index("ry"), axes).numpy(),
        across=_table(across),
        starts=_table(torch.stack([place[each][order] for each in permutations])),
        starts_back=_table(torch.stack([place[each][order] for each in inverses])),
        which=torch.tensor([0, *kinds[:-1]][: len(kinds)], dtype=torch.long).numpy(),
        which_back=torch.tensor([*kinds[:-1], 0][-len(kinds) :], dtype=torch.long).numpy(),
        last=permutations[last],
        last_inverse=inverses[last],
    )


def _table(index: Tensor) -> Any:
    """Unsigned, so that no index is looked at for being negative."""
    return index.to(torch.int32).contiguous().numpy().view("uint32")


def _turns(plan: FastPlan, angles: Tensor) -> tuple[Any, Any]:
    half = torch.cat([angles.double(), angles.new_zeros(1, dtype=torch.float64)])[plan.angle] / 2
    return half.cos().numpy(), half.sin().numpy()


def forward(circuit: Circuit, angles: Float[Tensor, "n_angles"]) -> tuple[Tensor, Tensor, Any]:
    """Run a circuit.

    Args:
        circuit: any circuit.
        angles: radians, on the CPU.

    Returns:
        The probabilities in float64, and for ``gradient`` the state and what was made of the angles.
    """
    chained = chain.planned(circuit)
    if chained is not None:
        return chain.forward(chained, angles)
    plan = planned(circuit)
    turns = _turns(plan, angles)
    start = plan.state().zero_()
    start[0, 0, 0] = 1
    state = torch.from_numpy(
        _loops().forward(
            start.numpy(),
            plan.spare(),
            plan.above,
            plan.which,
            plan.starts,
            plan.across,
            plan.axes,
            *turns,
        )
    )
    squares = state[:, :, : plan.size].square()
    return squares.sum(1).flatten()[plan.last], state, turns


def gradient(
    circuit: Circuit, state: Tensor, turns: Any, cotangent: Float[Tensor, "n_states"]
) -> Float[Tensor, "n_angles"]:
    """Return d(cotangent . probabilities)/d(angles) in float64.

    Args:
        circuit: any circuit.
        state: what ``forward`` returned; kept.
        turns: likewise.
        cotangent: by which the probabilities are weighted.
    """
    chained = chain.planned(circuit)
    if chained is not None:
        return chain.gradient(chained, state, turns, cotangent)
    plan = planned(circuit)
    weights = cotangent.double()[plan.last_inverse].view(plan.blocks, 1, plan.size)
    bra = plan.state()
    torch.mul(state[:, :, : plan.size], 2 * weights, out=bra[:, :, : plan.size])
    slopes = _loops().backward(
        state.clone().numpy(), plan.spare(),
        bra.numpy(), plan.spare(),
        plan.above, plan.which_back, plan.starts_back, plan.across,
        plan.axes, turns[0], -turns[1],
    )  # fmt: skip
    result = torch.zeros(plan.n_angles + 1, dtype=torch.float64)
    return result.index_add_(0, plan.angle.flatten(), torch.from_numpy(slopes).flatten())[:-1]
