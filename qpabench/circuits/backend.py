"""What a circuit backend is: the probabilities of a circuit for given angles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from qpabench.circuits.circuit import Circuit
from qpabench.hooks.entries import BackendOptions


class Backend(ABC):
    """A circuit backend; a subclass needs ``probabilities`` only.

    Args:
        options: an instance of the options model of its entry.
    """

    #: Whether it takes angles on any torch device and gives its exact result there, reading no value back.
    #: Else it gets them on the CPU, and its result is put where the angles are.
    on_device: ClassVar[bool] = False

    def __init__(self, options: BackendOptions) -> None:
        self.options = options

    @abstractmethod
    def probabilities(
        self, circuit: Circuit, angles: Float[Tensor, "n_angles"], *, shots: int | None, seed: int
    ) -> Float[Tensor, "n_states"]:
        """Return the probability of every basis state, qubit 0 most significant.

        Args:
            circuit: gates in order, each rotation with its angle index.
            angles: radians; carries a gradient only if the entry declares ``gradient``.
            shots: None for exact probabilities, else how often to sample.
            seed: for sampling and noise; the same seed must give the same result.

        Returns:
            Non-negative, summing to 1.
        """

    def batch(
        self,
        circuit: Circuit,
        angles: Float[Tensor, "batch n_angles"],
        *,
        shots: int | None,
        seeds: Sequence[int],
    ) -> Float[Tensor, "batch n_states"]:
        """Return the probabilities for several angle vectors; override it where one job costs less than many.

        Args:
            circuit: one circuit.
            angles: one row a run.
            shots: as in ``probabilities``, per row.
            seeds: one a row.
        """
        rows = [
            self.probabilities(circuit, row, shots=shots, seed=seed)
            for row, seed in zip(angles, seeds, strict=True)
        ]
        return torch.stack(rows)

    def describe(self, circuit: Circuit) -> dict[str, object]:
        """Return facts about how this circuit is run, for the record (layout, depth, gate counts).

        Args:
            circuit: one that has been run.
        """
        return {}
