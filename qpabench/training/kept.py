"""Logits of the untrained model at every scored position, kept on disk where all of them fit a budget.

Features and output layer are frozen, so a target that only adds a low-rank term to the logits needs
``exp(z + u B^T)`` in a step, not ``z = h W^T`` again. One folder a split in the cache, published whole:

```
kept/<features key>/<split>/logits.f32    (tokens, V) float32, row after row: z - logsumexp(z)
```

Mapped piece by piece: a process that maps gigabytes seems to hold them, and would break its memory limit.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from qpabench.cache import cache_dir, make_room, published
from qpabench.errors import StorageError, UnavailableError
from qpabench.hooks.entries import TargetOptions
from qpabench.suite.cell import Cell
from qpabench.training.budget import KEPT, budget_bytes
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

    They are kept for all splits or for none: where the target only adds to the logits, on the CPU, and
    within the budget. What can't be written, or isn't what the features give, isn't used.

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
    sizes = [len(split.labels) * len(features.weight) * FLOAT_BYTES for split in features.splits.values()]
    budget = budget_bytes()
    if sum(sizes) > budget:
        return features
    key = features_key(cell)
    try:
        own = cache_dir() / KEPT / key
        own.mkdir(parents=True, exist_ok=True)
        make_room(KEPT, budget - sum(sizes), own)
        splits = {
            name: replace(
                split,
                kept=_kept(features, split, f"{KEPT}/{key}/{name}", progress, warn, thorough=not checked),
            )
            for name, split in features.splits.items()
        }
    except (UnavailableError, StorageError, OSError):
        return features
    return replace(features, splits=splits)


def _kept(
    features: Features,
    split: Split,
    name: str,
    progress: Progress | None,
    warn: Callable[[str], None],
    *,
    thorough: bool,
) -> KeptLogits | None:
    told = progress or (lambda what, done, total: None)
    for _ in range(2):
        folder = published(
            name, lambda work: write_logits(features, split, work, told), warn, thorough=thorough
        )
        found = _opened(folder / "logits.f32", features, split)
        if found is not None:
            return found
        aside = folder.with_name(f"{folder.name}.{os.getpid()}.part")  # one rename: others see all or nothing
        with suppress(OSError):
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    raise UnavailableError(f"{name}: the logits differ each time they are computed")


def _opened(path: Path, features: Features, split: Split) -> KeptLogits | None:
    """Open a file if it has the right size and, at some positions, what the features give."""
    if not path.is_file() or path.stat().st_size != len(split.labels) * len(features.weight) * FLOAT_BYTES:
        return None
    kept = KeptLogits(path, len(features.weight))
    some = torch.linspace(0, len(split.labels) - 1, min(CHECKED_TOKENS, len(split.labels))).long()
    expected = _logits(features, split, some)
    same = all(
        torch.allclose(block, expected[part], rtol=1e-4, atol=1e-3) for part, block in kept.pieces(some)
    )
    return kept if same else None


def _logits(features: Features, split: Split, positions: Tensor | slice) -> Tensor:
    z = F.linear(split.features[positions], features.weight, features.bias)
    return z.sub_(torch.logsumexp(z, 1, keepdim=True))


def write_logits(features: Features, split: Split, work: Path, progress: Progress) -> None:
    """Write a split's normalised logits.

    Args:
        features: the frozen output layer.
        split: of the features.
        work: an existing folder; ``logits.f32`` is written there.
        progress: called with (what, done, total).
    """
    n = len(split.labels)
    with (work / "logits.f32").open("wb", buffering=0) as file:
        for begin in range(0, n, TOKENS_PER_PASS):
            progress("logits of the untrained model", begin, n)
            file.write(_logits(features, split, slice(begin, begin + TOKENS_PER_PASS)).numpy().data)
    progress("logits of the untrained model", n, n)
