"""Quantum Parameter Adaptation: basis strings and their probabilities, through a mapping model.

Source: equations 5 to 7: chunk i of the target's numbers is G_b(|phi_i>, |<phi_i|psi(theta)>|^2).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from qpabench.devices import device_of
from qpabench.generators.generator import DrawingGenerator, GeneratorContext, cut
from qpabench.generators.options import MappedOptions, QpaOptions, mapping_widths
from qpabench.randomness import derive_seed

#: Below this probability the scaled feature goes on linearly to 0: its slope is infinite at 0.
LINEAR_BELOW = 1e-16


def scaled_probability(probabilities: Float[Tensor, "n_states"], n_qubits: int) -> Float[Tensor, "n_states"]:
    """Return (0.6 tanh(0.1 * 2^(N-1) * p))^0.15 minus its mean over all states.

    Args:
        probabilities: of all 2**N basis states.
        n_qubits: N.

    Source: the released code. Differs: linear below p = 1e-16, so value and slope stay finite at p = 0.
    """
    safe = probabilities.clamp(min=LINEAR_BELOW)
    curved = (0.60 * torch.tanh(0.1 * 2 ** (n_qubits - 1) * safe)) ** 0.15
    with torch.no_grad():
        slope = curved / LINEAR_BELOW
    feature = torch.where(probabilities < LINEAR_BELOW, probabilities * slope, curved)
    return feature - feature.mean()


def basis_bits(strings: Int[Tensor, "n"], n_qubits: int, values: str) -> Float[Tensor, "n n_qubits"]:
    """Return the bits of basis strings as features, least significant first.

    Args:
        strings: basis states as integers.
        n_qubits: N.
        values: ``zero-one`` or ``plus-minus`` (-1 for a 0 bit).
    """
    bits = (strings.unsqueeze(1) >> torch.arange(n_qubits, device=strings.device)) & 1
    return (bits * 2 - 1).float() if values == "plus-minus" else bits.float()


class MappingModel(nn.Module):
    """The mapping model G_b: linear layers, with or without an activation between them.

    Source: Table 1, with the layer list that gives the published counts. Differs: the released code has
    no activation; the paper calls it an MLP.
    """

    def __init__(self, n_inputs: int, chunk_size: int, activation: str, seed: int) -> None:
        super().__init__()
        widths = mapping_widths(n_inputs, chunk_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "mapping"))
            self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))
        self.activation = {"none": None, "relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh}[activation]

    def forward(self, inputs: Float[Tensor, "n_chunks n_inputs"]) -> Float[Tensor, "n_chunks chunk_size"]:
        """Map features to chunks."""
        hidden = inputs
        for index, layer in enumerate(self.layers):
            if index and self.activation is not None:
                hidden = self.activation(hidden)
            hidden = layer(hidden)
        return hidden


class _Flat(torch.autograd.Function):
    """The first m numbers of all chunks, centred or not, in one pass on the way back."""

    @staticmethod
    def forward(ctx: Any, chunks: Tensor, n_generated: int, centred: bool) -> Tensor:
        ctx.shape, ctx.centred = chunks.shape, centred
        flat = chunks.flatten()[:n_generated]
        return flat - flat.mean() if centred else flat.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        whole = cotangent.new_empty(ctx.shape)
        flat, n_generated = whole.view(-1), len(cotangent)
        flat[n_generated:] = 0
        if ctx.centred:
            torch.sub(cotangent, cotangent.mean(), out=flat[:n_generated])
        else:
            flat[:n_generated] = cotangent
        return whole, None, None


class MappedGenerator(DrawingGenerator):
    """A mapping model generates every number from basis strings and probabilities; a subclass gives those.

    A subclass calls ``fix_start`` once it is whole.
    """

    def __init__(self, options: MappedOptions, context: GeneratorContext) -> None:
        super().__init__(options, context)
        self.options = options
        ledger = options.ledger(context.specs)
        assert ledger.n_chunks is not None
        assert ledger.n_qubits is not None
        self.n_chunks, self.n_qubits = ledger.n_chunks, ledger.n_qubits
        self.mapping = self.new_mapping()

    def new_mapping(self) -> nn.Module:
        """Return the mapping model with its initial weights."""
        options = self.options
        return MappingModel(self.n_qubits + 1, options.chunk_size, options.activation, self.context.seed)

    @abstractmethod
    def probabilities(self) -> Float[Tensor, "n_states"]:
        """Return the probabilities of all 2**N basis states, in float64."""

    def strings(self) -> Int[Tensor, "n_chunks"]:
        """Return this pass's basis strings: the first n_ch, or n_ch drawn without replacement.

        Source: the released code draws them anew in every forward pass, in training and testing, while
        the probabilities stay in index order.

        Returns:
            Basis states as integers, on the CPU where they are drawn.
        """
        if self.options.basis_order == "fixed":
            return torch.arange(self.n_chunks, device=device_of(self))
        return torch.randperm(2**self.n_qubits, generator=self.stream("basis-strings"))[: self.n_chunks]

    def features(
        self, probabilities: Float[Tensor, "n_states"], strings: Int[Tensor, "n_chunks"]
    ) -> Float[Tensor, "n_chunks n_inputs"]:
        """Return the mapping model's inputs: N bits, then the probability feature."""
        if self.options.probability_feature == "scaled":
            probabilities = scaled_probability(probabilities, self.n_qubits)
        feature = probabilities[: self.n_chunks].float()
        bits = basis_bits(strings.to(feature.device), self.n_qubits, self.options.bit_values)
        return torch.cat([bits, feature.unsqueeze(1)], dim=1)

    def assemble(self, chunks: Float[Tensor, "n_chunks chunk_size"]) -> dict[str, Tensor]:
        """Cut the chunks into the target's tensors; what lies beyond m is dropped."""
        flat: Tensor = _Flat.apply(  # type: ignore[no-untyped-call]
            chunks, self.context.n_generated, self.options.centred_output
        )
        return cut(flat, self.context.specs)

    def draw(self) -> dict[str, Tensor]:
        """Return this pass's basis strings, where they are drawn anew."""
        return {} if self.options.basis_order == "fixed" else {"strings": self.strings()}

    def compute(self, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every tensor of the target."""
        probabilities = self.probabilities()
        strings = drawn["strings"] if "strings" in drawn else self.strings()
        return self.assemble(self.mapping(self.features(probabilities, strings)))


class QpaGenerator(MappedGenerator):
    """The probabilities are those of a circuit whose angles are trained."""

    capturable: ClassVar[bool] = True

    def __init__(self, options: QpaOptions, context: GeneratorContext) -> None:
        super().__init__(options, context)
        random = torch.Generator().manual_seed(derive_seed(context.seed, "angles"))
        angles = torch.rand(math.prod(context.angles_shape), generator=random, dtype=torch.float64)
        self.angles = nn.Parameter(((angles * 2 - 1) * math.pi).reshape(context.angles_shape))
        self.fix_start()

    def theta(self) -> nn.Parameter | None:
        """Return the angles, U(-pi, pi) at first."""
        return self.angles

    def probabilities(self) -> Float[Tensor, "n_states"]:
        """Return the circuit's probabilities."""
        assert self.context.circuit is not None
        return self.context.circuit(self.angles.flatten())
