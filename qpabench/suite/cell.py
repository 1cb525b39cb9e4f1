"""A cell: one fully resolved experiment, frozen, named by a hash of all that can change its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from qpabench.errors import InputError, UnsupportedError
from qpabench.hooks.entries import AnsatzEntry, BackendEntry, BackendOptions, Entry, Ledger, Options
from qpabench.hooks.manager import Registry
from qpabench.suite.options import EvaluateOptions, TrainOptions

#: Raised when the core's own training or evaluation gives other numbers for the same options.
CORE_BEHAVIOUR_VERSION = 1


@dataclass(frozen=True)
class Choice:
    """A component with resolved options.

    Args:
        entry: what the plugin handed over.
        options: an instance of its options model.
        label: the name, and the options that differ from the protocol's defaults.
        brought_by: distribution and version, recorded but not hashed.
        fingerprint: identity of weights or data, empty for other components.
    """

    entry: Entry
    options: Options
    label: str
    brought_by: str
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.entry.name

    @cached_property
    def identity(self) -> str:
        """Everything of this component that can change a result, as text."""
        version = self.entry.behaviour_version
        return f"{self.entry.kind}={self.name}@{version}#{self.fingerprint}:{self.options.canonical()}"


@dataclass(frozen=True)
class Cell:
    """One experiment.

    Args:
        model, dataset, target, generator: always there.
        backend, ansatz: None for generators that use no circuit.
        protocol: ``released-code`` or ``paper-text``: what was taken as default.
        train, evaluate: settings.
        seed: the one seed.
        ledger: counts, None while the model's shape isn't known here.
        n_theta: angles of the circuit.
        circuits_per_step: circuits one training step runs.
        unsupported: why it can't be measured, or empty.
        select: ``validation`` where a report shall choose the learning rate; changes no result.
    """

    model: Choice
    dataset: Choice
    target: Choice
    generator: Choice
    backend: Choice | None
    ansatz: Choice | None
    protocol: str
    train: TrainOptions
    evaluate: EvaluateOptions
    seed: int
    ledger: Ledger | None
    n_theta: int
    circuits_per_step: int
    unsupported: str
    select: str = "none"

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The components that are there."""
        every = (self.model, self.dataset, self.target, self.generator, self.backend, self.ansatz)
        return tuple(choice for choice in every if choice is not None)

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits of SHA-256 over all that can change the result."""
        parts = [f"core@{CORE_BEHAVIOUR_VERSION}", *(choice.identity for choice in self.choices)]
        parts += [self.protocol, self.train.canonical(), self.evaluate.canonical(), str(self.seed)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @cached_property
    def label(self) -> str:
        """What a person calls this cell."""
        parts = [self.target.label, self.generator.label]
        if self.backend is not None and self.ansatz is not None:
            parts.append(f"{self.backend.label}/{self.ansatz.label}")
        training = ", ".join(self._told_training())
        parts += [self.model.name, self.dataset.name, self.protocol, training, f"seed {self.seed}"]
        return " · ".join(parts)

    def _told_training(self) -> list[str]:
        epochs = f"{self.train.epochs} epoch{'s' if self.train.epochs != 1 else ''}"
        told = [f"lr {self.train.learning_rate:g}", epochs, f"{self.train.loss} loss"]
        shown = {"learning_rate", "epochs", "loss"}
        fields = TrainOptions.model_fields
        return told + [f"{k}={v}" for k, v in self.train if k not in shown and v != fields[k].default]

    @property
    def n_trainable(self) -> int | None:
        """What an optimizer updates: numbers trained directly, the mapping model, and the angles."""
        if self.ledger is None:
            return None
        return self.ledger.n_free + self.ledger.n_mapping + (self.n_theta if self.ledger.trains_theta else 0)

    def summary(self) -> dict[str, Any]:
        """Return the fields of ``plan --json`` that don't depend on what has been run."""
        ledger = self.ledger
        return {
            "id": self.id,
            "label": self.label,
            "model": self.model.name,
            "dataset": self.dataset.name,
            "protocol": self.protocol,
            "target": self.target.name,
            "generator": self.generator.name,
            "backend": self.backend.name if self.backend else None,
            "ansatz": self.ansatz.name if self.ansatz else None,
            "n_qubits": ledger.n_qubits if ledger else None,
            "n_layers": ledger.n_layers if ledger else None,
            "n_chunks": ledger.n_chunks if ledger else None,
            "chunk_size": ledger.chunk_size if ledger else None,
            "n_generated": ledger.n_generated if ledger else None,
            "n_trainable": self.n_trainable,
            "n_theta": self.n_theta,
            "n_mapping": ledger.n_mapping if ledger else None,
            "circuits_per_step": self.circuits_per_step,
            "seed": self.seed,
        }

    def to_json(self) -> dict[str, Any]:
        """Return what the record keeps: the summary, every option, versions of behaviour, identities."""
        options: dict[str, Any] = {c.entry.kind: c.options.model_dump(mode="json") for c in self.choices}
        options["train"] = self.train.model_dump(mode="json")
        options["evaluate"] = self.evaluate.model_dump(mode="json")
        return {
            **self.summary(),
            "n_free": self.ledger.n_free if self.ledger else None,
            "trains_theta": self.ledger.trains_theta if self.ledger else None,
            "options": options,
            "behaviour_versions": {
                "core": CORE_BEHAVIOUR_VERSION,
                **{c.entry.kind: c.entry.behaviour_version for c in self.choices},
            },
            "data": {"model": self.model.fingerprint, "dataset": self.dataset.fingerprint},
        }


