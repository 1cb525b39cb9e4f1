"""Multiplies out the gates of a block, for all layers and blocks at once.

The entries of a Kronecker product of rotations are products of one number per gate. All of these are made,
in one row a block of a layer, and ``places`` says where in a row the entries of the block's matrix are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Products:
    """Those of any rotations: the entries of all gates, row by row, the first gate's come slowest."""

    gates: int  # K of them
    identity: Tensor  # (4,)
    turns: Tensor  # (rows, K, 4) generator -iP of each

    @property
    def per_row(self) -> int:
        """How many products there are in a row."""
        return 1 << 2 * self.gates

    def places(self, size: int) -> Int[Tensor, "k k"]:
        """Return where the matrix of the first ``size`` gates is, the angles of the others being zero."""
        states = torch.arange(1 << size)
        place = torch.zeros(1 << size, 1 << size, dtype=torch.long)
        for qubit in range(size):
            bit = (states >> (size - 1 - qubit)) & 1
            place += (2 * bit.unsqueeze(1) + bit) << 2 * (self.gates - 1 - qubit)
        return place

    def __call__(self, half: Float[Tensor, "rows K"]) -> Complex[Tensor, "rows products"]:
        """Multiply out, given half the angles."""
        half = half.unsqueeze(2)
        *others, product = (half.cos() * self.identity + half.sin() * self.turns).unbind(1)
        for gate in reversed(others):  # the long axis stays innermost
            product = (gate.unsqueeze(2) * product.unsqueeze(1)).flatten(1)
        return product


class RealProducts:
    """Those of RY rotations: of a cosine or sine of half the angle per gate, and their negatives.

    Products of cosines and sines are sums of cosines (where the sines are even in number) or of sines, of all
    half angles added up with either sign: a few large steps, where to multiply takes many small ones.

    Args:
        gates: K.
        like: dtype and device.
    """

    def __init__(self, gates: int, like: Tensor) -> None:
        self.gates = gates
        bits = (torch.arange(1 << gates) >> torch.arange(gates - 1, -1, -1).unsqueeze(1)) & 1  # (K, 2**K)
        signs = 1 - 2 * bits[:, : 1 << (gates - 1)]  # the first gate's stay positive
        sines = bits.sum(0)
        weights = (-1) ** (sines // 2) * (signs.T.unsqueeze(2) ** bits).prod(1) / (1 << (gates - 1))
        weights = torch.cat([weights * (sines % 2 == 0), weights * (sines % 2 == 1)])
        self._signs = signs.to(like)
        self._weights = torch.cat([weights, -weights], dim=1).to(like)

    @property
    def per_row(self) -> int:
        """How many products there are in a row."""
        return 2 << self.gates

    def places(self, size: int) -> Int[Tensor, "k k"]:
        """Return where the matrix of the first ``size`` gates is, the angles of the others being zero."""
        row, column = torch.arange(1 << size).unsqueeze(1), torch.arange(1 << size)
        place = (row ^ column) << (self.gates - size)
        for qubit in range(size):
            place ^= ((~row & column) >> qubit & 1) << self.gates
        return place

    def __call__(self, half: Float[Tensor, "rows K"]) -> Float[Tensor, "rows products"]:
        """Multiply out, given half the angles."""
        reduced = torch.atan2(half.sin(), half.cos())  # sums of large angles would be rounded too much
        sums = reduced @ self._signs
        return torch.cat([sums.cos(), sums.sin()], dim=1) @ self._weights
