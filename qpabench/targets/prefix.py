"""Position vectors added to a layer's input, in place of the paper's "prefix".

Source: section 4.1, "the tunable prefix vector that is prepended to the input of the target linear layer",
512 x d numbers. Differs: rows prepended to the input of a layer that works position by position change no
other row's output, so that reading has no effect on what is scored (``reading = "literal"``). The reading
that trains has the same count: one vector a position, added.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.hooks.entries import LayerShape
from qpabench.targets.options import PrefixOptions
from qpabench.targets.target import Factors, Target


class PrefixTarget(Target):
    """One vector a position; positions beyond the last have none."""

    reads_weight = False
    loader = """\
def adapt(x, tensors):  # x: (rows, tokens, d), what enters the layer
    prefix = tensors["prefix"].to(x)[: x.shape[1]]
    return torch.cat([x[:, : len(prefix)] + prefix, x[:, len(prefix) :]], dim=1)
"""

    def __init__(self, options: PrefixOptions, layer: LayerShape) -> None:
        super().__init__(options, layer)
        self.options = options
        if options.reading == "literal":
            self.loader = "def adapt(x, tensors):  # prepended rows change no other row\n    return x\n"

    def factors(
        self,
        inputs: Float[Tensor, "tokens d_in"],
        positions: Int[Tensor, "tokens"],
        weight: Float[Tensor, "d_out d_in"],
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return x + prefix[position], or x alone for the literal reading; see ``Target``."""
        if self.options.reading == "literal":
            return Factors(inputs)
        prefix = tensors["prefix"]
        added = prefix[positions.clamp(max=len(prefix) - 1)]
        return Factors(inputs + added * (positions < len(prefix)).unsqueeze(1))
