"""Rivals of QPA at small budgets: VeRA, Uni-LoRA, FourierFT and TinyLoRA as targets."""

from __future__ import annotations

from collections.abc import Iterable

from qpabench import TargetEntry, hookimpl
from qpabench_peft.options import FourierFtOptions, TinyLoraOptions, UniLoraOptions, VeraOptions


@hookimpl
def qpabench_targets() -> Iterable[TargetEntry]:
    """Return the four methods."""
    return [
        TargetEntry(
            name="vera",
            summary="frozen random factors, scaled by two trained vectors",
            load="qpabench_peft.targets:VeraTarget",
            options=VeraOptions,
        ),
        TargetEntry(
            name="uni-lora",
            summary="both LoRA factors out of one trained vector of any length",
            load="qpabench_peft.targets:UniLoraTarget",
            options=UniLoraOptions,
        ),
        TargetEntry(
            name="fourierft",
            summary="spectral coefficients of the update at random frequencies",
            load="qpabench_peft.targets:FourierFtTarget",
            options=FourierFtOptions,
        ),
        TargetEntry(
            name="tinylora",
            summary="a tiny trained vector between frozen singular vectors of the layer",
            load="qpabench_peft.targets:TinyLoraTarget",
            options=TinyLoraOptions,
        ),
    ]
