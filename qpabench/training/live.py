"""Cells that adapt other layers than the output layer: the frozen backbone is run anew in every pass.

Rows, labels and the untrained model's NLLs are those of the stored features, so that such a cell is measured
on the same positions as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qpabench.devices import moved
from qpabench.errors import InputError, nearest, one_line
from qpabench.hooks.entries import DatasetOptions, LayerShape, ModelOptions, TargetOptions
from qpabench.models.load import require_device
from qpabench.models.model import LoadedModel
from qpabench.suite.cell import Cell
from qpabench.targets.layers import AdaptedLayers
from qpabench.targets.target import Factors, Target
from qpabench.training.features import Features, Split, ensure_features, open_features
from qpabench.training.kept import with_kept

Progress = Callable[[str, int, int], None]


class AdaptedLinear(nn.Module):
    """A frozen linear layer whose output a target changes.

    Args:
        base: ``nn.Linear``, or the transposed ``Conv1D`` of GPT-2.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.target: Target | None = None
        self.tensors: Mapping[str, Tensor] = {}
        self.random: torch.Generator | None = None

    @property
    def weight(self) -> Tensor:
        """W, (d_out, d_in)."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return weight if isinstance(self.base, nn.Linear) else weight.T

    def use(self, target: Target, tensors: Mapping[str, Tensor], random: torch.Generator | None) -> None:
        """Set what the next forward passes apply."""
        if self.target is not target:
            target.prepare(self.weight.float())
        self.target, self.tensors, self.random = target, tensors, random

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the adapted layer's output, (rows, tokens, d_out)."""
        assert self.target is not None
        rows, tokens, width = inputs.shape
        places = torch.arange(tokens, device=inputs.device).repeat(rows)  # (rows * tokens,)
        tensors = {name: tensor.to(inputs) for name, tensor in self.tensors.items()}
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]
        output = self.target.forward(
            inputs.reshape(-1, width), places, self.weight, tensors, self.random, bias
        )
        return output.reshape(rows, tokens, -1).to(inputs.dtype)


@dataclass(frozen=True, kw_only=True)
class LiveFeatures(Features):
    """Features whose inputs of the output layer are computed by the adapted backbone.

    Args:
        model: the loaded model, its chosen layers wrapped.
        wrapped: those layers by name.
        shapes: of every adapted layer, ``lm_head`` included where it is one.
    """

    model: LoadedModel
    wrapped: Mapping[str, AdaptedLinear]
    shapes: Mapping[str, LayerShape]

    def layers(self) -> dict[str, LayerShape]:
        """Return the shapes of the adapted layers by name."""
        return dict(self.shapes)

    def factors(
        self,
        target: Target,
        split: Split,
        positions: Tensor | slice,
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Run the adapted backbone on the rows of these positions; see ``Features``."""
        assert isinstance(target, AdaptedLayers)
        assert split.ids is not None
        assert split.attention is not None
        for name, layer in self.wrapped.items():
            layer.use(target.targets[name], target.tensors_of(name, tensors), random)
        device = self.weight.device
        rows, row = torch.unique(split.row[positions], return_inverse=True)
        ids, attention = moved(split.ids[rows], device), moved(split.attention[rows], device)
        hidden = self.model.features(ids, attention)
        place = moved(split.position[positions], device)
        inputs = hidden[moved(row, device), place].float()  # (rows, tokens, d) -> (positions, d)
        return target.factors(inputs, place, self.weight, tensors, random)

    def resident(self, split: Split) -> Split:
        """Return the split as it is: which rows are run is found on the host."""
        return split


def features_of(cell: Cell, progress: Progress | None = None, *, checked: bool = False) -> Features:
    """Return what a cell is trained and measured on: stored features, or the model around them.

    Args:
        cell: names model, dataset, evaluation and the adapted layers.
        progress: called with (what, done, total).
        checked: the stored features have just been read through for damage.

    Raises:
        InputError: the model has no linear layer of a wanted name.
        UnavailableError: the cell's device isn't there.
    """
    device = required_device(cell)
    folder: Path = ensure_features(cell, progress, checked=checked)
    features = open_features(folder).on(device, _head_dtype(cell, device))
    assert isinstance(cell.target.options, TargetOptions)
    if cell.target.options.is_on_head:
        return with_kept(features, cell, progress, checked=checked)
    assert isinstance(cell.dataset.options, DatasetOptions)
    model: LoadedModel = cell.model.entry.component()(cell.model.options)
    return live_features(features, model, cell.target.options.target_modules, cell.dataset.options.max_length)


def required_device(cell: Cell) -> torch.device:
    """Return the device of a cell's model, and make it the one that this process works on.

    Raises:
        UnavailableError: it isn't there.
    """
    assert isinstance(cell.model.options, ModelOptions)
    require_device(cell.model.options.device)
    device = torch.device(cell.model.options.device)
    if device.index is not None:
        torch.cuda.set_device(device)
    return device


def _head_dtype(cell: Cell, device: torch.device) -> torch.dtype:
    """Return what the output layer is kept in: bfloat16 on a GPU where model and target allow."""
    assert isinstance(cell.model.options, ModelOptions)
    assert isinstance(cell.target.options, TargetOptions)
    reads = vars(cell.target.entry.component()).get("reads_weight", True)
    halved = cell.model.options.dtype == "bfloat16" and cell.target.options.is_on_head and not reads
    return torch.bfloat16 if halved and device.type != "cpu" else torch.float32


def live_features(
    features: Features, model: LoadedModel, target_modules: list[str], n_positions: int
) -> LiveFeatures:
    """Wrap the chosen layers of a model.

    Args:
        features: rows, labels, output layer.
        model: is changed: its chosen layers are wrapped.
        target_modules: names or ends of names.
        n_positions: longest row in tokens.
    """
    found = matching_layers(model, target_modules)
    shapes, wrapped = {}, {}
    for name, module in found.items():
        adapted = AdaptedLinear(module)
        d_out, d_in = adapted.weight.shape
        shapes[name] = LayerShape(d_in, d_out, n_positions)
        if name != AdaptedLayers.HEAD:
            model.module.set_submodule(name, adapted)
            wrapped[name] = adapted
    kept: dict[str, Any] = {field.name: getattr(features, field.name) for field in fields(Features)}
    return LiveFeatures(**kept, model=model, wrapped=wrapped, shapes=shapes)


def matching_layers(model: LoadedModel, target_modules: list[str]) -> dict[str, nn.Module]:
    """Return a model's linear layers whose name is or ends in one of these, in the model's order.

    Args:
        model: what was loaded.
        target_modules: as PEFT's; ``lm_head`` is the output layer whatever its name.

    Raises:
        InputError: a name matches no linear layer; the message offers the nearest.
    """
    linear = {
        AdaptedLayers.HEAD if module is model.head else name: module
        for name, module in model.module.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
    for wanted in target_modules:
        if not any(_matches(name, wanted) for name in linear):
            ends = {name.rpartition(".")[2] for name in linear} | {
                ".".join(name.split(".")[-2:]) for name in linear
            }
            raise InputError(
                f"target_modules: the model has no linear layer {one_line(wanted, 60)!r}; "
                f"{nearest(wanted, ends)}"
            )
    return {
        n: module for n, module in linear.items() if any(_matches(n, wanted) for wanted in target_modules)
    }


def _matches(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")
