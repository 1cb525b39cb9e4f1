"""Angles trained without gradients, as section 3.3 of the paper suggests where none can be had."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

METHODS = {"cobyla": "COBYLA", "nelder-mead": "Nelder-Mead"}
FIRST_STEP = 0.1  # radians; of COBYLA's trust region


def search_theta(theta: nn.Parameter, loss: Callable[[], float], method: str, evaluations: int) -> int:
    """Move the angles downhill on a loss by at most so many evaluations; keep the best angles seen.

    Args:
        theta: the angles, changed in place.
        loss: evaluated at the current angles, nats.
        method: ``cobyla`` or ``nelder-mead``.
        evaluations: most calls of ``loss``.

    Returns:
        How many evaluations were made.
    """
    from scipy.optimize import minimize

    start = theta.detach().flatten().cpu().numpy().astype(np.float64)
    best = (np.inf, start)
    made = 0

    def objective(angles: NDArray[np.float64]) -> float:
        nonlocal best, made
        if made >= evaluations:
            raise StopIteration
        made += 1
        _set(theta, angles)
        value = loss()
        if value < best[0]:
            best = (value, angles.copy())
        return value

    options: dict[str, float] = {"rhobeg": FIRST_STEP} if method == "cobyla" else {"adaptive": True}
    options["maxiter" if method == "cobyla" else "maxfev"] = evaluations
    with suppress(StopIteration):
        minimize(objective, start, method=METHODS[method], options=options)
    _set(theta, best[1])
    return made


def _set(theta: nn.Parameter, angles: NDArray[np.float64]) -> None:
    with torch.no_grad():
        theta.copy_(torch.from_numpy(angles).reshape(theta.shape).to(theta))
