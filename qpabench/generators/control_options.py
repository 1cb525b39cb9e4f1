"""What may be asked of the controls of QPA, and what they would train (no torch here).

Each differs from ``qpa`` in one thing; whatever it doesn't name is ``qpa``'s, initial weights included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import Field

from qpabench.errors import UnsupportedError
from qpabench.generators.options import MappedOptions, QpaOptions
from qpabench.hooks.entries import GeneratorOptions, Ledger, TensorSpec


def _with_more(ledger: Ledger, n_more: int) -> Ledger:
    return replace(ledger, n_mapping=ledger.n_mapping + n_more)


def _states(ledger: Ledger) -> int:
    assert ledger.n_qubits is not None
    return int(2**ledger.n_qubits)


def _angles(ledger: Ledger, n_layers: int, per_qubit: int) -> int:
    assert ledger.n_qubits is not None
    return ledger.n_qubits * n_layers * per_qubit


class UniformOptions(MappedOptions):
    """Every probability is 2^-N: no circuit, and nothing trained in its place."""


class FreeOptions(MappedOptions):
    """The probabilities are a softmax of 2^N trained logits."""

    def ledger(self, specs: tuple[TensorSpec, ...]) -> Ledger:
        """Count the logits with the mapping."""
        ledger = super().ledger(specs)
        return _with_more(ledger, _states(ledger))


class FrozenOptions(QpaOptions):
    """The circuit's angles stay as drawn."""

    def ledger(self, specs: tuple[TensorSpec, ...]) -> Ledger:
        """Count as ``qpa``, the angles as not trained."""
        return replace(super().ledger(specs), trains_theta=False)


class ShuffledOptions(QpaOptions):
    """The circuit's probabilities are permuted, so that no state keeps its own."""

    permutation: Literal["redrawn", "fixed"] = Field(
        default="redrawn", description="drawn anew in every forward pass, or one for the whole cell"
    )

    def held_still(self) -> Self:
        """Return the same with one permutation and strings in index order."""
        return super().held_still().model_copy(update={"permutation": "fixed"})


class AnglesMlpOptions(QpaOptions):
    """The probabilities come from as many trained numbers as angles, through a fixed network."""

    angles_per_qubit: Literal[1, 2] = Field(
        default=1, description="per layer: 1 as ansätze ry and rx have, 2 as rxrz and ryrz"
    )

    def ledger(self, specs: tuple[TensorSpec, ...]) -> Ledger:
        """Count the numbers in the angles' place with the mapping."""
        ledger = super().ledger(specs)
        return _with_more(ledger, _angles(ledger, self.n_layers, self.angles_per_qubit))


class CollapsedOptions(QpaOptions):
    """One linear map in place of the eight of the mapping model, which without activation are one."""

    activation: Literal["none"] = "none"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        protocol: {name: value for name, value in preset.items() if name != "activation"}
        for protocol, preset in QpaOptions.presets.items()
    }

    def ledger(self, specs: tuple[TensorSpec, ...]) -> Ledger:
        """Count (N + 2) n_mlp weights and biases."""
        ledger = super().ledger(specs)
        assert ledger.n_qubits is not None
        return replace(ledger, n_mapping=(ledger.n_qubits + 2) * self.chunk_size)


class RandomProjectionOptions(GeneratorOptions):
    """A fixed random matrix times a trained vector, of ``qpa``'s budget or one of one's own."""

    chunk_size: int = Field(default=2048, ge=1, le=2**24, description="n_mlp of the qpa whose budget it has")
    n_layers: int = Field(default=8, ge=1, le=4096, description="L of that qpa")
    angles_per_qubit: Literal[1, 2] = Field(default=1, description="of its ansatz, per layer")
    budget: int | None = Field(default=None, ge=1, description="trained numbers; absent: as many as that qpa")
    centred_output: bool = Field(default=False, description="subtract the mean of all generated numbers")

    always_told: ClassVar[tuple[str, ...]] = ("start",)
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        protocol: {"centred_output": preset["centred_output"]}
        for protocol, preset in QpaOptions.presets.items()
    }

    def ledger(self, specs: tuple[TensorSpec, ...]) -> Ledger:
        """Count the trained vector.

        Raises:
            UnsupportedError: the budget is larger than what it would generate; the message says the nearest.
        """
        n_generated = sum(spec.numel for spec in specs)
        budget = self.budget
        if budget is None:
            mapped = QpaOptions(chunk_size=self.chunk_size, n_layers=self.n_layers).ledger(specs)
            budget = mapped.n_mapping + _angles(mapped, self.n_layers, self.angles_per_qubit)
        if budget > n_generated:
            raise UnsupportedError(
                f"a budget of {budget} can't be met: only {n_generated} numbers are generated; "
                f"the nearest budget is {n_generated}, which trains each of them"
            )
        return Ledger(n_generated=n_generated, n_mapping=budget)
