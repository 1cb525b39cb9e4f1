"""Copies between host and device, shown with tensors that only say where they are."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from qpabench.devices import copied, device_of, gathered, moved

CPU, CUDA, META = (torch.device(name) for name in ("cpu", "cuda", "meta"))


@dataclass
class Told:
    """Stands for a tensor: notes what is asked of it."""

    device: torch.device
    pinned: bool = False
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def pin_memory(self) -> "Told":
        return Told(self.device, pinned=True, calls=self.calls)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Told":
        self.calls.append(("to", device.type, self.pinned, non_blocking))
        return Told(device, calls=self.calls)

    def copy_(self, source: "Told", non_blocking: bool = False) -> None:
        self.calls.append(("copy", source.pinned, non_blocking))


def test_a_gpu_gets_pinned_memory_and_nobody_waits() -> None:
    tensor = Told(CPU)
    assert moved(tensor, CUDA).device == CUDA  # type: ignore[arg-type]
    assert tensor.calls == [("to", "cuda", True, True)]


@pytest.mark.parametrize(("source", "target"), [(CUDA, CUDA), (CUDA, CPU), (CPU, META), (CPU, CPU)])
def test_other_copies_are_plain(source: torch.device, target: torch.device) -> None:
    tensor = Told(source)
    moved(tensor, target)  # type: ignore[arg-type]
    assert tensor.calls == [("to", target.type, False, False)]


@pytest.mark.parametrize(("source", "target", "pinned"), [(CPU, CUDA, True), (CPU, CPU, False)])
def test_fixed_memory_is_filled_likewise(source: torch.device, target: torch.device, pinned: bool) -> None:
    into = Told(target)
    copied(Told(source), into)  # type: ignore[arg-type]
    assert into.calls == [("copy", pinned, pinned)]


def test_on_the_cpu_a_tensor_is_itself() -> None:
    tensor = torch.arange(3)
    assert moved(tensor, CPU) is tensor


@pytest.mark.parametrize("positions", [torch.tensor([3, 1]), slice(1, 3)])
def test_values_are_those_at_the_positions(positions: torch.Tensor | slice) -> None:
    values = torch.arange(10).reshape(5, 2)
    assert torch.equal(gathered(values, positions, CPU), values[positions])
    assert gathered(values.to(META), positions, META).shape == values[positions].shape


def test_a_module_is_where_its_numbers_are() -> None:
    assert device_of(torch.nn.Linear(1, 1, device="meta")) == META
    buffered = torch.nn.Module()
    assert device_of(buffered) == CPU
    buffered.register_buffer("numbers", torch.zeros(1, device="meta"))
    assert device_of(buffered) == META
