"""One target on several layers of a model: its tensors are named ``<layer>/<tensor>``.

Dots in a layer's name become colons, since torch allows no dot in a parameter's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from qpabench.hooks.entries import LayerShape, TargetOptions, TensorSpec
from qpabench.targets.target import Factors, Target


def specs_of_layers(options: TargetOptions, layers: Mapping[str, LayerShape]) -> tuple[TensorSpec, ...]:
    """Return the tensors of every layer, layer by layer, in the order in which a flat vector is cut."""
    return tuple(
        replace(spec, name=tensor_name(layer, spec.name))
        for layer, shape in layers.items()
        for spec in options.specs(shape)
    )


def tensor_name(layer: str, tensor: str) -> str:
    """Return the name of one layer's tensor."""
    return f"{layer.replace('.', ':')}/{tensor}"


class AdaptedLayers(Target):
    """The same target once a layer.

    Args:
        component: a target's class.
        options: of the target.
        layers: shapes by name; the output layer, where it is among them, is named ``lm_head``.
    """

    HEAD = "lm_head"

    def __init__(
        self, component: Callable[..., Target], options: TargetOptions, layers: Mapping[str, LayerShape]
    ) -> None:
        super().__init__(options, next(iter(layers.values())))
        self.targets = {name: component(options, layer) for name, layer in layers.items()}

    def prepare(self, weight: Tensor) -> None:
        """Prepare the output layer's target; the others are prepared where their weights are."""
        if self.HEAD in self.targets:
            self.targets[self.HEAD].prepare(weight)

    def tensors_of(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return one layer's tensors under their plain names."""
        start = tensor_name(name, "")
        return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}

    def factors(
        self,
        inputs: Tensor,
        positions: Tensor,
        weight: Tensor,
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return the factors of the output layer, as it is when it isn't adapted; see ``Target``."""
        if self.HEAD not in self.targets:
            return Factors(inputs)
        own = self.tensors_of(self.HEAD, tensors)
        return self.targets[self.HEAD].factors(inputs, positions, weight, own, random)
