"""What may be asked of the built-in generators, and what they would train (no torch here)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar, Literal, Self

from pydantic import Field

from qpabench.errors import UnsupportedError
from qpabench.hooks.entries import GeneratorOptions, Ledger, TensorSpec

#: Hidden widths of the mapping model. Table 1 prints all but the last 32; every published parameter count
#: needs it.
HIDDEN_WIDTHS = (32, 64, 128, 128, 64, 32, 32)


def mapping_widths(n_inputs: int, chunk_size: int) -> tuple[int, ...]:
    """Return the widths of the mapping model, input and output included.

    Args:
        n_inputs: N + 1, the bits and one probability.
        chunk_size: n_mlp.

    Source: Table 1. Differs: one more 32 -> 32 layer, see ``HIDDEN_WIDTHS``.
    """
    return (n_inputs, *HIDDEN_WIDTHS, chunk_size)


def count_linear(widths: Sequence[int]) -> int:
    """Count weights and biases of a chain of linear layers."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(widths))


class DirectOptions(GeneratorOptions):
    """Trains the target's numbers as they are."""

    init: Literal["target", "normal"] = Field(
        default="target",
        description="target: as the target says (PEFT's way); normal: every tensor N(0, 0.01^2)",
    )
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"released-code": {"init": "normal"}}

    def ledger(self, specs: tuple[TensorSpec, ...]) -> Ledger:
        """Count m trainable numbers."""
        n_generated = sum(spec.numel for spec in specs)
        return Ledger(n_generated=n_generated, n_free=n_generated)


class MappedOptions(GeneratorOptions):
    """Generates the numbers chunk by chunk: basis strings and their probabilities, through a mapping."""

    chunk_size: int = Field(default=2048, ge=1, le=2**24, description="n_mlp, numbers per chunk")
    activation: Literal["none", "relu", "gelu", "tanh"] = Field(
        default="none", description="between the layers of the mapping model"
    )
    basis_order: Literal["fixed", "redrawn"] = Field(
        default="fixed", description="basis strings in index order, or drawn anew in every forward pass"
    )
    bit_values: Literal["zero-one", "plus-minus"] = "zero-one"
    probability_feature: Literal["raw", "scaled"] = Field(
        default="raw", description="p, or (0.6 tanh(0.1 2^(N-1) p))^0.15 minus its mean"
    )
    centred_output: bool = Field(default=False, description="subtract the mean of all generated numbers")

    always_told: ClassVar[tuple[str, ...]] = ("chunk_size", "start")
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "released-code": {
            "activation": "none",
            "basis_order": "redrawn",
            "bit_values": "plus-minus",
            "probability_feature": "scaled",
            "centred_output": True,
        },
        # the text leaves activation and bit values open; an MLP has one, and bits are 0 and 1
        "paper-text": {
            "activation": "gelu",
            "basis_order": "fixed",
            "bit_values": "zero-one",
            "probability_feature": "raw",
            "centred_output": False,
        },
    }

    def held_still(self) -> Self:
        """Return the same with basis strings in index order."""
        return self.model_copy(update={"basis_order": "fixed"})

    def ledger(self, specs: tuple[TensorSpec, ...]) -> Ledger:
        """Count chunks, qubits and mapping weights.

        Raises:
            UnsupportedError: a chunk would be larger than all numbers together.

        Source: equations 5 to 9 and Table 1.
        """
        n_generated = sum(spec.numel for spec in specs)
        if self.chunk_size > n_generated:
            raise UnsupportedError(
                f"chunk_size {self.chunk_size} is larger than the {n_generated} numbers to generate; "
                f"expected at most {n_generated}"
            )
        n_chunks = -(-n_generated // self.chunk_size)
        n_qubits = max(1, (n_chunks - 1).bit_length())
        return Ledger(
            n_generated=n_generated,
            n_mapping=count_linear(mapping_widths(n_qubits + 1, self.chunk_size)),
            n_chunks=n_chunks,
            chunk_size=self.chunk_size,
            n_qubits=n_qubits,
        )


class QpaOptions(MappedOptions):
    """The probabilities are those of a circuit."""

    n_layers: int = Field(default=8, ge=1, le=4096, description="L, repetitions of the ansatz")

    def ledger(self, specs: tuple[TensorSpec, ...]) -> Ledger:
        """Count as every mapped generator does; the angles are the ansatz's to count."""
        return replace(super().ledger(specs), n_layers=self.n_layers)
