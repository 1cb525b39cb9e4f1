"""Controls of QPA: the same forward pass with one thing replaced, so that its effect can be told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from qpabench.devices import device_of, moved
from qpabench.generators.control_options import (
    AnglesMlpOptions,
    FreeOptions,
    FrozenOptions,
    RandomProjectionOptions,
    ShuffledOptions,
    UniformOptions,
)
from qpabench.generators.generator import DrawingGenerator, GeneratorContext, cut
from qpabench.generators.options import HIDDEN_WIDTHS
from qpabench.generators.qpa import MappedGenerator, MappingModel, QpaGenerator
from qpabench.randomness import derive_seed

HIDDEN_INPUTS = 64  # width of the fixed network of ``angles-mlp``
LOG_SPREAD = math.pi / math.sqrt(6)  # standard deviation of log p where p is exponential (Porter-Thomas)


class UniformGenerator(MappedGenerator):
    """In the circuit's place: nothing. Every probability is 2^-N."""

    capturable: ClassVar[bool] = True

    def __init__(self, options: UniformOptions, context: GeneratorContext) -> None:
        super().__init__(options, context)
        self.fix_start()

    def probabilities(self) -> Float[Tensor, "n_states"]:
        """Return 2^-N for each state."""
        n_states = 2**self.n_qubits
        return torch.full((n_states,), 1 / n_states, dtype=torch.float64, device=device_of(self))


class FrozenGenerator(QpaGenerator):
    """The circuit with the angles ``qpa`` begins with, never trained."""

    capturable: ClassVar[bool] = True

    def __init__(self, options: FrozenOptions, context: GeneratorContext) -> None:
        super().__init__(options, context)
        self.angles.requires_grad_(False)


class ShuffledGenerator(QpaGenerator):
    """The circuit's probabilities, each given to another basis string in every forward pass."""

    capturable: ClassVar[bool] = True
    options: ShuffledOptions
    _drawn: Tensor | None = None

    def permutation(self) -> Int[Tensor, "n_states"]:
        """Return this pass's permutation, on the CPU where it is drawn."""
        random = self.stream("permutation")
        if self.options.permutation == "fixed":
            random = torch.Generator().manual_seed(derive_seed(self.context.seed, "permutation"))
        return torch.randperm(2**self.n_qubits, generator=random)

    def draw(self) -> dict[str, Tensor]:
        """Return this pass's permutation, and its basis strings where they are drawn anew."""
        return {"permutation": self.permutation(), **super().draw()}

    def compute(self, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every tensor of the target."""
        self._drawn = drawn["permutation"]
        return super().compute(drawn)

    def probabilities(self) -> Float[Tensor, "n_states"]:
        """Return the circuit's probabilities in a random order: the one drawn for this pass, or a new one."""
        permutation, self._drawn = self._drawn, None
        probabilities = super().probabilities()
        if permutation is None:
            permutation = moved(self.permutation(), probabilities.device)
        return probabilities[permutation]


class FreeGenerator(MappedGenerator):
    """A trained probability vector: what a circuit of any depth could at most learn."""

    capturable: ClassVar[bool] = True

    def __init__(self, options: FreeOptions, context: GeneratorContext) -> None:
        super().__init__(options, context)
        random = torch.Generator().manual_seed(derive_seed(context.seed, "logits"))
        # softmax of log Exp(1): uniform on the simplex, as a random circuit's probabilities nearly are
        draws = torch.rand(2**self.n_qubits, generator=random, dtype=torch.float64)
        self.logits = nn.Parameter(torch.log(-torch.log1p(-draws).clamp(max=-1e-12)))
        self.fix_start()

    def as_angles(self) -> nn.Parameter:
        """Return the logits."""
        return self.logits

    def probabilities(self) -> Float[Tensor, "n_states"]:
        """Return the softmax of the logits."""
        return torch.softmax(self.logits, 0)


class AnglesMlpGenerator(MappedGenerator):
    """As many trained numbers as angles, and a fixed random network with two layers in the circuit's place.

    p = softmax(W2 tanh(W1 z)), W1 and W2 seeded and never trained, z drawn as the angles are. W2 is scaled
    so that log p spreads at first as it does for a random circuit.
    """

    capturable: ClassVar[bool] = True

    def __init__(self, options: AnglesMlpOptions, context: GeneratorContext) -> None:
        super().__init__(options, context)
        n_inputs = self.n_qubits * options.n_layers * options.angles_per_qubit
        random = torch.Generator().manual_seed(derive_seed(context.seed, "angles"))
        drawn = torch.rand(n_inputs, generator=random, dtype=torch.float64)
        self.inputs = nn.Parameter((drawn * 2 - 1) * math.pi)
        fixed = torch.Generator().manual_seed(derive_seed(context.seed, "fixed-network"))
        first = torch.randn(HIDDEN_INPUTS, n_inputs, generator=fixed, dtype=torch.float64) / n_inputs**0.5
        second = torch.randn(2**self.n_qubits, HIDDEN_INPUTS, generator=fixed, dtype=torch.float64)
        spread = torch.tanh(first @ self.inputs.detach()).norm()
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second / spread * LOG_SPREAD, persistent=False)
        self.fix_start()

    def as_angles(self) -> nn.Parameter:
        """Return the network's inputs."""
        return self.inputs

    def probabilities(self) -> Float[Tensor, "n_states"]:
        """Return the network's softmax."""
        hidden = torch.tanh(self.get_buffer("first") @ self.inputs)
        return torch.softmax(self.get_buffer("second") @ hidden, 0)


