"""LoRA: Delta W = (alpha / rank) B A, in PEFT's names (``lora_A (r, d)``, ``lora_B (V, r)``).

Source: section 3.3 (W0 + B A); alpha = 2r, Table 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.hooks.entries import LayerShape
from qpabench.targets.options import LoraOptions
from qpabench.targets.target import Factors, Target, dropout


class LoraTarget(Target):
    """The low-rank update of one linear layer."""

    adds_to_logits = True
    reads_weight = False

    def __init__(self, options: LoraOptions, layer: LayerShape) -> None:
        super().__init__(options, layer)
        self.options = options

    def factors(
        self,
        inputs: Float[Tensor, "tokens d_in"],
        positions: Int[Tensor, "tokens"],
        weight: Float[Tensor, "d_out d_in"],
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return u = scale * dropout(x) A^T and B; see ``Target``."""
        dropped = dropout(inputs, self.options.dropout, random)
        return Factors(
            inputs, low_rank=(dropped @ tensors["lora_A"].T * self.options.scale, tensors["lora_B"])
        )

    def peft_config(self) -> dict[str, Any]:
        """Return rank, alpha and dropout in PEFT's names."""
        alpha = self.options.scale * self.options.rank
        return {
            "peft_type": "LORA",
            "r": self.options.rank,
            "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
            "lora_dropout": self.options.dropout,
        }

    def peft_tensors(
        self, weight: Float[Tensor, "d_out d_in"], tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return both factors."""
        return {f"{name}.weight": tensors[name] for name in ("lora_A", "lora_B")}
