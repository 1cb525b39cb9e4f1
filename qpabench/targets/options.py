"""What may be asked of the built-in targets, and the tensors they need (no torch here)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from qpabench.errors import UnsupportedError
from qpabench.hooks.entries import LayerShape, TargetOptions, TensorSpec


class LoraOptions(TargetOptions):
    """Low-rank update of a linear layer."""

    rank: int = Field(default=4, ge=1, le=4096)
    alpha: float | None = Field(default=None, gt=0, description="absent: 2 * rank, as the paper has it")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="on the layer input of the update")

    always_told: ClassVar[tuple[str, ...]] = ("rank",)
    hyperparameters: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "gpt-2": {"learning_rate": 1e-5, "batch_size": 1, "warmup_steps": 0, "epochs": 3},
        "gemma": {"learning_rate": 1e-5, "batch_size": 1, "warmup_steps": 0, "epochs": 5},
    }

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return 2.0 if self.alpha is None else self.alpha / self.rank

    def specs(self, layer: LayerShape) -> tuple[TensorSpec, ...]:
        """Return ``lora_B`` (V, r), then ``lora_A`` (r, d): the order in which a flat vector is cut.

        Raises:
            UnsupportedError: the rank is larger than the layer.

        Source: equation 9; the cut as in the released code.
        """
        if self.rank > min(layer.d_in, layer.d_out):
            raise UnsupportedError(
                f"rank {self.rank} is larger than the layer ({layer.d_out} x {layer.d_in}); "
                f"expected at most {min(layer.d_in, layer.d_out)}"
            )
        return (
            TensorSpec("lora_B", (layer.d_out, self.rank), init="zeros", zero_at_start=True),
            TensorSpec("lora_A", (self.rank, layer.d_in), init="kaiming"),
        )
