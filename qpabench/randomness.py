"""One seed per cell, split by purpose, so that cells differing in one thing share everything else."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive an independent seed for one purpose.

    Args:
        seed: the cell's seed.
        purpose: what the numbers are for, for instance ``"data-order", epoch``.

    Returns:
        A seed in [0, 2**63), the same on every machine.
    """
    text = "/".join([str(seed), *(str(part) for part in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
