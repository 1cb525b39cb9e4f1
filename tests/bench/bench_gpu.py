"""Training steps on a GPU: the head, the generator's passes, LoRA, QPA, and the step as released.

Run by ``tox run -e gpu-bench``. All rivals are on the same device; kernels of one burst are queued and waited
for together, as in training, where a loss is read every few dozen steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import cycle, islice
from typing import Any

import pytest
import torch
from bench_circuits import step as circuit_step
from ratios import Clock, Ratio, ratio, take_turns, timed
from subjects import TOKENS, VOCABULARY, WIDTH, built, on_its_device, released_step
from subjects import features as features_on_cpu

from qpabench.suite.cell import Cell
from qpabench.targets.target import Factors
from qpabench.training.blocks import blocks_loss, product
from qpabench.training.features import Features
from qpabench.training.loop import batches
from qpabench.training.passes import Passes, passes_of
from qpabench.training.plain_head import plain_loss
from qpabench.training.readings import STEPS_BETWEEN
from qpabench.training.step import Stepper

ROUNDS = 7
SIZES = [(chunk, layers) for chunk in (256, 2048) for layers in (8, 64)]


@cache
def features(dtype: torch.dtype = torch.float32) -> Features:
    """Inputs and weight of ``subjects``, rounded to bfloat16, on the device."""
    given = features_on_cpu()
    split = given.splits["train"]
    split = replace(split, features=split.features.bfloat16().float())
    rounded = replace(given, weight=given.weight.bfloat16().float(), splits={"train": split})
    return rounded.on(Clock.device, dtype)


def our_step(cell: Cell, dtype: torch.dtype = torch.float32, graph: bool = True) -> Callable[[], float]:
    """Return a function that trains as long as losses stay unread and returns the seconds of one step."""
    made, given = built(cell), features(dtype)
    split = given.splits["train"]
    passes = None if graph else Passes(made.generator)
    stepper = Stepper(made, given, split, cell.train, cell.seed, 1_000_000, passes=passes)
    positions = cycle(list(batches(split, cell.train, cell.seed)))

    def steps() -> None:
        for taken in islice(positions, STEPS_BETWEEN):
            stepper.step(taken)
        stepper.readings.fetch()

    whole = timed(steps)
    return lambda: whole() / STEPS_BETWEEN


def passes_step(passes: Passes) -> Callable[[], None]:
    """Return a function that runs a generator forward and back."""

    def run() -> None:
        leaves = passes.forward()
        for leaf in leaves.values():
            leaf.grad = torch.ones_like(leaf)
        passes.generator.zero_grad(set_to_none=True)
        passes.backward(leaves)

    return run


@pytest.mark.parametrize("size", [(7, 8), (10, 8), (10, 64), (16, 64), (20, 8)], ids=str)
def test_circuit(benchmark: Any, measured: list[Ratio], size: tuple[int, int]) -> None:
    """As it is, each kernel launched by itself."""
    rivals = {name: timed(circuit_step(name, *size)) for name in ("native", "torchquantum")}
    seconds = take_turns(benchmark, rivals, ROUNDS)
    name = f"circuit {size}: torchquantum / native"
    measured.append(ratio(name, seconds["torchquantum"], seconds["native"], "high"))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_generator(
    benchmark: Any, measured: list[Ratio], cells: dict[str, Cell], size: tuple[int, int]
) -> None:
    """Circuit and mapping, forward and back."""
    ours, theirs = cells[f"native {size}"], cells[f"torchquantum {size}"]
    rivals = {
        "captured": timed(passes_step(passes_of(built(ours)))),
        "eager": timed(passes_step(Passes(built(ours).generator))),
        "torchquantum": timed(passes_step(Passes(on_its_device(built(theirs)).generator))),
        "torchquantum on the CPU": timed(passes_step(Passes(built(theirs).generator))),
    }
    seconds = take_turns(benchmark, rivals, ROUNDS)
    for name in ("torchquantum", "torchquantum on the CPU", "eager"):
        shown = f"generator {size}: {name} / captured"
        measured.append(ratio(shown, seconds[name], seconds["captured"], "high"))


def test_head(benchmark: Any, measured: list[Ratio]) -> None:
    random = torch.Generator().manual_seed(1)
    A = torch.randn(4, WIDTH, generator=random).mul_(0.01).to(Clock.device).requires_grad_()
    B = torch.randn(VOCABULARY, 4, generator=random).mul_(0.01).to(Clock.device).requires_grad_()
    weights = torch.full((TOKENS,), 1 / TOKENS, device=Clock.device)
    rivals = {}
    for way, dtype in (("", torch.float32), (" in bfloat16", torch.bfloat16)):
        given = features(dtype)
        split = given.resident(given.splits["train"])
        x, labels = split.features[:TOKENS], split.labels[:TOKENS]

        def head(
            loss: Callable[..., torch.Tensor],
            x: torch.Tensor = x,
            labels: torch.Tensor = labels,
            weight: torch.Tensor = given.weight,
        ) -> Callable[[], None]:
            def run() -> None:
                A.grad = B.grad = None
                factors = Factors(x, low_rank=(x.float() @ A.T * 2, B))
                loss(factors, weight, labels, weights).backward()

            return run

        rivals[f"head{way}"] = timed(head(blocks_loss))
        rivals[f"product{way}"] = timed(lambda x=x, w=given.weight: product(x, w))
        if not way:
            rivals["autograd"] = timed(head(plain_loss))
    seconds = take_turns(benchmark, rivals, ROUNDS)
    for way, target in (("", 1.3), (" in bfloat16", None)):
        name = f"head step / bare product{way}"
        measured.append(ratio(name, seconds[f"head{way}"], seconds[f"product{way}"], "low", target))
    for name in ("autograd", "head in bfloat16"):
        shown = f"head step: {name.removeprefix('head ')} / ours"
        measured.append(ratio(shown, seconds[name], seconds["head"], "high"))


def test_qpa_step(benchmark: Any, measured: list[Ratio], cells: dict[str, Cell]) -> None:
    rivals = {}
    for way, dtype in (("", torch.float32), (", bfloat16", torch.bfloat16)):
        rivals[f"lora{way}"] = our_step(cells["lora"], dtype)
        rivals |= {f"{size}{way}": our_step(cells[f"native {size}"], dtype) for size in SIZES}
    rivals |= {f"{size}, eager": our_step(cells[f"native {size}"], graph=False) for size in SIZES}
    seconds = take_turns(benchmark, rivals, ROUNDS)
    for way, rival, target in (
        ("", "lora", 1.05),
        (", bfloat16", "lora, bfloat16", None),
        (", eager", "lora", None),
    ):
        for size in SIZES:
            name = f"{size}{way}"
            measured.append(
                ratio(f"QPA step / LoRA step, {name}", seconds[name], seconds[rival], "low", target)
            )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_released_step(
    benchmark: Any, measured: list[Ratio], cells: dict[str, Cell], size: tuple[int, int]
) -> None:
    """The backbone runs in every step, the circuit on TorchQuantum, the head by autograd."""
    cell = cells[f"torchquantum {size}"]
    rivals = {
        "released": timed(released_step(cell, built(cell))),
        "ours": our_step(cells[f"native {size}"]),
        "bfloat16": our_step(cells[f"native {size}"], torch.bfloat16),
    }
    seconds = take_turns(benchmark, rivals, ROUNDS)
    for rival, way, target in (("ours", "", 8), ("bfloat16", ", bfloat16", None)):
        name = f"step as released / our step, {size}{way}"
        measured.append(ratio(name, seconds["released"], seconds[rival], "high", target))
