"""Compiles a circuit into rotation layers and index permutations, with the numbers that a device needs.

Any run of CNOTs is one index permutation. A layer of rotations is a Kronecker product, cut into blocks of
neighbouring qubits whose factors are small dense matrices. Where states are kept, the permutation of a CNOT
chain is folded into the two factors: it moves rows whole, and columns in one of two ways, which the last
qubit of the rows decides; that qubit is therefore stored first, so that either way has a half of the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from qpabench.circuits.circuit import ROTATIONS, Circuit, Gate
from qpabench.circuits.products import Products, RealProducts

KEPT_QUBITS = (
    12  # up to here a state is one matrix between two factors, and the states of all layers are kept
)
KEPT_AMPLITUDES = 1 << 22  # ... unless that takes more than this many: memory doesn't grow with depth
STREAMED_BLOCK_QUBITS = 4  # 16 x 16 factors: fewer operations than larger ones, and no slower per product


@dataclass(frozen=True)
class Layer:
    """Rotations, at most one a qubit, then a permutation ``new[m] = old[permutation[m]]`` (or none)."""

    axes: tuple[int, ...]  # index into ROTATIONS per qubit, -1 for none
    angles: tuple[int, ...]  # angle index per qubit, -1 for none
    cx: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Plan:
    """A compiled circuit on one device."""

    n_qubits: int
    n_angles: int
    blocks: tuple[int, ...]  # qubits per block, summing to n_qubits
    kept: bool  # two blocks, states kept; else any number of blocks, states uncomputed
    real: bool
    axes: int  # how many kinds of rotation there are, at least 1
    axis: Tensor | None  # (R, N) which axis each rotation has; None where all have the same
    angle: Tensor  # (R * N,) index into the angles extended by one zero
    only: Tensor | None  # (n_angles,) which of these has each angle; None where not just one has it
    gate_angle: Tensor  # (R * B * K,) index into the angles of K gates a block
    halves: Tensor  # (R * B, K) by which these are multiplied: a half, or zero where there is no rotation
    products: Products | RealProducts
    entries: Tensor  # where in the products, one row a layer and block, the entries of all factors are
    shapes: tuple[tuple[int, ...], ...]  # of the factors of each block
    permutations: list[Tensor | None]  # None where there is none, or it is folded into the factors
    inverses: list[Tensor | None]
    projectors: list[Tensor]  # per block (k*k, axes * qubits): the generators, embedded in the block
    rooms: list[Any]  # that a run on kept states may take and give back

    @property
    def n_layers(self) -> int:
        """R, layers of rotations."""
        return len(self.permutations)

    def stored(self, state: Float[Tensor, "n_states"]) -> Float[Tensor, "n_states"]:
        """Put numbers into the order in which states are stored."""
        return self._split(state, (-1, 2)) if self.kept else state

    def natural(
        self, state: Float[Tensor, "n_states"] | Complex[Tensor, "n_states"]
    ) -> Float[Tensor, "n_states"] | Complex[Tensor, "n_states"]:
        """Put a stored state into the order of basis indices."""
        return self._split(state, (2, -1)) if self.kept else state

    def _split(self, state: Tensor, rows: tuple[int, int]) -> Tensor:
        return state.view(*rows, 1 << self.blocks[1]).transpose(0, 1).reshape(-1)


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
                axes[qubit] = ROTATIONS.index(gate.name)
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


def block_sizes(n_qubits: int, count: int) -> tuple[int, ...]:
    """Cut the qubits into so many blocks of almost equal size, the larger ones first."""
    base, extra = divmod(n_qubits, count)
    return tuple(base + (1 if block < extra else 0) for block in range(count))


def folded(index: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split a permutation of a matrix into one of its rows and two of its columns, by upper and lower rows.

    Args:
        index: ``new[m] = old[index[m]]``, shape (2**N,).
        columns: how many.

    Returns:
        What remains to be permuted, the rows, and (2, columns); all remains where it isn't of that kind.
    """
    states = torch.arange(len(index))
    halves = index.view(2, -1, columns)
    row, column = halves // columns, halves % columns
    if (row == row[..., :1]).all() and (column == column[:, :1]).all():
        return states, row[..., 0].flatten(), column[:, 0]
    return index, *folded(states, columns)[1:]


