"""How far a backend is from the exact state vector on the very circuit of a cell."""

from __future__ import annotations

import torch
from torch import Tensor

from qpabench.circuits.gradients import CircuitFunction
from qpabench.circuits.native import exact_probabilities
from qpabench.randomness import derive_seed


def agreement(function: CircuitFunction, theta: Tensor, seed: int) -> dict[str, float]:
    """Compare probabilities and gradient with the exact ones at given angles.

    Args:
        function: backend, circuit and estimator of a cell; a copy runs, so that the cell's counts and
            seeds stay as they are.
        theta: angles, radians.
        seed: of the cell; draws the direction along which gradients are compared.

    Returns:
        ``probability_error_max`` (largest difference), ``total_variation_distance``,
        ``gradient_error_relative`` (norm of the difference over the norm of the exact gradient of one
        random linear function of the probabilities).
    """
    copy = CircuitFunction(
        function.backend, function.circuit, function.options, function.method, derive_seed(seed, "agreement")
    )
    angles = theta.detach().double().flatten()
    random = torch.Generator().manual_seed(derive_seed(seed, "agreement-direction"))
    direction = torch.randn(function.circuit.n_states, generator=random, dtype=torch.float64).to(
        angles.device
    )
    leaf = angles.clone().requires_grad_()
    exact = exact_probabilities(function.circuit, leaf.unsqueeze(0)).squeeze(0)
    (exact_gradient,) = torch.autograd.grad(exact, leaf, direction)
    tried = angles.clone().requires_grad_()
    found = copy(tried)
    (gradient,) = torch.autograd.grad(found, tried, direction)
    difference = found.detach() - exact.detach()
    result = {
        "probability_error_max": float(difference.abs().max()),
        "total_variation_distance": float(difference.abs().sum() / 2),
    }
    norm = float(exact_gradient.norm())
    if norm > 0:
        result["gradient_error_relative"] = float((gradient - exact_gradient).norm()) / norm
    return result
