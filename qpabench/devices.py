"""Copies from host to device that nobody waits for."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's parameters and buffers are; the CPU where it has none."""
    for tensors in (module.parameters(), module.buffers()):
        for tensor in tensors:
            return tensor.device
    return torch.device("cpu")


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, itself where it is there; to a GPU from pinned memory, without waiting.

    Args:
        tensor: without a gradient.
        device: where it is wanted.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def copied(tensor: Tensor, into: Tensor) -> None:
    """Copy numbers into memory that stays where it is, from the host to a GPU without waiting."""
    pinned = tensor.device.type == "cpu" and into.device.type == "cuda"
    into.copy_(tensor.pin_memory() if pinned else tensor, non_blocking=pinned)


def gathered(values: Tensor, positions: Tensor | slice, device: torch.device) -> Tensor:
    """Return the values at some positions on a device, picked where the values are.

    Args:
        values: (n, ...), on the host or on that device.
        positions: places in ``values``.
        device: where they are wanted.
    """
    if isinstance(positions, slice):
        return moved(values[positions], device)
    return moved(values.index_select(0, moved(positions, values.device)), device)
