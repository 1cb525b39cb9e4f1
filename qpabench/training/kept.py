"""Logits of the untrained model at scored positions, kept on disk as far as they fit a budget.

Features and output layer are frozen, so a target that only adds a low-rank term to the logits needs
``exp(z + u B^T)`` in a step, not ``z = h W^T`` again. One folder a part in the cache, published whole;
a part is a split, or ``train-text``, the training positions that hold text:

```
kept/<features key>/<part>/logits.f32    (tokens, V) float32, row after row: z - logsumexp(z)
```

Mapped piece by piece: a process that maps gigabytes seems to hold them, and would break its memory limit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from qpabench.cache import cache_dir, folders, make_room, published, remove
from qpabench.errors import StorageError, UnavailableError
from qpabench.hooks.entries import TargetOptions
from qpabench.suite.cell import Cell
from qpabench.training.budget import KEPT, TRAIN_TEXT, budget_bytes, kept_parts, part_read
from qpabench.training.features import Features, Split
from qpabench.training.kept_loss import FLOAT_BYTES, KeptLogits
from qpabench.training.keys import features_key

TOKENS_PER_PASS = 512
CHECKED_TOKENS = 8

Progress = Callable[[str, int, int], None]


def with_kept(
    features: Features,
    cell: Cell,
    progress: Progress | None = None,
    warn: Callable[[str], None] = warnings.warn,
    *,
    checked: bool = False,
) -> Features:
    """Return features with the kept logits of their splits, computed by whoever needs them first.

    They are kept where the target only adds to the logits, on the CPU; ``kept_parts`` says of which splits.
    What can't be written, or isn't what the features give, isn't used.

    Args:
        features: of the cell.
        cell: names model, dataset and target.
        progress: called with (what, done, total).
        warn: called with a line when kept logits were damaged and are computed again.
        checked: their content has just been read through.

    Raises:
        InputError: the budget asked for isn't a number.
    """
    assert isinstance(cell.target.options, TargetOptions)
    adds = cell.target.options.is_on_head and getattr(cell.target.entry.component(), "adds_to_logits", False)
    if not adds or features.softcap is not None or features.weight.device.type != "cpu":
        return features
    budget, splits = budget_bytes(), dict(features.splits)
    text = torch.nonzero(splits["train"].mask).squeeze(1)
    parts = kept_parts(
        {name: len(split.labels) for name, split in splits.items()},
        len(text),
        len(features.weight) * FLOAT_BYTES,
        budget,
    )
    read = {name: part for name in splits if (part := part_read(name, cell.train.loss, parts))}
    if not read:
        return features
    key = features_key(cell)
    try:
        own = cache_dir() / KEPT / key
        own.mkdir(parents=True, exist_ok=True)
        make_room(KEPT, budget - sum(parts.values()), own)
        for left in folders(f"{KEPT}/{key}"):
            if left.name not in parts:  # of another budget
                remove(left)
        for name, part in read.items():
            given = (features, splits[name], text if part == TRAIN_TEXT else None)
            kept = _kept(*given, f"{KEPT}/{key}/{part}", progress, warn, thorough=not checked)
            splits[name] = replace(splits[name], kept=kept)
    except (UnavailableError, StorageError, OSError):
        return features
    return replace(features, splits=splits)


def _kept(
    features: Features,
    split: Split,
    positions: Tensor | None,
    name: str,
    progress: Progress | None,
    warn: Callable[[str], None],
    *,
    thorough: bool,
) -> KeptLogits | None:
    told = progress or (lambda what, done, total: None)
    for _ in range(2):
        folder = published(
            name, lambda work: write_logits(features, split, work, told, positions), warn, thorough=thorough
        )
        found = _opened(folder / "logits.f32", features, split, positions)
        if found is not None:
            return found
        remove(folder)
    raise UnavailableError(f"{name}: the logits differ each time they are computed")


def _opened(path: Path, features: Features, split: Split, positions: Tensor | None) -> KeptLogits | None:
    """Open a file if it has the right size and, at some positions, what the features give."""
    places = torch.arange(len(split.labels)) if positions is None else positions
    if not path.is_file() or path.stat().st_size != len(places) * len(features.weight) * FLOAT_BYTES:
        return None
    kept = KeptLogits(path, len(features.weight), positions)
    some = places[torch.linspace(0, len(places) - 1, min(CHECKED_TOKENS, len(places))).long()]
    expected = _logits(features, split, some)
    same = all(
        torch.allclose(block, expected[part], rtol=1e-4, atol=1e-3) for part, block in kept.pieces(some)
    )
    return kept if same else None


def _logits(features: Features, split: Split, positions: Tensor | slice) -> Tensor:
    z = F.linear(split.features[positions], features.weight, features.bias)
    return z.sub_(torch.logsumexp(z, 1, keepdim=True))


def write_logits(
    features: Features, split: Split, work: Path, progress: Progress, positions: Tensor | None = None
) -> None:
    """Write a split's normalised logits.

    Args:
        features: the frozen output layer.
        split: of the features.
        work: an existing folder; ``logits.f32`` is written there.
        progress: called with (what, done, total).
        positions: places in the split's flat arrays; None: all.
    """
    n = len(split.labels if positions is None else positions)
    with (work / "logits.f32").open("wb", buffering=0) as file:
        for begin in range(0, n, TOKENS_PER_PASS):
            progress("logits of the untrained model", begin, n)
            part = slice(begin, min(begin + TOKENS_PER_PASS, n))
            file.write(_logits(features, split, part if positions is None else positions[part]).numpy().data)
    progress("logits of the untrained model", n, n)
