"""How much of the cache frozen features and kept logits may take; torch-free, so that a plan knows too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping

import psutil

from qpabench.cache import bytes_of, cache_dir, folders
from qpabench.errors import InputError

KEPT, FEATURES = "kept", "features"  # parts of the cache
TRAIN_TEXT = "train-text"  # of the training split, the positions that hold text
VARIABLE = "QPABENCH_KEPT_LOGITS_BYTES"
FEATURES_VARIABLE = "QPABENCH_FEATURES_BYTES"
DEFAULT_BYTES = 6 * 2**30
MEMORY_SHARE = 3  # a file that memory can't hold beside all else is slower to read than to compute
DISK_SHARE = 5
FEATURES_DISK_SHARE = 2


def budget_bytes() -> int:
    """Return how much all kept logits may take, 0 where none shall be kept.

    Raises:
        InputError: ``QPABENCH_KEPT_LOGITS_BYTES`` isn't a whole number of at least 0.
    """
    asked = _asked(VARIABLE, "0 keeps none")
    if asked is not None:
        return asked
    memory: int = psutil.virtual_memory().total
    return min(DEFAULT_BYTES, memory // MEMORY_SHARE, _disk(KEPT) // DISK_SHARE)


def kept_parts(positions: Mapping[str, int], text: int, bytes_each: int, allowed: int) -> dict[str, int]:
    """Return of what logits are kept, and the bytes each takes.

    All splits where they fit. Else the training positions that hold text, which masked losses read in every
    epoch, and of the splits that are measured those that still fit, the largest first. It depends on the
    features alone: cells that share them don't push out each other's logits.

    Args:
        positions: of each split.
        text: positions of the training split that hold text.
        bytes_each: of a position's logits.
        allowed: bytes for all of them.
    """
    if sum(positions.values()) * bytes_each <= allowed:
        return {name: count * bytes_each for name, count in positions.items()}
    measured = sorted((name for name in positions if name != "train"), key=lambda name: -positions[name])
    found: dict[str, int] = {}
    for name in (TRAIN_TEXT, *measured):
        size = (text if name == TRAIN_TEXT else positions[name]) * bytes_each
        if sum(found.values()) + size <= allowed:
            found[name] = size
    return found


def part_read(split: str, loss: str, parts: Collection[str]) -> str | None:
    """Return the kept part that a cell reads of a split, or None.

    Args:
        split: its name.
        loss: that the cell is trained by.
        parts: that are kept.
    """
    if split in parts:
        return split
    return TRAIN_TEXT if split == "train" and loss == "masked" and TRAIN_TEXT in parts else None


def features_bytes() -> int:
    """Return how much features may take that no running cell needs.

    Raises:
        InputError: ``QPABENCH_FEATURES_BYTES`` isn't a whole number of at least 0.
    """
    asked = _asked(FEATURES_VARIABLE, "0 keeps those of one set at a time")
    return _disk(FEATURES) // FEATURES_DISK_SHARE if asked is None else asked


def _asked(variable: str, zero: str) -> int | None:
    asked = os.environ.get(variable, "").strip()
    if not asked:
        return None
    if not asked.isdecimal():
        raise InputError(f"{variable}: found {asked!r}, expected a number of bytes; {zero}")
    return int(asked)


def _disk(root: str) -> int:
    """Return what is free on the disk of the cache, or taken by a part of it."""
    folder = cache_dir()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free + sum(bytes_of(path) for path in folders(root))
