"""What every target shares: how its tensors change one linear layer.

All targets of the paper are of one form, ``y = scale * (h W^T + u B^T)``, with ``h`` a changed input,
``u B^T`` a low-rank term and ``scale`` one factor an output. A target states these factors; whoever
computes logits, losses and gradients does it once, for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from qpabench.devices import moved
from qpabench.hooks.entries import LayerShape, TargetOptions


@dataclass
class Factors:
    """The adapted layer as ``y = scale * (h W^T + u B^T)``.

    Args:
        inputs: h, (tokens, d); the layer's own input where the target leaves it alone.
        low_rank: u (tokens, r) and B (V, r), or None.
        scale: (V,), or None.
    """

    inputs: Tensor
    low_rank: tuple[Tensor, Tensor] | None = None
    scale: Tensor | None = None


class Target(ABC):
    """A PEFT target; a subclass implements ``factors``.

    Args:
        options: an instance of the options model of its entry.
        layer: shape of the adapted layer.
    """

    #: For targets that PEFT doesn't know: a function ``adapt(x, tensors)`` in plain torch that gives what the
    #: frozen layer shall be fed with; it goes into the model card of an export.
    loader: str = ""

    #: Whether ``factors`` always gives the layer's own inputs and a low-rank term, never a scale: where the
    #: layer's own logits are kept, a step then needs no product with the frozen weight.
    adds_to_logits: bool = False

    #: Whether ``prepare`` or ``factors`` computes with the frozen weight. Where it doesn't, a weight of
    #: bfloat16 numbers may stay so on a GPU. Each class says so for itself: it isn't inherited.
    reads_weight: bool = True

    def __init__(self, options: TargetOptions, layer: LayerShape) -> None:
        self.layer = layer

    def prepare(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        """Compute once what depends on the frozen weight alone; move what is fixed to its device."""
        return

    @abstractmethod
    def factors(
        self,
        inputs: Float[Tensor, "tokens d_in"],
        positions: Int[Tensor, "tokens"],
        weight: Float[Tensor, "d_out d_in"],
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """State how the tensors change the layer.

        Args:
            inputs: what enters the layer.
            positions: each token's place in its row.
            weight: frozen W.
            tensors: by name, in the shapes of the options' ``specs``.
            random: for dropout; None when measuring.
        """

    def peft_config(self) -> dict[str, Any] | None:
        """Return the fields of PEFT's ``adapter_config.json``; None where PEFT has no such method."""
        return None

    def peft_tensors(
        self, weight: Float[Tensor, "d_out d_in"], tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the tensors under the names they have in a PEFT checkpoint, behind the layer's name.

        Args:
            weight: frozen W.
            tensors: by name, as in ``factors``.
        """
        return dict(tensors)

    def forward(
        self,
        inputs: Float[Tensor, "tokens d_in"],
        positions: Int[Tensor, "tokens"],
        weight: Float[Tensor, "d_out d_in"],
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None = None,
        bias: Float[Tensor, "d_out"] | None = None,
    ) -> Float[Tensor, "tokens d_out"]:
        """Return the adapted layer's output, the plain way."""
        factors = self.factors(inputs, positions, weight, tensors, random)
        output = F.linear(factors.inputs, weight)
        if factors.low_rank is not None:
            u, B = factors.low_rank
            output = output + u @ B.T
        if factors.scale is not None:
            output = output * factors.scale
        return output if bias is None else output + bias


def dropout(inputs: Tensor, probability: float, random: torch.Generator | None) -> Tensor:
    """Drop inputs with the given probability and rescale the rest; identity when measuring.

    Args:
        inputs: any shape.
        probability: in [0, 1).
        random: draws the mask; None when measuring.
    """
    if random is None or probability == 0:
        return inputs
    kept = torch.rand(inputs.shape, generator=random, device=random.device) >= probability
    return inputs * moved(kept, inputs.device) / (1 - probability)