@lru_cache(maxsize=64)
def compiled(circuit: Circuit, device: torch.device, real_dtype: torch.dtype, keep: bool) -> Plan:
    """Compile a circuit.

    Args:
        circuit: any circuit.
        device: where it will run.
        real_dtype: float64 or float32.
        keep: keep the states of all layers if there is room; False: never.
    """
    n_qubits = circuit.n_qubits
    steps = layers(circuit)
    kept = keep and n_qubits <= KEPT_QUBITS and len(steps) << n_qubits <= KEPT_AMPLITUDES
    kept = kept or n_qubits == 1  # nothing to cut in two
    blocks = block_sizes(n_qubits, 2 if kept else -(-n_qubits // STREAMED_BLOCK_QUBITS))
    order = list(range(n_qubits))
    if kept:
        order.insert(0, order.pop(blocks[0] - 1))
    used = sorted({axis for step in steps for axis in step.axes if axis >= 0})
    real = set(used) <= {ROTATIONS.index("ry")}
    dtype = real_dtype if real else (torch.complex128 if real_dtype == torch.float64 else torch.complex64)
    pauli = torch.tensor(
        [[[0, -1j], [-1j, 0]], [[0, -1], [1, 0]], [[-1j, 0], [0, 1j]]], dtype=torch.complex128
    )  # -iX, -iY, -iZ
    generators = (pauli.real if real else pauli).to(device, dtype)
    axis = torch.tensor([step.axes for step in steps]).reshape(-1, n_qubits)[:, order].clamp(min=0)
    angle = torch.tensor([step.angles for step in steps]).reshape(-1, n_qubits)[:, order]
    angle = torch.where(angle < 0, circuit.n_angles, angle)
    once = not circuit.angle_is_shared()
    by_block = _by_block(angle, blocks, circuit.n_angles)
    gates = max(blocks)
    products: Products | RealProducts
    if real:
        products = RealProducts(gates, generators)
    else:
        turns = generators.view(-1, 4)[_by_block(axis, blocks, 0).to(device)]
        products = Products(gates, torch.eye(2).to(generators).view(4), turns)
    places = [products.places(size) + block * products.per_row for block, size in enumerate(blocks)]
    distinct: dict[tuple[tuple[int, int], ...], _Moves] = {}
    for cx in {step.cx for step in steps}:
        chain = tuple((order.index(control), order.index(target)) for control, target in cx)
        distinct[cx] = _moves(permutation(n_qubits, chain), places, kept, device)
    moves = [distinct[step.cx] for step in steps]
    rows = torch.arange(len(steps)) * len(blocks) * products.per_row
    entries = [
        torch.stack(block) + rows.view(-1, *[1] * block[0].dim())
        for block in zip(*(each.places for each in moves), strict=True)
    ]
    place = torch.zeros(len(ROTATIONS), dtype=torch.long)
    place[used] = torch.arange(len(used))
    return Plan(
        n_qubits=n_qubits,
        n_angles=circuit.n_angles,
        blocks=blocks,
        kept=kept,
        real=real,
        axes=len(used) or 1,
        axis=place[axis].to(device) if len(used) > 1 else None,
        angle=angle.flatten().to(device),
        only=angle.flatten().argsort()[: circuit.n_angles].to(device) if once else None,
        gate_angle=(by_block % max(circuit.n_angles, 1)).flatten().to(device),
        halves=((by_block < circuit.n_angles) / 2).to(device, real_dtype),
        products=products,
        entries=torch.cat([block.flatten() for block in entries]).to(device, torch.int32),
        shapes=tuple(tuple(block.shape) for block in entries),
        permutations=[each.permutation for each in moves],
        inverses=[each.inverse for each in moves],
        projectors=[_projector(generators[used or [0]], size) for size in blocks],
        rooms=[],
    )


@dataclass(frozen=True)
class _Moves:
    """What a layer's permutation leaves to permute, and the places of the factors' entries in a layer."""

    permutation: Tensor | None
    inverse: Tensor | None
    places: list[Tensor]


def _moves(index: Tensor, places: list[Tensor], kept: bool, device: torch.device) -> _Moves:
    if kept:
        left, right = places
        index, rows, columns = folded(index, len(right))
        places = [left[rows], right[columns].mT]
    else:
        places = [each.T for each in places]
    if torch.equal(index, torch.arange(len(index))):
        return _Moves(None, None, places)
    inverse = torch.argsort(index)
    return _Moves(index.to(device, torch.int32), inverse.to(device, torch.int32), places)


def _by_block(table: Tensor, blocks: tuple[int, ...], missing: int) -> Tensor:
    """Bring a number per rotation, (R, N), into one row a layer and block, (R * B, K)."""
    result = table.new_full((len(table), len(blocks), max(blocks)), missing)
    for block, part in enumerate(table.split(blocks, dim=1)):
        result[:, block, : part.shape[1]] = part
    return result.flatten(0, 1)


def _projector(generators: Tensor, size: int) -> Tensor:
    embedded = []
    for generator in generators:
        for qubit in range(size):
            left = torch.eye(2**qubit).to(generator)
            right = torch.eye(2 ** (size - 1 - qubit)).to(generator)
            embedded.append(torch.kron(torch.kron(left, generator), right).reshape(-1))
    return torch.stack(embedded, dim=1) if embedded else generators.new_zeros(1, 0)


def factors(plan: Plan, angles: Float[Tensor, "n_angles"], out: Tensor | None = None) -> Tensor:
    """Return what a state is multiplied by in all layers, for ``split``.

    Args:
        plan: of the circuit.
        angles: radians.
        out: where to write.
    """
    given = angles if plan.n_angles else angles.new_zeros(1)
    half = given.index_select(0, plan.gate_angle).view(plan.halves.shape) * plan.halves
    return torch.index_select(plan.products(half).view(-1), 0, plan.entries, out=out)


def split(plan: Plan, entries: Tensor) -> list[Tensor]:
    """Return the factors of each block.

    Returns:
        Where states are kept, the left factor, (R, k, k), and transposed, for the upper and the lower rows,
        the right one, (R, 2, k, k); else all factors transposed, (R, k, k).
    """
    parts = entries.split([math.prod(shape) for shape in plan.shapes])
    return [part.view(shape) for part, shape in zip(parts, plan.shapes, strict=True)]


def angle_gradient(plan: Plan, crosses: list[Tensor]) -> Float[Tensor, "n_angles"]:
    """Return the gradient from C[i, j] = sum over other blocks of conj(bra)[i] ket[j], per block (R, k*k).

    Source: dU/dtheta = G U / 2 with G = -iP, and |amplitude|^2 is differentiated to twice the amplitude; so
    the gradient is <bra| G |ket>, taken beside the gate.
    """
    columns = []
    for size, cross, projector in zip(plan.blocks, crosses, plan.projectors, strict=True):
        columns.append((cross @ projector).view(plan.n_layers, plan.axes, size))
    by_axis = torch.cat(columns, dim=2)  # (R, axes, N)
    if not plan.real:
        by_axis = by_axis.real
    chosen = by_axis if plan.axis is None else by_axis.gather(1, plan.axis.unsqueeze(1))
    slopes = chosen.flatten()
    if plan.only is not None:
        return slopes.index_select(0, plan.only)
    gradient = torch.zeros(plan.n_angles + 1, dtype=slopes.dtype, device=slopes.device)
    return gradient.index_add_(0, plan.angle, slopes)[:-1]