class CollapsedGenerator(QpaGenerator):
    """The mapping as one linear map: with N + 1 <= 32 inputs it can be what the eight layers can be.

    It begins as their product, so that at first it gives the same numbers as ``qpa``.
    """

    capturable: ClassVar[bool] = True

    def new_mapping(self) -> nn.Module:
        """Return one linear layer that equals the mapping model's initial product."""
        deep = super().new_mapping()
        assert isinstance(deep, MappingModel)
        n_inputs = self.n_qubits + 1
        assert n_inputs <= min(HIDDEN_WIDTHS)
        with torch.random.fork_rng(devices=[]):
            single = nn.Linear(n_inputs, self.options.chunk_size)
        with torch.no_grad():
            weight, bias = (
                torch.eye(n_inputs, dtype=torch.float64),
                torch.zeros(n_inputs, dtype=torch.float64),
            )
            for layer in deep.layers:
                assert isinstance(layer, nn.Linear)
                weight, bias = (
                    layer.weight.double() @ weight,
                    layer.weight.double() @ bias + layer.bias.double(),
                )
            single.weight.copy_(weight)
            single.bias.copy_(bias)
        return single


class RandomProjectionGenerator(DrawingGenerator):
    """Each generated number is plus or minus one trained number, which one and which sign drawn once.

    The fixed matrix has one non-zero entry a row and orthonormal columns of equal size as nearly as m allows,
    so a distance between trained vectors is the same distance between the numbers they generate.
    """

    capturable: ClassVar[bool] = True

    def __init__(self, options: RandomProjectionOptions, context: GeneratorContext) -> None:
        super().__init__(options, context)
        self.options = options
        n_trained, n_generated = options.ledger(context.specs).n_mapping, context.n_generated
        fixed = torch.Generator().manual_seed(derive_seed(context.seed, "projection"))
        column = torch.randperm(n_generated, generator=fixed) % n_trained
        sign = torch.randint(0, 2, (n_generated,), generator=fixed) * 2 - 1
        scale = torch.bincount(column, minlength=n_trained).float().rsqrt()
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("entry", sign * scale[column], persistent=False)
        random = torch.Generator().manual_seed(derive_seed(context.seed, "projected"))
        # generated numbers begin uniform in +-1/sqrt(32), as widely spread as the mapping model's
        drawn = (torch.rand(n_trained, generator=random) * 2 - 1) / min(HIDDEN_WIDTHS) ** 0.5
        self.values = nn.Parameter(drawn / scale)
        self.fix_start()

    def compute(self, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the projected vector, cut as every generator's output is."""
        flat = self.values[self.get_buffer("column")] * self.get_buffer("entry")
        if self.options.centred_output:
            flat = flat - flat.mean()
        return cut(flat, self.context.specs)
