"""How much of the cache frozen features and kept logits may take; torch-free, so that a plan knows too."""

from __future__ import annotations

import os
import shutil

import psutil

from qpabench.cache import bytes_of, cache_dir, folders
from qpabench.errors import InputError

KEPT, FEATURES = "kept", "features"  # parts of the cache
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
