"""A generator's pass and the way back: run as it is, or recorded once as a graph and replayed.

A replayed pass launches no kernel by itself: hundreds of small ones, of circuit and mapping, become one
launch. It reads and writes memory that stays where it is: what was drawn for it, its tensors, the gradients
that come back, and those of the parameters. The optimizer changes parameters in place, so that a replay sees
them.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from qpabench.circuits.gradients import Counts
from qpabench.devices import copied, device_of
from qpabench.errors import one_line
from qpabench.generators.generator import DrawingGenerator, Generator
from qpabench.training.build import Built
from qpabench.training.stopwatch import Stopwatch

#: 0: nothing is recorded
VARIABLE = "QPABENCH_GRAPH"
WARM_UPS = 3


class Passes:
    """A generator's passes, run as they are.

    Args:
        generator: what gives the tensors.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self._tensors: dict[str, Tensor] = {}

    @property
    def graph(self) -> str:
        """``captured``, or ``eager`` and what kept it from being captured."""
        return "eager"

    def forward(self) -> dict[str, Tensor]:
        """Return every tensor by name, each a leaf whose gradient ``backward`` carries on."""
        self._tensors = self.generator()
        return {
            name: tensor.detach().requires_grad_(tensor.requires_grad)
            for name, tensor in self._tensors.items()
        }

    def backward(self, leaves: dict[str, Tensor]) -> None:
        """Give each parameter its gradient.

        Args:
            leaves: what ``forward`` gave, with gradients.
        """
        wanted = with_gradient(leaves)
        if wanted:
            torch.autograd.backward([self._tensors[n] for n in wanted], [leaves[n].grad for n in wanted])


class Recorder(ABC):
    """Records work on a device."""

    @abstractmethod
    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work so often that nothing is left to be set up."""

    @abstractmethod
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work; return what does it again, on the same memory."""


