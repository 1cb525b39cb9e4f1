"""Feed-forward adapter: h = x + act(x down^T) up^T before the layer, without bias.

Source: section 4.1, "small feed-forward layers before the target linear layer". Differs: the paper gives
neither width nor form; a bottleneck of d / 4 without bias is what its counts (0.76 % and 0.40 %) need. The
residual and the activation are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.hooks.entries import LayerShape
from qpabench.targets.options import FfaOptions
from qpabench.targets.target import Factors, Target

_CODE = {"none": "{}", "relu": "torch.relu({})", "gelu": "torch.nn.functional.gelu({})"}


class FfaTarget(Target):
    """A residual bottleneck before one linear layer."""

    reads_weight = False

    def __init__(self, options: FfaOptions, layer: LayerShape) -> None:
        super().__init__(options, layer)
        self.activation = {"none": None, "relu": F.relu, "gelu": F.gelu}[options.activation]
        hidden = _CODE[options.activation].format('x @ tensors["down"].to(x).T')
        self.loader = (
            "def adapt(x, tensors):  # x: (..., d), what enters the layer\n"
            f'    return x + {hidden} @ tensors["up"].to(x).T\n'
        )

    def factors(
        self,
        inputs: Float[Tensor, "tokens d_in"],
        positions: Int[Tensor, "tokens"],
        weight: Float[Tensor, "d_out d_in"],
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return h = x + act(x down^T) up^T; see ``Target``."""
        hidden = inputs @ tensors["down"].T
        if self.activation is not None:
            hidden = self.activation(hidden)
        return Factors(inputs + hidden @ tensors["up"].T)
