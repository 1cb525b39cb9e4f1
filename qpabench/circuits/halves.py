"""The first layers of a large circuit, on the two halves of its register.

Of the chain, one CNOT crosses from the left half (its last qubit) to the right one. It is the sum of two
products, |0><0| x 1 + |1><1| x X, so that after r layers the state is a sum of 2**(r - 1) products of two
small states: one matrix product. It costs 2**(r - 1) operations a number instead of N a layer.

Source: the Schroedinger-Feynman algorithm (Markov et al. 2018, arXiv:1807.10749).
Differs: all terms run, so the state is exact; the way back runs through the same products.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from qpabench.circuits.chain import ChainPlan

FEWEST_QUBITS = 16  # so that each half has enough for the compiled loops
MOST_LAYERS = 6  # one more doubles the matrix product, and saves a layer


@cache
def _loops() -> ModuleType:
    from qpabench.circuits import halves_kernels

    return halves_kernels


def layers_on_halves(n_qubits: int, within: int, chained: Sequence[bool]) -> int:
    """Say how many layers run on halves.

    Args:
        n_qubits: N.
        within: qubits of the right half.
        chained: whether a chain follows each layer but the last.
    """
    if n_qubits < FEWEST_QUBITS:
        return 0
    count = 1
    for each in chained:
        if not each or count == MOST_LAYERS:
            break
        count += 1
    return count


def _halves(plan: ChainPlan, kept: Tensor) -> tuple[Tensor, Tensor]:
    terms, above = 1 << (plan.halved - 1), plan.n_qubits - plan.within
    left, right = kept[plan.size :].split([terms << above, terms << plan.within])
    return left.view(terms, -1), right.view(terms, -1)


def _odd(plan: ChainPlan) -> Any:
    rows = torch.arange(1 << (plan.n_qubits - plan.within))
    odd = torch.zeros_like(rows)
    for qubit in range(plan.n_qubits - plan.within):
        odd ^= (rows >> qubit) & 1
    return odd.bool().numpy()


def forward(plan: ChainPlan, tangents: Any, spare: Any) -> Tensor:
    """Return the state after these layers, and behind it both halves."""
    terms = 1 << (plan.halved - 1)
    more = (terms << (plan.n_qubits - plan.within)) + (terms << plan.within)
    kept = torch.empty(plan.size + more, dtype=torch.float64)
    left, right = _halves(plan, kept)
    for half in (left, right):
        half[0] = 0
        half[0, 0] = 1
    _loops().forward(
        left.view(-1).numpy(), right.view(-1).numpy(), _odd(plan), plan.halved, tangents, plan.quads, spare
    )
    state = kept[: plan.size].view(-1, plan.stride)
    state[:, 1 << plan.within :] = 0
    torch.mm(left.T, right, out=state[:, : 1 << plan.within])
    return kept


def backward(
    plan: ChainPlan, kept: Tensor, bra: Tensor, tangents: Any, spare: Any, sums: Tensor, weights: Any, growth: float,
    cosines: Any,
) -> None:  # fmt: skip
    """Write the slopes of these layers.

    Args:
        plan: of the circuit.
        kept: what ``forward`` returned.
        bra: the derivative with respect to the state.
        tangents: these as in ``halves_kernels``.
    """
    left, right = (half.clone() for half in _halves(plan, kept))
    rows = torch.arange(left.shape[1])
    if plan.halved < len(plan.chains) - 1 and plan.chains[plan.halved]:
        rows ^= rows >> 1  # the way back leaves blocks in the order that the chain makes
    bra = bra.view(-1, plan.stride)[:, : 1 << plan.within]
    left_bra = torch.empty_like(left)
    left_bra[:, rows] = torch.mm(right, bra.T)
    right_bra = torch.mm(left[:, rows], bra)
    kets, bras = [
        tuple(half.view(-1).numpy() for half in both) for both in ((left, right), (left_bra, right_bra))
    ]
    _loops().backward(
        kets, bras, _odd(plan), plan.halved, tangents, plan.quads, spare, sums.flatten(1).numpy(), weights, growth,
        cosines,
    )  # fmt: skip
