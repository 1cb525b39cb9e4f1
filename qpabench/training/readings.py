"""What a training loop reads of its steps: at once on the CPU; else now and then, so that no step waits."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpabench.errors import NumericalError
from qpabench.training.stopwatch import Stopwatch

STEPS_BETWEEN = 64


class Readings:
    """Losses, seconds and gradients of theta, step by step.

    Args:
        n_steps: all steps.
        watch: notes a lap each step.
        at_once: read every loss as it comes; else they stay on the device until ``fetch``.
        between: steps after which they are fetched.

    Attributes:
        losses: (n_steps,), nats, filled up to ``done``.
        seconds: (n_steps,), likewise.
        gradients: one a step.
        done: steps that have been read.
        last_loss: the one last known, nats.
    """

    def __init__(
        self, n_steps: int, watch: Stopwatch, *, at_once: bool, between: int = STEPS_BETWEEN
    ) -> None:
        self.losses, self.seconds = np.empty(n_steps), np.empty(n_steps)
        self.gradients: list[NDArray[np.float64]] = []
        self.done = 0
        self.last_loss = math.nan
        self._watch, self._at_once, self._between = watch, at_once, between
        self._losses: list[Tensor] = []
        self._gradients: list[Tensor] = []

    def loss(self, loss: Tensor) -> None:
        """Take the loss of a step.

        Raises:
            NumericalError: it is read at once and isn't finite; the message names the step and the value.
        """
        if self._at_once:
            self.last_loss = loss.item()
            self._refuse_unless_finite([self.last_loss])
        else:
            self._losses.append(loss.detach())

    def gradient(self, gradient: Tensor) -> None:
        """Take the gradient of theta in a step."""
        flat = gradient.detach().flatten()
        if self._at_once:
            self.gradients.append(flat.cpu().numpy().astype(np.float64))
        else:
            self._gradients.append(flat.double().clone())  # the next step may write to the same memory

    def end(self, started: object) -> None:
        """End a step that began at a mark of the stopwatch."""
        self._watch.lap(started)
        if self._at_once:
            self._file([self.last_loss])

    def fetch_if_due(self) -> None:
        """Fetch after the first step, after so many, and after the last; see ``fetch``."""
        if math.isnan(self.last_loss) or len(self._losses) >= self._between or self._is_last():
            self.fetch()

    def fetch(self) -> None:
        """Read what the device still holds.

        Raises:
            NumericalError: a loss isn't finite; the message names the first such step and the value.
        """
        if not self._losses:
            return
        losses = torch.stack(self._losses).cpu().tolist()
        self._refuse_unless_finite(losses)
        self._watch.settle()
        if self._gradients:
            self.gradients += list(torch.stack(self._gradients).cpu().numpy())
        self._losses.clear()
        self._gradients.clear()
        self.last_loss = losses[-1]
        self._file(losses)

    def _is_last(self) -> bool:
        return self.done + len(self._losses) == len(self.losses)

    def _file(self, losses: list[float]) -> None:
        end = self.done + len(losses)
        self.losses[self.done : end], self.seconds[self.done : end] = losses, self._watch.taken_laps()
        self.done = end

    def _refuse_unless_finite(self, losses: list[float]) -> None:
        for index, value in enumerate(losses):
            if not math.isfinite(value):
                raise NumericalError(
                    f"loss is {value} at step {self.done + index + 1} of {len(self.losses)}; "
                    "expected a finite number; use a smaller learning rate"
                )
