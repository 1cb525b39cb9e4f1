"""Checkpoints: what a cell needs to go on where it was stopped, as safetensors and JSON, no pickle.

Format history:

1. First format: tensors by name, and JSON facts in the metadata, hashed together.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from qpabench.circuits.gradients import Counts
from qpabench.errors import RecordError, one_line
from qpabench.generators.generator import Generator
from qpabench.records.store import RunDirectory, write_atomically
from qpabench.training.stopwatch import Stopwatch

FORMAT = 1
#: of a record's provenance: with any of these changed, a resumed cell might end with other numbers
DECISIVE = ("versions", "plugins", "commit", "dirty", "python", "threads", "head", "loops")


@dataclass
class Position:
    """All that changes while a cell trains.

    Args:
        generator: its parameters, buffers and streams.
        optimizer: of those parameters.
        schedule: of its learning rates.
        dropout: draws the masks.
        counts: of the circuit, which also seed its next run.
        stopwatch: seconds of each phase so far.
        losses: (n_steps,), filled up to here.
        step_seconds: (n_steps,), filled up to here.
        gradients: of theta, one a step.
        step: steps done.
        train_seconds: so far, in every process that trained.
        resumed_at: the steps after which another process went on.
        fetch: brings the arrays up to the last step, where they are read now and then only.
    """

    generator: Generator
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    dropout: torch.Generator
    counts: Counts
    stopwatch: Stopwatch
    losses: NDArray[np.float64]
    step_seconds: NDArray[np.float64]
    gradients: list[NDArray[np.float64]]
    step: int = 0
    train_seconds: float = 0.0
    resumed_at: list[int] = field(default_factory=list)
    fetch: Callable[[], None] = lambda: None

    def tensors(self) -> dict[str, Tensor]:
        """Return every array by name."""
        state = {f"generator/{name}": value for name, value in self.generator.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
        streams = {f"stream/{name}": stream for name, stream in self.generator.streams.items()}
        streams |= {"dropout": self.dropout, "global/torch": torch.default_generator}
        state |= {name: stream.get_state() for name, stream in streams.items()}
        state["losses"] = torch.from_numpy(self.losses[: self.step])
        state["step_seconds"] = torch.from_numpy(self.step_seconds[: self.step])
        if self.gradients:
            state["gradients"] = torch.from_numpy(np.stack(self.gradients))
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def facts(self) -> dict[str, Any]:
        """Return all else, fit for JSON."""
        kind, keys, *drawn = np.random.get_state()
        return {  # the global streams too: a plugin may draw from them
            "step": self.step,
            "n_steps": len(self.losses),
            "train_seconds": self.train_seconds,
            "resumed_at": self.resumed_at,
            "counts": vars(self.counts),
            "phases": self.stopwatch.seconds,
            "schedule": self.schedule.state_dict(),
            "learning_rates": [group["lr"] for group in self.optimizer.param_groups],
            "global_numpy": [kind, np.asarray(keys).tolist(), *drawn],
            "global_python": random.getstate(),
        }

    def refuse_misfit(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Raise ``RecordError`` where these aren't of this cell, before anything is changed."""
        fresh = {f"generator/{name}": value for name, value in self.generator.state_dict().items()}
        found = {name: value for name, value in tensors.items() if name.startswith("generator/")}
        for name in fresh.keys() | found.keys():
            if name not in fresh or name not in found or _form(fresh[name]) != _form(found[name]):
                raise RecordError(f"{one_line(name, 80)} has another form than this cell's")
        if facts["n_steps"] != len(self.losses):
            raise RecordError(f"found {facts['n_steps']} steps in all, expected {len(self.losses)}")

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go to a stored position.

        Args:
            tensors: what ``tensors`` gave.
            facts: what ``facts`` gave, from JSON.

        Raises:
            RecordError: they don't fit this cell; nothing is changed.
        """
        self.refuse_misfit(tensors, facts)
        self.generator.load_state_dict(_below("generator/", tensors))
        for group, rate in zip(self.optimizer.param_groups, facts["learning_rates"], strict=True):
            group["lr"] = rate
        state: dict[int, dict[str, Tensor]] = {}
        for place, value in _below("optimizer/", tensors).items():
            index, _, name = place.partition("/")
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.schedule.load_state_dict(facts["schedule"])
        self.generator.streams.clear()
        for purpose, value in _below("stream/", tensors).items():
            self.generator.stream(purpose).set_state(value)
        self.dropout.set_state(tensors["dropout"])
        torch.default_generator.set_state(tensors["global/torch"])
        np.random.set_state(tuple(facts["global_numpy"]))
        version, words, gauss = facts["global_python"]
        random.setstate((version, tuple(words), gauss))
        self.counts.circuits, self.counts.shots = facts["counts"]["circuits"], facts["counts"]["shots"]
        self.stopwatch.seconds.update(facts["phases"])
        self.step, self.train_seconds = facts["step"], facts["train_seconds"]
        self.losses[: self.step] = tensors["losses"].numpy()
        self.step_seconds[: self.step] = tensors["step_seconds"].numpy()
        self.gradients[:] = list(tensors["gradients"].numpy()) if "gradients" in tensors else []
        self.resumed_at = [*facts["resumed_at"], self.step]


@dataclass
class Checkpoints:
    """Writes the checkpoint of one cell now and then, and finds the one that is there.

    Args:
        directory: the run directory.
        cell_id: of the cell.
        origin: the cell's provenance.
        seconds: of wall time between two checkpoints; 0: none is written.
    """

    directory: RunDirectory
    cell_id: str
    origin: Mapping[str, Any]
    seconds: float
    resumed_at: list[int] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    _last: float = field(default_factory=time.perf_counter)

    def resume(self, position: Position) -> None:
        """Go to the stored position, if there is one; set aside and name one that can't be used."""
        path = self.directory.checkpoint_path(self.cell_id)
        if not path.exists():
            return
        try:
            position.restore(*self._read())
        except RecordError as error:
            self._note(f"{path.name}: {error}; the cell began anew, the file is in records/damaged")
            with suppress(RecordError):
                self.directory.set_aside(path)
        self.resumed_at = position.resumed_at

    def after_step(self, position: Position, step: int, train_seconds: float) -> float:
        """Write a checkpoint if it is time to; of a long cell, also one before it is measured.

        Args:
            position: now.
            step: steps done.
            train_seconds: so far, without what writing took.

        Returns:
            The seconds that writing took.
        """
        begun = time.perf_counter()
        last_of_many = step == len(position.losses) and train_seconds >= self.seconds
        if not self.seconds or (begun - self._last < self.seconds and not last_of_many):
            return 0.0
        position.fetch()
        position.step, position.train_seconds = step, train_seconds
        try:
            write_atomically(self.directory.checkpoint_path(self.cell_id), self._packed(position))
        except RecordError as error:  # what is trained is worth more than what would save it
            self._note(str(error))
        self._last = time.perf_counter()
        return self._last - begun

    def timing(self) -> dict[str, Any]:
        """Return what a record's ``timing`` says of checkpoints; empty for an undisturbed cell."""
        said: dict[str, Any] = {"resumed_at_steps": self.resumed_at} if self.resumed_at else {}
        return said | ({"checkpoint_trouble": self.trouble} if self.trouble else {})

    def _note(self, trouble: str) -> None:
        if trouble not in self.trouble:
            self.trouble.append(trouble)

    def _packed(self, position: Position) -> bytes:
        tensors = position.tensors()
        text = json.dumps(
            {"format": FORMAT, "cell": self.cell_id, "origin": decisive(self.origin), **position.facts()}
        )
        return save(tensors, {"checkpoint": text, "content_hash": content_hash(tensors, text)})

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        try:
            with safe_open(self.directory.checkpoint_path(self.cell_id), framework="pt") as file:
                text, expected = (file.metadata()[key] for key in ("checkpoint", "content_hash"))
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise RecordError(f"damaged ({one_line(error)})") from error
        if content_hash(tensors, text) != expected:
            raise RecordError("damaged (its content hash differs)")
        facts: dict[str, Any] = json.loads(text)
        if facts["format"] != FORMAT:
            raise RecordError(f"found format {facts['format']}, this qpabench reads {FORMAT}")
        if facts["cell"] != self.cell_id:
            raise RecordError(f"found the checkpoint of cell {one_line(facts['cell'], 40)!r}")
        now = decisive(self.origin)
        changed = [name for name in now if now[name] != facts["origin"].get(name)]
        if changed:
            name = changed[0]
            then = facts["origin"].get(name)
            raise RecordError(f"made with {name} {one_line(then, 120)}, here {one_line(now[name], 120)}")
        return tensors, facts


def decisive(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a provenance that may change a number, as JSON gives it back."""
    kept = {name: origin[name] for name in DECISIVE if name in origin}
    hardware = origin.get("hardware", {})
    kept |= {name: hardware[name] for name in ("cpu", "gpu") if name in hardware}
    return dict(json.loads(json.dumps(kept)))


def content_hash(tensors: Mapping[str, Tensor], text: str) -> str:
    """Hash a checkpoint's tensors and facts, to notice edits and damage.

    Args:
        tensors: contiguous, on the CPU.
        text: the facts as JSON.
    """
    hashed = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        hashed.update(f"{name} {_form(tensor)}".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _form(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return str(tensor.dtype), tuple(tensor.shape)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
