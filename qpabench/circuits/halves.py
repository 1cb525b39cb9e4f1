"""The first layers of a large circuit, on the two halves of its register.

Of the chain, one CNOT crosses from the left half (its last qubit) to the right one. It is the sum of two
products, |0><0| x 1 + |1><1| x X, so that after r layers the state is a sum of 2**(r - 1) products of two
small states: one matrix product. It costs 2**(r - 1) operations a number instead of N a layer.

Source: the Schroedinger-Feynman algorithm (Markov et al. 2018, arXiv:1807.10749).
Differs: all terms run, so the state is exact; the way back runs through the same products.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qpabench import compiled

if TYPE_CHECKING:
    from qpabench.circuits.chain import ChainPlan

FEWEST_QUBITS = 16  # so that each half has enough for the compiled loops
MOST_LAYERS = 6  # one more doubles the matrix product, and saves a layer,
FAR_QUBITS = 18  # which from here on costs more: states lie beyond a second-level cache


def _loops() -> ModuleType:
    return compiled.needed("qpabench.circuits.halves_kernels")


def layers_on_halves(n_qubits: int, within: int, chained: Sequence[bool]) -> int:
    """Say how many layers run on halves.

    Args:
        n_qubits: N.
        within: qubits of the right half.
        chained: whether a chain follows each layer but the last.
    """
    if n_qubits < FEWEST_QUBITS:
        return 0
    count, most = 1, MOST_LAYERS + (n_qubits >= FAR_QUBITS)
    for each in chained:
        if not each or count == most:
            break
        count += 1
    return count


def _halves(plan: ChainPlan, state: Tensor) -> tuple[Tensor, Tensor]:
    terms = 1 << (plan.halved - 1)
    left, right = state[plan.size :].split([terms << plan.above, terms << plan.within])
    return left.view(terms, -1), right.view(terms, -1)


def odd(qubits: int) -> Any:
    """Return which numbers of so many bits have an odd count of set ones."""
    rows = torch.arange(1 << qubits)
    result = torch.zeros_like(rows)
    for qubit in range(qubits):
        result ^= (rows >> qubit) & 1
    return result.bool().numpy()


def forward(plan: ChainPlan, tangents: Any) -> Tensor:
    """Return the state after these layers, and behind it both halves.

    Args:
        plan: of the circuit.
        tangents: as in ``halves_kernels``.
    """
    terms = 1 << (plan.halved - 1)
    state = torch.empty(plan.size + (terms << plan.above) + (terms << plan.within), dtype=torch.float64)
    plan.gaps(state).zero_()  # the rest is written
    left, right = _halves(plan, state)
    for half in (left, right):
        half[0].zero_()
        half[0, 0] = 1
    _loops().forward(left.view(-1).numpy(), right.view(-1).numpy(), plan.odd, plan.halved, tangents)
    torch.mm(left.T, right, out=plan.blocks(state))
    return state


def backward(
    plan: ChainPlan, state: Tensor, bra: Tensor, tangents: Any, sums: Tensor, weights: Any,
    growth: float, cosines: Any,
) -> None:  # fmt: skip
    """Write the slopes of these layers.

    Args:
        plan: of the circuit.
        state: what ``forward`` returned; of it, the halves.
        bra: the derivative with respect to the state after these layers.
        tangents: as in ``halves_kernels``.
        sums: likewise.
        weights: likewise.
        growth: likewise.
        cosines: likewise.
    """
    left, right = (half.clone() for half in _halves(plan, state))
    blocks = plan.blocks(bra)
    left_bra, right_bra = torch.mm(blocks, right.T).T.contiguous(), torch.mm(left, blocks)
    kets, bras = [
        tuple(half.view(-1).numpy() for half in both) for both in ((left, right), (left_bra, right_bra))
    ]
    _loops().backward(
        kets, bras, plan.odd, plan.halved, tangents, sums.flatten(1).numpy(),
        weights, growth, cosines,
    )  # fmt: skip
