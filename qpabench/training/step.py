"""One step of training. It reads no number: away from the CPU it only queues work, and waits for nothing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from qpabench.devices import gathered, moved
from qpabench.randomness import derive_seed
from qpabench.suite.options import TrainOptions
from qpabench.training.build import Built
from qpabench.training.features import Features, Split
from qpabench.training.head import fast_loss
from qpabench.training.passes import Passes, passes_of
from qpabench.training.readings import Readings


def learning_rate_factor(step: int, n_steps: int, options: TrainOptions) -> float:
    """Return the factor on the learning rate at a step: warm-up, then the scheduler's decay.

    Args:
        step: from 0.
        n_steps: all steps.
        options: scheduler and warm-up.
    """
    if step < options.warmup_steps:
        return step / options.warmup_steps
    if options.scheduler == "constant":
        return 1.0
    done = (step - options.warmup_steps) / max(1, n_steps - options.warmup_steps)
    return 1 - done if options.scheduler == "linear" else 0.5 * (1 + math.cos(math.pi * done))


class Stepper:
    """Trains a generator step by step by AdamW; the target and the model have no parameters of their own.

    Args:
        built: target, generator, circuit.
        features: inputs and labels of the frozen output layer.
        split: what is trained on.
        options: learning rates, weight decay, schedule.
        seed: of the cell.
        n_steps: all steps.
        at_once: read each loss as it comes; None: on the CPU.
        passes: how the generator is run; None: as its device allows.

    Source: section 3.1, equation 4; optimizer of Tables 4 to 7.
    """

    def __init__(
        self,
        built: Built,
        features: Features,
        split: Split,
        options: TrainOptions,
        seed: int,
        n_steps: int,
        *,
        at_once: bool | None = None,
        passes: Passes | None = None,
    ) -> None:
        device = features.weight.device
        self.at_once = device.type == "cpu" if at_once is None else at_once
        self.built, self.features = built, features
        self.split = split if device.type == "cpu" else features.resident(split)
        self.theta = built.generator.theta()
        self.optimizer = torch.optim.AdamW(
            _groups(built, options),
            weight_decay=options.weight_decay,
            # one kernel a parameter, and the count of steps stays on the device
            fused=True if device.type in ("cpu", "cuda") else None,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, max(1, n_steps), options)
        )
        self.dropout = torch.Generator().manual_seed(derive_seed(seed, "dropout"))
        self.readings = Readings(n_steps, built.stopwatch, at_once=self.at_once)
        self.passes = passes_of(built) if passes is None else passes

    def step(self, positions: Tensor) -> None:
        """Train on some positions of the split.

        Args:
            positions: places in the split's flat arrays, on the CPU.

        Raises:
            NumericalError: a loss that has been read isn't finite.
        """
        watch = self.built.stopwatch
        started = watch.now()
        leaves = self.passes.forward()
        watch.add("generator", started)
        head_started = watch.now()
        positions = moved(positions, self.split.features.device)
        loss = loss_of(self.built, self.features, self.split, positions, leaves, self.dropout)
        if loss.requires_grad:  # not where the target has no effect
            loss.backward()
        watch.add("head", head_started)
        self.readings.loss(loss)
        back_started = watch.now()
        self.optimizer.zero_grad(set_to_none=True)
        self.passes.backward(leaves)
        watch.add("generator", back_started)
        if self.theta is not None and self.theta.grad is not None:
            self.readings.gradient(self.theta.grad)
        update_started = watch.now()
        self.optimizer.step()
        self.schedule.step()
        watch.add("optimizer", update_started)
        self.readings.end(started)


def _groups(built: Built, options: TrainOptions) -> list[dict[str, Any]]:
    angles = built.generator.as_angles()
    others = [p for p in built.generator.parameters() if p is not angles and p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": others, "lr": options.learning_rate}] if others else []
    if angles is not None and angles.requires_grad:
        groups.append({"params": [angles], "lr": options.learning_rate_theta or options.learning_rate})
    return groups


def loss_of(
    built: Built,
    features: Features,
    split: Split,
    positions: Tensor,
    tensors: dict[str, Tensor],
    dropout: torch.Generator | None,
) -> Tensor:
    """Return the mean loss in nats at some positions.

    Args:
        built: target.
        features: the frozen output layer.
        split: where the positions stand.
        positions: places in its flat arrays.
        tensors: of the target.
        dropout: draws the masks; None: no dropout.
    """
    device = features.weight.device
    factors = features.factors(built.target, split, positions, tensors, dropout)
    weights = torch.full((len(positions),), 1 / len(positions), device=device)
    labels = gathered(split.labels, positions, device)
    return fast_loss(factors, features.weight, labels, weights, features.bias, features.softcap)
