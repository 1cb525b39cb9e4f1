"""Compiles a circuit into rotation layers and index permutations, with the numbers that a device needs.

Any run of CNOTs is one index permutation. A layer of rotations is a Kronecker product, cut into blocks of
neighbouring qubits whose factors are small dense matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from qpabench.circuits.circuit import ROTATIONS, Circuit, Gate

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
    axis: Tensor | None  # (R, N) which axis each rotation has; None where all have the same
    angle: Tensor  # (R * N,) index into the angles extended by one zero
    gate_angle: Tensor  # the same in the order in which ``factors`` multiplies
    turns: Tensor  # (R * N, 2, 1, 2, 1) generator -iP of each rotation, in that order
    identity: Tensor  # (2, 1, 2, 1)
    one: Tensor  # (R, 1, 1) the second factor of a single block
    permutations: list[Tensor | None]
    inverses: list[Tensor | None]
    projectors: list[Tensor]  # per part (k*k, axes * qubits): half the generators, embedded in the part

    @property
    def n_layers(self) -> int:
        """R, layers of rotations."""
        return len(self.permutations)

    @property
    def parts(self) -> tuple[int, ...]:
        """Qubits per part whose cross products are taken."""
        return parts_of(self.blocks, self.kept)


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


def halved(size: int) -> tuple[int, int]:
    """Cut a block's qubits in two: cross products of both together cost less than those of the block."""
    return size - size // 2, size // 2


def parts_of(blocks: tuple[int, ...], kept: bool) -> tuple[int, ...]:
    """Cut blocks into parts: whole where states are kept, else in two."""
    return blocks if kept else tuple(part for block in blocks for part in halved(block))


@lru_cache(maxsize=64)
def compiled(circuit: Circuit, device: torch.device, real_dtype: torch.dtype, keep: bool = True) -> Plan:
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
    blocks = block_sizes(n_qubits, min(2, n_qubits) if kept else -(-n_qubits // STREAMED_BLOCK_QUBITS))
    used = sorted({axis for step in steps for axis in step.axes if axis >= 0})
    real = set(used) <= {ROTATIONS.index("ry")}
    dtype = real_dtype if real else (torch.complex128 if real_dtype == torch.float64 else torch.complex64)
    pauli = torch.tensor(
        [[[0, -1j], [-1j, 0]], [[0, -1], [1, 0]], [[-1j, 0], [0, 1j]]], dtype=torch.complex128
    )  # -iX, -iY, -iZ
    generators = (pauli.real if real else pauli).to(device, dtype)
    axis = torch.tensor([step.axes for step in steps], device=device).reshape(len(steps), n_qubits)
    angle = torch.tensor([step.angles for step in steps], device=device).reshape(len(steps), n_qubits)
    permutations: list[Tensor | None] = []
    inverses: list[Tensor | None] = []
    distinct: dict[tuple[tuple[int, int], ...], tuple[Tensor | None, Tensor | None]] = {(): (None, None)}
    for step in steps:
        if step.cx not in distinct:
            index = permutation(n_qubits, step.cx)
            back = torch.argsort(index)
            distinct[step.cx] = index.to(device, torch.int32), back.to(device, torch.int32)
        permutations.append(distinct[step.cx][0])
        inverses.append(distinct[step.cx][1])
    place = torch.zeros(len(ROTATIONS), dtype=torch.long, device=device)
    place[used] = torch.arange(len(used), device=device)
    flat_angle = torch.where(angle < 0, circuit.n_angles, angle).flatten()
    order = _gate_order(blocks, len(steps)).to(device)
    return Plan(
        n_qubits=n_qubits,
        n_angles=circuit.n_angles,
        blocks=blocks,
        kept=kept,
        real=real,
        axis=place[axis.clamp(min=0)] if len(used) > 1 else None,
        angle=flat_angle,
        gate_angle=flat_angle[order],
        turns=generators[axis.clamp(min=0).flatten()[order]].view(-1, 2, 1, 2, 1),
        identity=torch.eye(2, dtype=dtype, device=device).view(2, 1, 2, 1),
        one=torch.ones(len(steps), 1, 1, dtype=dtype, device=device),
        permutations=permutations,
        inverses=inverses,
        projectors=[_projector(generators[used or [0]], size) for size in parts_of(blocks, kept)],
    )


def _projector(generators: Tensor, size: int) -> Tensor:
    embedded = []
    for generator in generators:
        for qubit in range(size):
            left = torch.eye(2**qubit).to(generator)
            right = torch.eye(2 ** (size - 1 - qubit)).to(generator)
            embedded.append(torch.kron(torch.kron(left, generator), right).reshape(-1) / 2)
    return torch.stack(embedded, dim=1)


def factors(
    plan: Plan, angles: Float[Tensor, "n_angles"]
) -> list[Float[Tensor, "R k k"] | Complex[Tensor, "R k k"]]:
    """Return per block the Kronecker factors of all layers."""
    extended = torch.cat([angles, angles.new_zeros(1)])
    half = extended.index_select(0, plan.gate_angle).view(-1, 1, 1, 1, 1) / 2
    gates = half.cos() * plan.identity + half.sin() * plan.turns  # (R * N, 2, 1, 2, 1)
    result: list[Tensor] = []
    first = 0
    for size, count in _groups(plan.blocks):
        # blocks of one size are multiplied out together
        rows = plan.n_layers * count
        *others, factor = gates[first : first + size * rows].view(size, rows, 2, 1, 2, 1).unbind()
        k = 2
        for gate in reversed(others):  # the long axis stays innermost
            factor = gate * factor.reshape(rows, 1, k, 1, k)
            k *= 2
        result += factor.reshape(plan.n_layers, count, k, k).unbind(1)
        first += size * rows
    return result


def _groups(blocks: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(size, blocks.count(size)) for size in sorted(set(blocks), reverse=True)]


def _gate_order(blocks: tuple[int, ...], n_layers: int) -> Tensor:
    """Return where in (R, N) each gate of ``factors`` stands: by size of block, place in it, layer, block."""
    n_qubits, first = sum(blocks), 0
    parts = []
    for size, count in _groups(blocks):
        place, layer, block = torch.meshgrid(
            torch.arange(size), torch.arange(n_layers), torch.arange(count), indexing="ij"
        )
        parts.append((layer * n_qubits + first + block * size + place).flatten())
        first += size * count
    return torch.cat(parts)


def angle_gradient(plan: Plan, crosses: list[Tensor], dtype: torch.dtype) -> Float[Tensor, "n_angles"]:
    """Return the gradient from C[i, j] = sum over other parts of conj(bra)[i] ket[j], per part (R, k*k).

    Source: dU/dtheta = G U / 2 with G = -iP, so d<phi|psi>/dtheta = <phi| G |psi> / 2, taken beside the gate.
    """
    columns = []
    for size, cross, projector in zip(plan.parts, crosses, plan.projectors, strict=True):
        columns.append((cross @ projector).view(plan.n_layers, -1, size))
    by_axis = torch.cat(columns, dim=2)  # (R, axes, N)
    if not plan.real:
        by_axis = by_axis.real
    chosen = by_axis[:, 0] if plan.axis is None else by_axis.gather(1, plan.axis.unsqueeze(1)).squeeze(1)
    gradient = torch.zeros(plan.n_angles + 1, dtype=dtype, device=chosen.device)
    return gradient.index_add_(0, plan.angle, chosen.flatten())[:-1]
