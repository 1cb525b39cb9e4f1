"""How much of the untrained model's logits may be kept; torch-free, so that a plan knows too."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import psutil

from qpabench.cache import cache_dir
from qpabench.errors import InputError

VARIABLE = "QPABENCH_KEPT_LOGITS_BYTES"
DEFAULT_BYTES = 6 * 2**30
MEMORY_SHARE = 3  # a file that memory can't hold beside all else is slower to read than to compute
DISK_SHARE = 5


def budget_bytes() -> int:
    """Return how much all kept logits may take, 0 where none shall be kept.

    Raises:
        InputError: ``QPABENCH_KEPT_LOGITS_BYTES`` isn't a whole number of at least 0.
    """
    asked = os.environ.get(VARIABLE, "").strip()
    if asked:
        if not asked.isdecimal():
            raise InputError(f"{VARIABLE}: found {asked!r}, expected a number of bytes; 0 keeps none")
        return int(asked)
    folder = cache_dir()
    while not folder.exists():
        folder = folder.parent
    disk = shutil.disk_usage(folder).free + sum(bytes_in(path) for path in folders())
    memory: int = psutil.virtual_memory().total
    return min(DEFAULT_BYTES, memory // MEMORY_SHARE, disk // DISK_SHARE)


def folders() -> list[Path]:
    """Return the folders of kept logits, one for each set of features."""
    root = cache_dir() / "kept"
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def bytes_in(folder: Path) -> int:
    """Return the bytes of the logits in a folder."""
    total = 0
    for path in folder.rglob("*.f32"):
        with suppress(OSError):  # removed by another process
            total += path.stat().st_size
    return total
