"""What every generator shares: what it is given, and the start at the base model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from qpabench.devices import device_of, moved
from qpabench.errors import NumericalError
from qpabench.hooks.entries import GeneratorOptions, TensorSpec
from qpabench.randomness import derive_seed


@dataclass(frozen=True)
class GeneratorContext:
    """What a generator is given besides its options.

    Args:
        specs: the tensors to fill, in the order in which a flat vector is cut.
        seed: the cell's seed; purposes are split off with ``derive_seed``.
        n_qubits: N, 0 for generators without a circuit.
        angles_shape: shape of theta, empty without a circuit.
        circuit: angles (n_angles,) -> probabilities (2**N,) in float64, differentiable; None without one.
    """

    specs: tuple[TensorSpec, ...]
    seed: int
    n_qubits: int = 0
    angles_shape: tuple[int, ...] = ()
    circuit: Callable[[Tensor], Tensor] | None = None

    @property
    def n_generated(self) -> int:
        """m, how many numbers the target needs."""
        return sum(spec.numel for spec in self.specs)


class Generator(nn.Module, ABC):
    """Fills a target's tensors; a subclass implements ``generate``.

    What it keeps from pass to pass is in parameters, buffers and ``stream``: a cell that is stopped goes on
    from these, and parameters and buffers are moved to the device that a cell runs on once they are made.

    Args:
        options: an instance of the options model of its entry.
        context: what is to be filled, and with what.
    """

    def __init__(self, options: GeneratorOptions, context: GeneratorContext) -> None:
        super().__init__()
        self.context = context
        self.start = options.start
        self.streams: dict[str, torch.Generator] = {}
        self._offsets: dict[str, str] = {}

    @abstractmethod
    def generate(self) -> dict[str, Tensor]:
        """Return every tensor by name, with a gradient to this module's parameters."""

    def theta(self) -> nn.Parameter | None:
        """Return the circuit's trainable angles, if there are any."""
        return None

    def stream(self, purpose: str) -> torch.Generator:
        """Return the random stream of one purpose, going on where it stopped."""
        if purpose not in self.streams:
            seed = derive_seed(self.context.seed, purpose)
            self.streams[purpose] = torch.Generator().manual_seed(seed)
        return self.streams[purpose]

    def as_angles(self) -> nn.Parameter | None:
        """Return what ``learning_rate_theta`` is for: the angles, or what a control trains in their place."""
        return self.theta()

    def fix_start(self) -> None:
        """With ``start = "zero"``, keep the initial value of the tensors marked so as constants to subtract.

        They are no parameters: nothing is added to what is trained. Where basis strings are redrawn, the
        constant belongs to the first draw, and later draws begin near the base model, not at it.
        """
        if self.start != "zero":
            return
        with torch.no_grad():
            initial = self.generate()
        for index, spec in enumerate(self.context.specs):
            if spec.zero_at_start:
                name = f"offset_{index}"
                self.register_buffer(name, initial[spec.name].detach().clone())
                self._offsets[spec.name] = name

    def forward(self) -> dict[str, Tensor]:
        """Return every tensor by name, the constants of ``fix_start`` subtracted.

        Raises:
            NumericalError: ``generate`` gave a tensor of another shape (broadcast unseen, perhaps), or none.
        """
        return self.finished(self.generate())

    def finished(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what ``generate`` gave, held against the specs, the constants of ``fix_start`` subtracted.

        Args:
            tensors: by name.

        Raises:
            NumericalError: as in ``forward``.
        """
        for spec in self.context.specs:
            found = tuple(tensors[spec.name].shape) if spec.name in tensors else None
            if found != spec.shape:
                raise NumericalError(
                    f"generator gave {spec.name} of shape {found}, expected {tuple(spec.shape)}"
                )
        for name, buffer in self._offsets.items():
            tensors[name] = tensors[name] - self.get_buffer(buffer)
        return tensors


class DrawingGenerator(Generator):
    """A generator in two parts: what a pass draws on the host, and what the device computes from it.

    A subclass implements ``compute``, and ``draw`` where it draws anything; then its pass can be recorded as
    a graph and replayed.
    """

    #: Whether ``generate`` is nothing but ``compute(draw())``, and ``compute`` depends on parameters, buffers
    #: and what it is given alone, with the same operations in every pass. Each class says so for itself: it
    #: isn't inherited.
    capturable: ClassVar[bool] = False

    def draw(self) -> dict[str, Tensor]:
        """Return what is drawn anew for a pass, on the CPU, by name, of the same shapes each time."""
        return {}

    @abstractmethod
    def compute(self, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every tensor by name.

        Args:
            drawn: what ``draw`` gave, on this module's device.
        """

    def generate(self) -> dict[str, Tensor]:
        """Return every tensor of the target."""
        device = device_of(self)
        return self.compute({name: moved(value, device) for name, value in self.draw().items()})


def cut(flat: Tensor, specs: tuple[TensorSpec, ...]) -> dict[str, Tensor]:
    """Cut a flat vector into named tensors in the order of the specs.

    Args:
        flat: shape (m,).
        specs: whose sizes sum to m.
    """
    pieces = flat.split([spec.numel for spec in specs])
    return {spec.name: piece.reshape(spec.shape) for spec, piece in zip(specs, pieces, strict=True)}
