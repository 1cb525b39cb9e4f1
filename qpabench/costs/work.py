"""How much a cell computes: steps, tokens, draws; from its options, and its features if they are there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qpabench.cache import cache_dir
from qpabench.hooks.entries import BackendOptions, DatasetOptions, GeneratorOptions
from qpabench.suite.cell import Cell
from qpabench.training.keys import features_key


@dataclass(frozen=True)
class Rows:
    """What the rows of a cell's dataset come to under its model's tokenizer.

    Args:
        rows: by split; ``stream`` counts windows.
        text_rows: training rows that hold text.
        text_tokens: scored positions of the training rows that hold text.
        exact: False where every row was taken as full, because only the features know better.
        there: the features are in the cache already.
    """

    rows: Mapping[str, int]
    text_rows: int
    text_tokens: int
    exact: bool
    there: bool


@dataclass(frozen=True)
class Work:
    """What one cell does.

    Args:
        steps: of the optimizer.
        tokens_per_step: scored positions a step, on average.
        tokens_at_most: scored positions of the largest step.
        tokens_measured: positions scored after training.
        draws: forward passes of the generator while measuring.
    """

    steps: int
    tokens_per_step: float
    tokens_at_most: int
    tokens_measured: int
    draws: int


def rows_of(cell: Cell) -> Rows | str:
    """Return what is known of a cell's rows, or why nothing is.

    Args:
        cell: names dataset, model and evaluation.
    """
    folder = cache_dir() / "features" / features_key(cell)
    try:
        return _from_features(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return _from_options(cell)


def work_of(cell: Cell, rows: Rows) -> Work:
    """Count what a cell does.

    Args:
        cell: the experiment.
        rows: from ``rows_of``.
    """
    train, evaluate = cell.train, cell.evaluate
    positions = _max_length(cell) - 1
    n_rows = rows.text_rows if train.loss == "masked" else rows.rows["train"]
    tokens = rows.text_tokens if train.loss == "masked" else rows.rows["train"] * positions
    steps = train.epochs * -(-n_rows // train.batch_size)
    per_step = train.epochs * tokens / steps if steps else 0.0
    measured = (rows.rows["test"] + rows.rows.get("validation", 0)) * positions
    measured += rows.rows.get("stream", 0) * evaluate.stride
    splits = [rows.rows.get(name, 0) for name in ("test", "validation", "stream")]
    per_draw = evaluate.batch_size if _redraws(cell) else max(splits)
    return Work(
        steps=steps if train.max_steps is None else min(steps, train.max_steps),
        tokens_per_step=per_step,
        tokens_at_most=min(train.batch_size * positions, tokens),
        tokens_measured=measured,
        draws=sum(-(-split // per_draw) for split in splits if split),
    )


def tokens_read(cell: Cell, rows: Rows) -> tuple[int, int]:
    """Return how many tokens the backbone reads for the features, and how many the untrained head scores."""
    length = _max_length(cell)
    scored = rows.rows["test"] + rows.rows.get("validation", 0)
    windows = rows.rows.get("stream", 0)
    read = (rows.rows["train"] + scored) * length + windows * cell.evaluate.context
    return read, scored * (length - 1) + windows * cell.evaluate.stride


def _from_features(folder: Path) -> Rows:
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    rows = {str(name): int(n) for name, n in meta["rows"].items()}
    import numpy as np

    text = np.load(folder / "train_attention.npy", mmap_mode="r", allow_pickle=False)[:, 1:] == 1
    return Rows(rows, int(text.any(axis=1).sum()), int(text.sum()), exact=True, there=True)


def _from_options(cell: Cell) -> Rows | str:
    options = cell.dataset.options
    assert isinstance(options, DatasetOptions)
    known = options.published_rows()
    rows: dict[str, int] = {}
    for split in ("train", "validation", "test"):
        limit = getattr(options, f"{split}_rows")
        both = [n for n in (limit, known.get(split)) if n is not None]
        if not both:
            return (
                f"how many {split} rows {cell.dataset.name} has isn't known before it is read: "
                f"set {split}_rows, or run a cell of it first"
            )
        rows[split] = min(both)
    if cell.evaluate.strided:
        rows["stream"] = -(-rows["test"] * options.max_length // cell.evaluate.stride)
    exact = cell.train.loss == "padded" and not cell.evaluate.strided
    tokens = rows["train"] * (options.max_length - 1)
    return Rows(rows, rows["train"], tokens, exact=exact, there=False)


def _redraws(cell: Cell) -> bool:
    assert isinstance(cell.generator.options, GeneratorOptions)
    if cell.generator.options.held_still() != cell.generator.options:
        return True
    if cell.backend is None or cell.ledger is None or cell.ledger.n_qubits is None:
        return False
    assert isinstance(cell.backend.options, BackendOptions)
    return cell.backend.options.shots_for(cell.ledger.n_qubits) is not None


def _max_length(cell: Cell) -> int:
    assert isinstance(cell.dataset.options, DatasetOptions)
    return cell.dataset.options.max_length
