"""What may be asked of the built-in targets, and the tensors they need (no torch here)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from qpabench.errors import UnsupportedError
from qpabench.hooks.entries import LayerShape, TargetOptions, TensorSpec


class LoraOptions(TargetOptions):
    """Low-rank update of a linear layer."""

    rank: int = Field(default=4, ge=1, le=4096)
    alpha: float | None = Field(default=None, gt=0, description="absent: 2 * rank, as the paper has it")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="on the layer input of the update")

    always_told: ClassVar[tuple[str, ...]] = ("rank",)
    hyperparameters: ClassVar[Mapping[str, Mapping[str, object]]] = {  # Table 4
        "gpt-2": {"dropout": 0.05, "learning_rate": 1e-5, "batch_size": 1, "warmup_steps": 0, "epochs": 3},
        "gemma": {"dropout": 0.0, "learning_rate": 1e-5, "batch_size": 1, "warmup_steps": 0, "epochs": 5},
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


class DoraOptions(LoraOptions):
    """Low-rank update of the direction, and one magnitude an output."""

    hyperparameters: ClassVar[Mapping[str, Mapping[str, object]]] = {  # Table 5
        family: {"dropout": 0.0, "learning_rate": 2e-6, "batch_size": 1, "warmup_steps": 100, "epochs": 5}
        for family in ("gpt-2", "gemma")
    }

    def specs(self, layer: LayerShape) -> tuple[TensorSpec, ...]:
        """Return LoRA's tensors, then ``magnitude`` (V,), the change of each row's norm.

        Raises:
            UnsupportedError: the rank is larger than the layer.

        Source: equation 10. Differs: the paper doesn't say where in the flat vector the magnitudes stand.
        """
        return (
            *super().specs(layer),
            TensorSpec("magnitude", (layer.d_out,), init="zeros", zero_at_start=True),
        )


class PrefixOptions(TargetOptions):
    """One learned vector a position, added to the layer's input."""

    length: int = Field(default=512, ge=1, le=131072, description="positions that have a vector")
    reading: Literal["added", "literal"] = Field(
        default="added",
        description="literal: vectors prepended to the layer's input, as the paper's text has it; "
        "this has no effect on any scored position, so nothing is learnt",
    )

    hyperparameters: ClassVar[Mapping[str, Mapping[str, object]]] = {  # Table 6
        "gpt-2": {"learning_rate": 5e-6, "batch_size": 1, "warmup_steps": 0, "epochs": 5},
        "gemma": {"learning_rate": 5e-6, "batch_size": 1, "warmup_steps": 0, "epochs": 5},
        "gpt-2/generated": {"learning_rate": 1e-6},
        "gemma/generated": {"learning_rate": 1e-6},
    }

    def specs(self, layer: LayerShape) -> tuple[TensorSpec, ...]:
        """Return ``prefix`` (length, d)."""
        return (TensorSpec("prefix", (self.length, layer.d_in), init="zeros", zero_at_start=True),)


class FfaOptions(TargetOptions):
    """Residual bottleneck before the layer."""

    bottleneck: int | None = Field(default=None, ge=1, le=2**20, description="width; absent: a quarter of d")
    activation: Literal["none", "relu", "gelu"] = Field(default="relu", description="inside the bottleneck")

    hyperparameters: ClassVar[Mapping[str, Mapping[str, object]]] = {  # Table 7
        "gpt-2": {"learning_rate": 5e-6, "batch_size": 1, "warmup_steps": 0, "epochs": 5},
        "gemma": {"learning_rate": 5e-6, "batch_size": 1, "warmup_steps": 0, "epochs": 10},
    }

    def width(self, layer: LayerShape) -> int:
        """Return the width of the bottleneck."""
        return max(1, layer.d_in // 4) if self.bottleneck is None else self.bottleneck

    def specs(self, layer: LayerShape) -> tuple[TensorSpec, ...]:
        """Return ``up`` (d, k), then ``down`` (k, d); no bias, as the published counts have it.

        Raises:
            UnsupportedError: the bottleneck is wider than the layer's input.
        """
        width = self.width(layer)
        if width > layer.d_in:
            raise UnsupportedError(
                f"bottleneck {width} is wider than the layer's input of {layer.d_in}; "
                f"expected at most {layer.d_in}"
            )
        return (
            TensorSpec("up", (layer.d_in, width), init="zeros", zero_at_start=True),
            TensorSpec("down", (width, layer.d_in), init="kaiming"),
        )
