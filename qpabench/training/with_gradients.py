"""What the losses of the output layer share: their gradients are computed with them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class LossWithGradients(torch.autograd.Function):
    """A scalar loss whose ``forward`` saves the gradients of its first inputs, None for one not wanted."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        """Return the saved gradients times the cotangent, and None for the other inputs."""
        gradients = [None if g is None else g * cotangent for g in ctx.saved_tensors]
        return (*gradients, *[None] * (len(ctx.needs_input_grad) - len(gradients)))
