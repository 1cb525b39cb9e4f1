"""What frozen features depend on; torch-free, so that a runner can group cells by it."""

from __future__ import annotations

import hashlib

from qpabench.suite.cell import Cell

FEATURES_VERSION = 3


def features_key(cell: Cell) -> str:
    """Name what the features of a cell depend on: model, dataset, and the cut of the contiguous stream."""
    stream = f"{cell.evaluate.context}/{cell.evaluate.stride}" if cell.evaluate.strided else ""
    text = "\n".join([f"features@{FEATURES_VERSION}", cell.model.identity, cell.dataset.identity, stream])
    return hashlib.sha256(text.encode()).hexdigest()[:24]
