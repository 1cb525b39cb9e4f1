"""What may be asked of each method, and what it trains (no torch here)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from qpabench import LayerShape, TargetOptions, TensorSpec, UnsupportedError

#: fixed projections larger than this (a gigabyte) are refused
MOST_PROJECTED = 2**28


class VeraOptions(TargetOptions):
    """Delta W = diag(b) B diag(d) A with A and B frozen and random.

    Source: Kopiczko et al., VeRA (ICLR 2024); PEFT's names and initial values. Differs: ``d`` is trained as
    its difference from ``d_initial``, which AdamW without weight decay doesn't notice.
    """

    rank: int = Field(default=256, ge=1, le=65536)
    d_initial: float = Field(default=0.1, description="every entry of d at first; b begins at 0")
    projection_key: int = Field(
        default=0, ge=0, lt=2**63, description="draws A and B, whatever the cell's seed"
    )

    always_told: ClassVar[tuple[str, ...]] = ("rank",)

    def specs(self, layer: LayerShape) -> tuple[TensorSpec, ...]:
        """Return ``lambda_b`` (V,), then ``lambda_d`` (r,)."""
        return (
            TensorSpec("lambda_b", (layer.d_out,), init="zeros", zero_at_start=True),
            TensorSpec("lambda_d", (self.rank,), init="zeros"),
        )


class UniLoraOptions(TargetOptions):
    """Delta W = B A, each entry of A and B one of the trained numbers, weighed by how often that one is used.

    Source: Li et al., Uni-LoRA (2025), as PEFT has it: each number is used equally often as nearly as can be.
    Differs: the vector begins N(0, 0.01^2), PEFT's uniform in +-0.02.
    """

    rank: int = Field(default=4, ge=1, le=4096)
    budget: int = Field(ge=1, description="trained numbers")
    projection_key: int = Field(default=0, ge=0, lt=2**63, description="draws the assignment")

    always_told: ClassVar[tuple[str, ...]] = ("rank", "budget")

    def specs(self, layer: LayerShape) -> tuple[TensorSpec, ...]:
        """Return ``theta_d`` (budget,).

        Raises:
            UnsupportedError: the budget is larger than both factors; the message says the nearest.
        """
        n_factors = self.rank * (layer.d_in + layer.d_out)
        _within(self.budget, n_factors, f"both factors of rank {self.rank} hold {n_factors} numbers")
        return (TensorSpec("theta_d", (self.budget,), init="normal"),)


class FourierFtOptions(TargetOptions):
    """Delta W = scaling * Re(inverse 2-D Fourier transform of trained coefficients at random frequencies).

    Source: Gao et al., FourierFT (ICML 2024), as PEFT has it. Differs: coefficients begin at 0.
    """

    budget: int = Field(ge=1, description="trained coefficients")
    scaling: float = Field(default=150.0, gt=0)
    location_key: int = Field(default=777, ge=0, lt=2**63, description="draws the frequencies")

    always_told: ClassVar[tuple[str, ...]] = ("budget",)
    hyperparameters: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    def specs(self, layer: LayerShape) -> tuple[TensorSpec, ...]:
        """Return ``spectrum`` (budget,).

        Raises:
            UnsupportedError: more coefficients than frequencies; the message says the nearest.
        """
        n_frequencies = layer.d_in * layer.d_out
        _within(self.budget, n_frequencies, f"the layer has {n_frequencies} frequencies")
        return (TensorSpec("spectrum", (self.budget,), init="zeros", zero_at_start=True),)


class TinyLoraOptions(TargetOptions):
    """Delta W = U sqrt(S) R sqrt(S) V^T with R = sum_i v_i P_i: U S V^T the leading part of W, P_i random.

    Source: Morris et al., Learning to Reason in 13 Parameters (arXiv 2602.04118), as PEFT has it: S split
    evenly, P_i ~ N(0, 1 / r). Differs: the sign of each singular vector is fixed (its largest entry in V is
    positive), where PEFT's is whatever its decomposition returns.
    """

    rank: int = Field(default=2, ge=1, le=1024)
    budget: int = Field(default=64, ge=1, description="trained numbers; beyond rank^2 no update is new")
    projection_key: int = Field(default=42, ge=0, lt=2**63, description="draws the projections")

    always_told: ClassVar[tuple[str, ...]] = ("rank", "budget")

    def specs(self, layer: LayerShape) -> tuple[TensorSpec, ...]:
        """Return ``v`` (budget,).

        Raises:
            UnsupportedError: the rank is larger than the layer, or the projections too large to hold.
        """
        most_rank = min(layer.d_in, layer.d_out)
        if self.rank > most_rank:
            raise UnsupportedError(
                f"rank {self.rank} is larger than the layer ({layer.d_out} x {layer.d_in}); "
                f"expected at most {most_rank}"
            )
        most = MOST_PROJECTED // self.rank**2
        _within(self.budget, most, f"projections of rank {self.rank} are kept up to {MOST_PROJECTED} numbers")
        return (TensorSpec("v", (self.budget,), init="zeros", zero_at_start=True),)


def _within(budget: int, most: int, why: str) -> None:
    if budget > most:
        raise UnsupportedError(f"a budget of {budget} can't be met: {why}; the nearest budget is {most}")