class CudaRecorder(Recorder):
    """CUDA graphs, all in one pool of memory and replayed in the order in which they were recorded.

    Source: torch's documentation of CUDA graphs: warmed up and recorded on a stream of their own.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work some times on the stream of the recording."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                work()
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels that the work launches; none of them runs yet."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                work()
        finally:
            torch.cuda.set_stream(current)  # a recording that fails leaves its own in place
        replay: Callable[[], None] = graph.replay
        return replay


class CapturedPasses(Passes):
    """A generator's passes, recorded after the first step and replayed from the second on.

    The first step runs as it is: it shows which tensors have an effect on the loss and which parameters get a
    gradient, and leaves nothing to be set up.

    Args:
        generator: one that is ``capturable``.
        counts: of its circuit, kept as if each replay had run it.
        watch: muted while passes are recorded and replayed.
        recorder: of the device.
    """

    def __init__(
        self, generator: DrawingGenerator, counts: Counts, watch: Stopwatch, recorder: Recorder
    ) -> None:
        super().__init__(generator)
        self.generator: DrawingGenerator = generator
        self._counts, self._watch, self._recorder = counts, watch, recorder
        self._refusal = ""
        self._per_pass = 0
        self._wanted: list[str] | None = None  # None: not known yet, and nothing is recorded
        self._replays: tuple[Callable[[], None], Callable[[], None]] | None = None
        self._drawn: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self._cotangents: dict[str, Tensor] = {}
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []

    @property
    def graph(self) -> str:
        """Whether a graph was captured; see ``Passes``."""
        return "captured" if self._replays else self._refusal or super().graph

    def forward(self) -> dict[str, Tensor]:
        """Replay the generator's pass on what is drawn for this one; see ``Passes``."""
        if self._wanted is None or self._refusal:
            before = self._counts.circuits
            leaves = super().forward()
            self._per_pass = self._counts.circuits - before
            return leaves
        before = self._counts.circuits
        drawn = self.generator.draw()
        if self._replays is None:
            self._record(drawn)
            if self._replays is None:  # go on with what has been drawn
                self._tensors = self.generator.finished(self.generator.compute(self._drawn))
                return {n: t.detach().requires_grad_(t.requires_grad) for n, t in self._tensors.items()}
        for name, value in drawn.items():
            copied(value, into=self._drawn[name])
        self._replays[0]()
        self._counts.circuits = before + self._per_pass
        return {
            name: output.detach().requires_grad_(self._tensors[name].requires_grad)
            for name, output in self._outputs.items()
        }

    def backward(self, leaves: dict[str, Tensor]) -> None:
        """Replay the way back, and give each parameter its gradient; see ``Passes``."""
        wanted = with_gradient(leaves)
        if self._replays is not None and wanted != self._wanted:  # other tensors have an effect than before
            self._tensors = self.generator.finished(self.generator.compute(self._drawn))
            self._replays = None
        if self._replays is None:
            super().backward(leaves)
            self._wanted = wanted
            trained = [p for p in self.generator.parameters() if p.grad is not None]
            self._gradients = [(p, torch.empty_like(p)) for p in trained]
            return
        if not wanted:
            return
        for name in wanted:
            gradient = leaves[name].grad
            assert gradient is not None
            self._cotangents[name].copy_(gradient)
        self._replays[1]()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient

    def _record(self, drawn: dict[str, Tensor]) -> None:
        """Record both ways on memory of their own; where that fails, passes go on as they are."""
        device = device_of(self.generator)
        assert self._wanted is not None
        self._drawn = {name: torch.empty_like(value, device=device) for name, value in drawn.items()}
        for name, value in drawn.items():
            copied(value, into=self._drawn[name])
        self._outputs = {name: torch.empty_like(t.detach()) for name, t in self._tensors.items()}
        self._cotangents = {name: torch.zeros_like(self._outputs[name]) for name in self._wanted}
        before, self._watch.muted = self._counts.circuits, True
        try:
            # nothing of an earlier pass may live on: its gradients belong to another stream
            self._tensors = {}
            self._recorder.warm_up(self._both_ways)
            self._tensors = {}
            there = self._recorder.record(self._there)
            self._replays = there, self._recorder.record(self._back) if self._gradients else _nothing
        except RuntimeError as error:  # a driver or an operation that doesn't take part: slower, not wrong
            self._refusal = f"eager: not captured ({one_line(error, 160)})"
            self._watch.muted = False
        self._counts.circuits = before

    def _both_ways(self) -> None:
        self._there()
        self._back()

    def _there(self) -> None:
        self._tensors = self.generator.finished(self.generator.compute(self._drawn))
        for name, output in self._outputs.items():
            output.copy_(self._tensors[name].detach())

    def _back(self) -> None:
        if not self._gradients:  # also of a warm-up
            return
        found = torch.autograd.grad(
            [self._tensors[name] for name in self._cotangents],
            [parameter for parameter, _ in self._gradients],
            list(self._cotangents.values()),
        )
        for (_, gradient), new in zip(self._gradients, found, strict=True):
            gradient.copy_(new)


def _nothing() -> None:
    return


def with_gradient(leaves: dict[str, Tensor]) -> list[str]:
    """Return the names of the tensors that got a gradient: those that have an effect on the loss."""
    return [name for name, leaf in leaves.items() if leaf.requires_grad and leaf.grad is not None]


def is_capturable(built: Built) -> bool:
    """Say whether all of a generator's pass runs on its device: the circuit exactly, by its own gradient."""
    if not isinstance(built.generator, DrawingGenerator):
        return False
    if not type(built.generator).__dict__.get("capturable", False):
        return False
    circuit = built.circuit
    return circuit is None or (
        circuit.backend.on_device and circuit.method == "own" and circuit.shots is None
    )


def passes_of(built: Built) -> Passes:
    """Return how a generator is run where it is."""
    device, generator = device_of(built.generator), built.generator
    if device.type != "cuda" or os.environ.get(VARIABLE, "1") == "0" or not is_capturable(built):
        return Passes(generator)
    assert isinstance(generator, DrawingGenerator)
    counts = built.circuit.counts if built.circuit is not None else Counts()
    return CapturedPasses(generator, counts, built.stopwatch, CudaRecorder(device))
