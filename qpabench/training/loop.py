"""Trains one cell on stored features and measures it."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpabench.circuits.gradients import Counts
from qpabench.devices import moved
from qpabench.errors import NumericalError
from qpabench.hooks.entries import DatasetOptions, GeneratorOptions, LayerShape
from qpabench.randomness import derive_seed
from qpabench.suite.cell import Cell
from qpabench.suite.options import TrainOptions
from qpabench.training.agreement import agreement
from qpabench.training.build import Built, build
from qpabench.training.checkpoint import Checkpoints, Position
from qpabench.training.evaluate import measure
from qpabench.training.features import Features, Split
from qpabench.training.passes import Passes
from qpabench.training.search import search_theta
from qpabench.training.step import Stepper, loss_of
from qpabench.training.stopwatch import Stopwatch

LONGEST_FACT = 64  # longer lists go into the series file

#: Told (step, steps, loss in nats) while a cell trains.
StepProgress = Callable[[int, int, float], None]


@dataclass
class Result:
    """What training and measuring a cell gave."""

    metrics: dict[str, float]
    phases: dict[str, float]
    series: dict[str, NDArray[Any]]
    state: dict[str, Tensor]
    facts: dict[str, object]


def batches(split: Split, options: TrainOptions, seed: int) -> Iterator[Tensor]:
    """Yield the scored positions of each step, epoch by epoch, rows shuffled anew in each.

    The order depends on the seed alone: cells with one seed see the same rows in the same order. With the
    masked loss, padding and rows without text are left out.
    """
    bounds = np.searchsorted(split.row.numpy(), np.arange(split.n_rows + 1))
    spans = [torch.arange(int(begin), int(end)) for begin, end in pairwise(bounds)]
    if options.loss == "masked":
        spans = [span[split.mask[span]] for span in spans]
        spans = [span for span in spans if len(span)]
    for epoch in range(options.epochs):
        random = torch.Generator().manual_seed(derive_seed(seed, "data-order", epoch))
        order = torch.randperm(len(spans), generator=random).tolist()
        for begin in range(0, len(order), options.batch_size):
            yield torch.cat([spans[index] for index in order[begin : begin + options.batch_size]])


def count_steps(split: Split, options: TrainOptions) -> int:
    """Return how many steps ``batches`` gives, bounded by ``max_steps``."""
    rows = split.n_rows
    if options.loss == "masked":
        rows = len(np.unique(split.row.numpy()[split.mask.numpy()]))
    steps = options.epochs * -(-rows // options.batch_size)
    return steps if options.max_steps is None else min(steps, options.max_steps)


def run_cell(
    cell: Cell,
    features: Features,
    progress: StepProgress | None = None,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Train and measure one cell.

    Args:
        cell: the experiment.
        features: what enters its frozen output layer.
        progress: told after each step.
        checkpoints: where it goes on, and where it keeps how far it is; None: neither.

    Raises:
        NumericalError: a loss or gradient stopped being finite; the message names the step and the value.
        UnsupportedError: the loaded layer can't take the target.
    """
    options = cell.dataset.options
    assert isinstance(options, DatasetOptions)
    d_out, d_in = features.weight.shape
    layer = LayerShape(d_in, d_out, n_positions=options.max_length)
    built = build(cell, layer, features.layers(), features.weight.device)
    built.target.prepare(features.weight)
    agreed: dict[str, float] = {}
    theta = built.generator.theta()
    if built.circuit is not None and theta is not None:
        agreed = agreement(built.circuit, theta, cell.seed)
    trained = train(built, features, cell.train, cell.seed, progress, checkpoints)
    facts = dict(trained.facts)
    evaluation_started = time.perf_counter()
    built.generator.eval()
    assert isinstance(cell.generator.options, GeneratorOptions)
    still = cell.generator.options.held_still() == cell.generator.options
    sampled = built.circuit is not None and built.circuit.shots is not None
    with torch.no_grad():
        metrics, series = measure(
            features, built.target, built.generator, cell.evaluate, redraws=sampled or not still
        )
    evaluation_seconds = time.perf_counter() - evaluation_started
    counted = count_parameters(built, built.ledger.n_free)
    metrics = metrics | counted | agreed | trained.metrics | {"eval_seconds": evaluation_seconds}
    if cell.ledger is not None and cell.n_trainable != counted["n_trainable"]:
        raise NumericalError(
            f"the plan counts {cell.n_trainable} trainable numbers, "
            f"the optimizer updates {counted['n_trainable']}"
        )
    if built.circuit is not None:
        metrics["n_qubits"] = built.circuit.circuit.n_qubits
        metrics["circuits_executed"] = built.circuit.counts.circuits
        metrics["shots_executed"] = built.circuit.counts.shots
        facts["gradient"] = built.circuit.method if cell.train.theta_optimizer == "adamw" else "none"
        for name, fact in built.circuit.backend.describe(built.circuit.circuit).items():
            if isinstance(fact, list) and len(fact) > LONGEST_FACT:
                series[f"circuit_{name}"] = np.asarray(fact)
            else:
                facts[name] = fact
    metrics["peak_memory_bytes"] = peak_memory_bytes(features.weight.device)
    phases = trained.phases | {"evaluation": evaluation_seconds}
    state = {name: value.detach().cpu().contiguous() for name, value in built.generator.state_dict().items()}
    return Result(metrics, phases, trained.series | series, state, facts)


