"""What of a cell is measured, each piece once however many cells share it; torch-free."""

from __future__ import annotations

import json

from qpabench.hooks.entries import LayerShape, ModelOptions, TargetOptions
from qpabench.suite.cell import Cell, Choice

#: the key of a measured piece
Piece = str

#: of every cell: what a process costs before it does anything
PROCESS: Piece = "process"


def not_measurable(cell: Cell) -> str:
    """Say why a cell's cost doesn't follow from its pieces; empty when it does."""
    assert isinstance(cell.model.options, ModelOptions)
    assert isinstance(cell.target.options, TargetOptions)
    if cell.unsupported:
        return "unsupported"
    if cell.model.options.device != "cpu":
        return f"the calibration covers the processor, not {cell.model.options.device}"
    if not cell.target.options.is_on_head:
        return "the whole model runs in each step where other layers than lm_head are adapted"
    if cell.ledger is None:
        return f"the shape of {cell.model.name} isn't known before it is loaded"
    if cell.train.theta_optimizer != "adamw":
        return f"a search by {cell.train.theta_optimizer} ends when it ends"
    return ""


def layer_of(cell: Cell) -> LayerShape:
    """Return the adapted layer of a cell for which ``not_measurable`` is empty."""
    assert isinstance(cell.model.options, ModelOptions)
    shape = cell.model.options.shape()
    assert shape is not None
    return LayerShape(*shape, n_positions=cell.dataset.options.max_length)  # type: ignore[attr-defined]


def matmul(cell: Cell) -> Piece:
    """Key the bare matrix product at the layer's width."""
    return f"matrix product, d = {layer_of(cell).d_in}"


def head(cell: Cell) -> Piece:
    """Key loss and gradient of the adapted output layer."""
    return f"head, d = {layer_of(cell).d_in}, {_of(cell.target)}"


def generator(cell: Cell) -> Piece:
    """Key the generator with its optimizer, the circuit left out."""
    assert isinstance(cell.target.options, TargetOptions)
    specs = [
        [spec.name, spec.shape, spec.zero_at_start] for spec in cell.target.options.specs(layer_of(cell))
    ]
    return f"generator, {json.dumps(specs)}, {_of(cell.generator)}"


def circuit(cell: Cell) -> Piece | None:
    """Key the circuit's backend and ansatz; None without a circuit."""
    if cell.backend is None or cell.ansatz is None:
        return None
    return f"circuit, {_of(cell.backend)}, {_of(cell.ansatz)}"


def _of(choice: Choice) -> str:
    return f"{choice.brought_by} {choice.identity}"
