"""Training steps as on a GPU, on machines without one: on the meta device, counted, or recorded for show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from written_suites import cells_of

from qpabench.circuits.gradients import CircuitFunction, Counts
from qpabench.generators.generator import DrawingGenerator
from qpabench.hooks.entries import LayerShape
from qpabench.suite.cell import Cell
from qpabench.targets.target import Factors
from qpabench.training import step
from qpabench.training.blocks import blocks_loss
from qpabench.training.build import Built, build
from qpabench.training.features import Features
from qpabench.training.live import features_of
from qpabench.training.loop import batches
from qpabench.training.passes import CapturedPasses, Passes, Recorder
from qpabench.training.step import Stepper

STEPS = 4
META = torch.device("meta")
LORA = 'target = { name = "lora", rank = 2 }\n'
GENERATED = 'generator = { name = "%s", chunk_size = 64, n_layers = 2 }\n'
MAPPED = 'generator = { name = "%s", chunk_size = 64 }\n'
DIRECT = 'generator = { name = "direct", init = "target" }\n'
#: generators whose pass can be recorded -> the lines of their matrix
CAPTURABLE = {
    "released-code": LORA + GENERATED % "qpa",
    "paper-text": LORA
    + 'protocol = "paper-text"\n'
    + 'generator = { name = "qpa", chunk_size = 64, n_layers = 2, start = "zero" }\n',
    "complex": LORA + GENERATED % "qpa" + 'ansatz = "rxrz"\n',
    "uniform": LORA + MAPPED % "uniform",
    "frozen": LORA + GENERATED % "frozen",
    "shuffled": LORA + GENERATED % "shuffled",
    "free": LORA + MAPPED % "free",
    "angles-mlp": LORA + GENERATED % "angles-mlp",
    "collapsed": LORA + GENERATED % "collapsed",
    "random-projection": LORA + 'generator = { name = "random-projection", budget = 50 }\n',
    "two-rates": LORA + GENERATED % "qpa" + "train.learning_rate_theta = 1e-2\ntrain.weight_decay = 0.1\n",
    "literal": 'target = { name = "prefix", length = 32, reading = "literal" }\n' + GENERATED % "qpa",
}
TARGETS = {
    "dropout": 'target = { name = "lora", rank = 2, dropout = 0.3 }\n' + DIRECT,
    "dora": 'target = { name = "dora", rank = 2, dropout = 0.3 }\n' + DIRECT,
    "prefix": 'target = { name = "prefix", length = 8 }\n' + DIRECT,
    "ffa": 'target = { name = "ffa", activation = "gelu" }\n' + DIRECT,
    "vera": 'target = { name = "vera", rank = 8 }\n' + DIRECT,
    "uni-lora": 'target = { name = "uni-lora", rank = 2, budget = 100 }\n' + DIRECT,
    "fourierft": 'target = { name = "fourierft", budget = 100 }\n' + DIRECT,
    "tinylora": 'target = { name = "tinylora", rank = 4, budget = 16 }\n' + DIRECT,
    "spsa": LORA + GENERATED % "qpa" + 'backend = { name = "native", gradient = "spsa" }\n',
    "shift": LORA + GENERATED % "qpa" + 'backend = { name = "native", gradient = "parameter-shift" }\n',
    "straight-through": LORA
    + GENERATED % "qpa"
    + 'backend = { name = "native", gradient = "straight-through" }\n',
}
EVERY = CAPTURABLE | TARGETS
SETTINGS = ("train.epochs=2", "train.learning_rate=3e-3")


def cell_of(folder: Path, body: str, *settings: str) -> Cell:
    """Return the one cell of a matrix."""
    (cell,) = cells_of(folder, "\n[[matrix]]\n" + body, (*SETTINGS, *settings))
    return cell


def plain_features(cell: Cell) -> Features:
    """Return a cell's features without kept logits, which no GPU uses."""
    features = features_of(cell)
    splits = {name: replace(split, kept=None) for name, split in features.splits.items()}
    return replace(features, splits=splits)


def built_on(cell: Cell, features: Features) -> Built:
    """Build a cell where its features are."""
    d_out, d_in = features.weight.shape
    built = build(cell, LayerShape(d_in, d_out, 32), features.layers(), features.weight.device)
    built.target.prepare(features.weight)
    built.generator.train()
    return built


def stepper_of(cell: Cell, features: Features, passes: Callable[[Built], Passes] | None = None) -> Stepper:
    """Return a stepper that reads no losses by itself, whatever the device."""
    built = built_on(cell, features)
    made = None if passes is None else passes(built)
    split = features.splits["train"]
    return Stepper(built, features, split, cell.train, cell.seed, 10_000, at_once=False, passes=made)


def positions_of(cell: Cell, features: Features, steps: int = STEPS) -> list[torch.Tensor]:
    """Return the positions of the first steps."""
    found = batches(features.splits["train"], cell.train, cell.seed)
    return [positions for _, positions in zip(range(steps), found, strict=False)]


def as_on_a_gpu(patch: pytest.MonkeyPatch) -> None:
    """Compute on the CPU as on a GPU: no compiled loops, no look at probabilities, the head in blocks."""

    def loss(
        factors: Factors, weight: Tensor, labels: Tensor, weights: Tensor, bias: Tensor | None, softcap: None
    ) -> Tensor:
        return blocks_loss(factors, weight, labels, weights, bias)

    patch.setenv("QPABENCH_COMPILED", "0")
    patch.setattr(step, "fast_loss", loss)
    patch.setattr(CircuitFunction, "_checked", lambda self, result, rows: result)


class StandIn(Recorder):
    """Records by doing the work once, and replays by doing it again, on the same memory."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    def warm_up(self, work: Callable[[], None]) -> None:
        self.done["warm-up"] += 1
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.done["recorded"] += 1
        work()

        def replay() -> None:
            self.done["replayed"] += 1
            work()

        return replay


class Tape(Recorder):
    """Records what a CUDA graph would: operations on memory that stays where it is, not the code behind them.

    A replay does the same operations on the same tensors again, and writes each result where the recorded one
    lies; no line of Python between them is run, so that what isn't an operation on tensors stays as it was.
    Reading a value, or drawing a random number, is refused, as a graph would refuse it.
    """

    def warm_up(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        taped = _Taped()
        with taped:
            work()
        for _, _, _, fresh in taped.operations:
            for tensor in fresh:
                tensor.data.zero_()  # a recording leaves no result
        return taped.replay


class _Taped(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in Reads.WAITING or "rand" in name:
            raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        aliases = any(one.alias_info is not None for one in func._schema.returns)
        fresh = [] if aliases else [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        self.operations.append((func, args, kwargs, fresh))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, fresh in self.operations:
            for into, new in zip(fresh, tree_leaves(func(*args, **kwargs)), strict=False):
                into.copy_(new)


def captured(recorder: Recorder) -> Callable[[Built], Passes]:
    """Return what makes recorded passes of a built cell."""

    def made(built: Built) -> Passes:
        assert isinstance(built.generator, DrawingGenerator)
        counts = built.circuit.counts if built.circuit is not None else Counts()
        return CapturedPasses(built.generator, counts, built.stopwatch, recorder)

    return made


class Reads(TorchDispatchMode):
    """Counts what would make a host wait for a GPU: values read, and results whose size depends on values."""

    WAITING = (
        "_local_scalar_dense",
        "is_nonzero",
        "equal",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "repeat_interleave",
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITING:
            self.found[name] += 1
        if name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            self.found[f"{name} by a mask"] += 1
        return func(*args, **(kwargs or {}))
