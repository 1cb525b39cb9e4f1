"""Direct training: each number of the target is a parameter. The classical rival of every generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qpabench.generators.generator import Generator, GeneratorContext
from qpabench.generators.options import DirectOptions
from qpabench.hooks.entries import TensorSpec
from qpabench.randomness import derive_seed

NORMAL_STD = 0.01  # of the released code's LoRA factors


def initial_value(spec: TensorSpec, kind: str, seed: int) -> Tensor:
    """Return a tensor's initial value in float32.

    Args:
        spec: its shape.
        kind: ``zeros``, ``normal`` (N(0, 0.01^2)) or ``kaiming`` (uniform in +-1/sqrt(fan_in)).
        seed: of the cell.
    """
    random = torch.Generator().manual_seed(derive_seed(seed, "initial-values", spec.name))
    if kind == "zeros":
        return torch.zeros(spec.shape)
    if kind == "normal":
        return torch.randn(spec.shape, generator=random) * NORMAL_STD
    return (torch.rand(spec.shape, generator=random) * 2 - 1) / math.sqrt(spec.shape[-1])


class DirectGenerator(Generator):
    """One parameter a number."""

    def __init__(self, options: DirectOptions, context: GeneratorContext) -> None:
        super().__init__(options, context)
        self.values = nn.ParameterDict(
            {
                spec.name: nn.Parameter(
                    initial_value(spec, spec.init if options.init == "target" else "normal", context.seed)
                )
                for spec in context.specs
            }
        )
        self.fix_start()

    def generate(self) -> dict[str, Tensor]:
        """Return the parameters themselves."""
        return dict(self.values.items())