def circuit_facts(
    backend: Choice | None, ansatz: Choice | None, ledger: Ledger | None, *, by_gradient: bool = True
) -> tuple[int, int]:
    """Return (n_theta, circuits per step); both 0 where no circuit is used.

    Args:
        backend, ansatz: of the cell, None where no circuit is used.
        ledger: its qubits and layers.
        by_gradient: False where the angles are searched without gradients.

    Raises:
        UnsupportedError: the backend can't serve the options.
    """
    if (
        backend is None
        or ansatz is None
        or ledger is None
        or ledger.n_qubits is None
        or ledger.n_layers is None
    ):
        return 0, 0
    assert isinstance(ansatz.entry, AnsatzEntry)
    assert isinstance(backend.entry, BackendEntry)
    assert isinstance(backend.options, BackendOptions)
    n_theta = prod(ansatz.entry.angles_shape(ledger.n_qubits, ledger.n_layers))
    if ledger.n_qubits > backend.entry.max_qubits:
        raise UnsupportedError(
            f"{ledger.n_qubits} qubits are more than backend {backend.name} takes; "
            f"expected at most {backend.entry.max_qubits}"
        )
    if not (ledger.trains_theta and by_gradient):
        backend.entry.gradient_method(backend.options)
        return n_theta, 1
    return n_theta, backend.entry.circuits_per_step(backend.options, n_theta)


def cell_from_json(content: Mapping[str, Any], registry: Registry) -> Cell:
    """Rebuild a cell from what its record keeps, in another process or at another time.

    Args:
        content: what ``Cell.to_json`` gave.
        registry: where the components are.

    Raises:
        InputError: a plugin or its data changed since, so the cell would be another one.
    """
    options = content["options"]
    choices: dict[str, Choice | None] = {}
    for kind in ("model", "dataset", "target", "generator", "backend", "ansatz"):
        name = content[kind]
        if name is None:
            choices[kind] = None
            continue
        found = registry.find(kind, name)
        resolved = found.entry.options.model_validate_json(json.dumps(options[kind]))
        fingerprint = str(content["data"].get(kind, ""))
        choices[kind] = Choice(found.entry, resolved, name, str(found.source), fingerprint)
    counts = {
        key: content[key]
        for key in ("n_generated", "n_mapping", "n_chunks", "chunk_size", "n_qubits", "n_layers")
    }
    model, target, generator, dataset = (choices[k] for k in ("model", "target", "generator", "dataset"))
    assert model is not None
    assert dataset is not None
    assert target is not None
    assert generator is not None
    ledger = None
    if content["n_generated"] is not None:
        ledger = Ledger(**counts, n_free=content["n_free"], trains_theta=content["trains_theta"])
    cell = Cell(
        model=model,
        dataset=dataset,
        target=target,
        generator=generator,
        backend=choices["backend"],
        ansatz=choices["ansatz"],
        protocol=str(content["protocol"]),
        train=TrainOptions.model_validate_json(json.dumps(options["train"])),
        evaluate=EvaluateOptions.model_validate_json(json.dumps(options["evaluate"])),
        seed=int(content["seed"]),
        ledger=ledger,
        n_theta=int(content["n_theta"]),
        circuits_per_step=int(content["circuits_per_step"]),
        unsupported="",
    )
    if cell.id != content["id"]:
        raise InputError(
            f"cell {content['id']} is {cell.id} here: a plugin's behaviour changed; "
            "expected the same plugins; run the suite again"
        )
    return cell