@dataclass
class Trained:
    """What training alone gave."""

    metrics: dict[str, float]
    phases: dict[str, float]
    series: dict[str, NDArray[Any]]
    facts: dict[str, object]


def train(
    built: Built,
    features: Features,
    options: TrainOptions,
    seed: int,
    progress: StepProgress | None,
    checkpoints: Checkpoints | None = None,
    make_stepper: Callable[..., Stepper] | None = None,
) -> Trained:
    """Train a generator by AdamW; the target and the model have no parameters of their own.

    Args:
        built: target, generator, circuit.
        features: inputs and labels of the frozen output layer.
        options: epochs, learning rate, loss.
        seed: of the cell.
        progress: told after each step.
        checkpoints: as in ``run_cell``.
        make_stepper: makes what does the steps; None: ``Stepper``.
    """
    generator, split = built.generator, features.splits["train"]
    theta = generator.theta()
    trained = theta is not None and theta.requires_grad
    searched = theta if trained and options.theta_optimizer != "adamw" else None
    if searched is not None:
        searched.requires_grad_(False)
    n_steps = count_steps(split, options)
    stepper = (make_stepper or Stepper)(built, features, split, options, seed, n_steps)
    readings, watch = stepper.readings, built.stopwatch
    watch.reset()  # of training alone
    generator.train()
    counts = built.circuit.counts if built.circuit is not None else Counts()
    at = Position(
        generator,
        stepper.optimizer,
        stepper.schedule,
        stepper.dropout,
        counts,
        watch,
        readings.losses,
        readings.seconds,
        readings.gradients,
        fetch=readings.fetch,
    )
    if checkpoints is not None:
        checkpoints.resume(at)
        readings.done = at.step
    steps = zip(range(n_steps), batches(split, options, seed), strict=False)
    train_started = time.perf_counter() - at.train_seconds
    for step, positions in islice(steps, at.step, None):
        stepper.step(positions)
        readings.fetch_if_due()
        if progress is not None:
            progress(step + 1, n_steps, readings.last_loss)
        if searched is not None and (step + 1) % max(1, n_steps // options.epochs) == 0:
            _search(stepper, searched, options)
        if checkpoints is not None:
            train_started += checkpoints.after_step(at, step + 1, time.perf_counter() - train_started)
    if searched is not None:
        searched.requires_grad_(True)
    metrics = {"n_steps": float(n_steps), "train_seconds": time.perf_counter() - train_started}
    series: dict[str, NDArray[Any]] = {"train_loss": readings.losses, "step_seconds": readings.seconds}
    if n_steps:
        metrics["step_seconds_median"] = statistics.median(readings.seconds)
    if readings.gradients:
        stacked = np.stack(readings.gradients)
        if not np.isfinite(stacked).all():
            raise NumericalError("a gradient of theta isn't finite; expected finite numbers")
        metrics["gradient_variance_theta"] = float(stacked.var())
        series["theta_gradient_variance"] = stacked.var(axis=1)
    facts: dict[str, object] = {}
    if features.weight.device.type != "cpu":
        facts["graph"] = stepper.passes.graph
    return Trained(metrics, _phases(watch, stepper.passes), series, facts)


def _phases(watch: Stopwatch, passes: Passes) -> dict[str, float]:
    """Return the seconds of each phase; in a replayed graph circuit and mapping aren't told apart."""
    found = watch.seconds
    phases = {phase: found.get(phase, 0.0) for phase in ("generator", "head", "optimizer")}
    if "search" in found:
        phases["search"] = found["search"]
    if passes.graph == "captured":
        return phases
    circuit = found.get("circuit", 0.0)
    mapping = max(0.0, phases.pop("generator") - circuit)
    return {"circuit": circuit, "mapping": mapping, **phases}


def _search(stepper: Stepper, theta: torch.nn.Parameter, options: TrainOptions) -> None:
    """Search the angles on the mean loss of the first training rows that have something to score."""
    built, features, split = stepper.built, stepper.features, stepper.split
    watch, muted = built.stopwatch, built.stopwatch.muted
    started, watch.muted = watch.now(), True  # a phase of its own, its circuits too
    positions = torch.nonzero(split.row < options.theta_rows).squeeze(1)
    if options.loss == "masked":
        rows = torch.unique(split.row[split.mask])[: options.theta_rows]
        positions = torch.nonzero(split.mask & torch.isin(split.row, rows)).squeeze(1)
    positions = moved(positions, split.features.device)

    def loss() -> float:
        with torch.no_grad():
            return float(loss_of(built, features, split, positions, built.generator(), None))

    try:
        search_theta(theta, loss, options.theta_optimizer, options.theta_evaluations)
    finally:
        watch.muted = muted
    watch.add("search", started)


def count_parameters(built: Built, n_free: int) -> dict[str, float]:
    """Count what is trained and what is generated, from the modules themselves.

    Args:
        built: target and generator.
        n_free: numbers of the target that are trained as they are (the rest belongs to a mapping model).
    """
    theta = built.generator.theta()
    n_theta = theta.numel() if theta is not None else 0
    n_trainable = sum(p.numel() for p in built.generator.parameters() if p.requires_grad)
    trained_theta = n_theta if theta is not None and theta.requires_grad else 0
    return {
        "n_trainable": n_trainable,
        "n_theta": n_theta,
        "n_mapping": n_trainable - trained_theta - n_free,
        "n_generated": built.generator.context.n_generated,
    }


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory this process has held: on the GPU where it is used, else resident."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
