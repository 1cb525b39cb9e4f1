"""DoRA: y = (m / ||W + s B A||) * x (W + s B A)^T, norm and magnitude one an output.

Source: section 3.3 (DoRA: magnitude and direction). Differs: the generated ``magnitude`` is the change of
each row's norm, m = ||W|| + magnitude, so that zeros mean the base model; as in PEFT the norm counts as a
constant for the gradient. With dropout, only the low-rank term sees dropped inputs (PEFT drops both).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.hooks.entries import LayerShape
from qpabench.targets.lora import LoraTarget
from qpabench.targets.options import DoraOptions
from qpabench.targets.target import Factors


class DoraTarget(LoraTarget):
    """The low-rank update of one layer's direction, and a magnitude an output."""

    adds_to_logits = False

    def __init__(self, options: DoraOptions, layer: LayerShape) -> None:
        super().__init__(options, layer)
        self.squares: Tensor | None = None

    def prepare(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        """Compute ||W_v||^2 of each row."""
        self.squares = row_squares(weight)

    def factors(
        self,
        inputs: Float[Tensor, "tokens d_in"],
        positions: Int[Tensor, "tokens"],
        weight: Float[Tensor, "d_out d_in"],
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return LoRA's factors and m / ||W + s B A||; see ``Target``."""
        factors = super().factors(inputs, positions, weight, tensors, random)
        squares = row_squares(weight) if self.squares is None else self.squares
        norm = adapted_norm(weight, squares, tensors["lora_A"], tensors["lora_B"], self.options.scale)
        factors.scale = (squares.sqrt() + tensors["magnitude"]) / norm
        return factors

    def peft_config(self) -> dict[str, Any]:
        """Return LoRA's with ``use_dora``."""
        return super().peft_config() | {"use_dora": True}

    def peft_tensors(
        self, weight: Float[Tensor, "d_out d_in"], tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return LoRA's and the whole magnitude."""
        magnitude = row_squares(weight).sqrt() + tensors["magnitude"]
        return super().peft_tensors(weight, tensors) | {"lora_magnitude_vector": magnitude}


def row_squares(weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "d_out"]:
    """Return the squared norm of each row without a second matrix of that size."""
    norms: Tensor = torch.linalg.vector_norm(weight, dim=1)
    return norms.square()


@torch.no_grad()
def adapted_norm(
    weight: Float[Tensor, "d_out d_in"],
    squares: Float[Tensor, "d_out"],
    A: Float[Tensor, "rank d_in"],
    B: Float[Tensor, "d_out rank"],
    scale: float,
) -> Float[Tensor, "d_out"]:
    """Return ||W_v + s (B A)_v|| for each row v without building W + s B A.

    Args:
        weight: frozen W.
        squares: ||W_v||^2.
        A: ``lora_A``.
        B: ``lora_B``.
        scale: s = alpha / rank.

    Returns:
        sqrt(||W_v||^2 + 2 s (W A^T)_v . B_v + s^2 B_v (A A^T) B_v^T), a constant for the gradient; a row of
        zeros gives the smallest positive number.
    """
    crossed = ((weight @ A.T) * B).sum(1)  # (V, r) -> (V,)
    update = ((B @ (A @ A.T)) * B).sum(1)
    total = squares + 2 * scale * crossed + scale**2 * update
    return total.clamp_min(torch.finfo(total.dtype).tiny).sqrt()
