"""Training steps on frozen features: the head, LoRA, QPA, and the step as the released code takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ratios import Ratio, in_torch, ratio, take_turns, timed
from subjects import STEPS, TOKENS, VOCABULARY, WIDTH, built, features, released_step
from torch import Tensor

from qpabench.generators.qpa import MappingModel
from qpabench.suite.cell import Cell
from qpabench.targets.target import Factors
from qpabench.training.features import Features
from qpabench.training.head import fast_loss
from qpabench.training.kept import write_logits
from qpabench.training.kept_loss import KeptLogits
from qpabench.training.loop import train
from qpabench.training.plain_head import plain_loss


def our_step(cell: Cell, given: Features | None = None) -> Callable[[], float]:
    """Return a function that trains a few steps and returns the seconds of one."""
    made, given = built(cell), given or features()
    whole = timed(lambda: train(made, given, cell.train, cell.seed, None))
    return lambda: whole() / STEPS


def test_mapping(benchmark: Any, measured: list[Ratio]) -> None:
    model = MappingModel(8, 2048, "none", seed=0)
    inputs = torch.randn(98, 8)
    product = torch.randn(512, 512)

    def mapping() -> None:
        model(inputs).sum().backward()

    seconds = take_turns(
        benchmark, {"mapping": timed(mapping), "product": timed(lambda: product @ product)}, 9
    )
    measured.append(
        ratio("mapping model (98 x 2048) / 512 x 512 product", seconds["mapping"], seconds["product"], "low")
    )


def test_head(benchmark: Any, measured: list[Ratio]) -> None:
    given = features()
    x, labels = given.splits["train"].features[:TOKENS], given.splits["train"].labels[:TOKENS]
    weights, logits = torch.full((TOKENS,), 1 / TOKENS), torch.empty(TOKENS, VOCABULARY)
    random = torch.Generator().manual_seed(1)
    A = torch.randn(4, WIDTH, generator=random).mul_(0.01).requires_grad_()
    B = torch.randn(VOCABULARY, 4, generator=random).mul_(0.01).requires_grad_()

    def head(loss: Callable[..., Tensor]) -> Callable[[], None]:
        def run() -> None:
            A.grad = B.grad = None
            loss(Factors(x, low_rank=(x @ A.T * 2, B)), given.weight, labels, weights).backward()

        return run

    rivals = {
        "product": timed(lambda: torch.mm(x, given.weight.T, out=logits)),
        "head": timed(head(fast_loss)),
        "head in torch": in_torch(timed(head(fast_loss))),
        "autograd": timed(head(plain_loss)),
    }
    seconds = take_turns(benchmark, rivals, rounds=7)
    for name in ("head", "head in torch"):
        shown = name.replace("head", "head step")
        measured.append(ratio(f"{shown} / bare product", seconds[name], seconds["product"], "low", 1.3))
    measured.append(
        ratio("head step: autograd / bare product", seconds["autograd"], seconds["product"], "high")
    )


def test_qpa_step(benchmark: Any, measured: list[Ratio], cells: dict[str, Cell], kept: Features) -> None:
    sizes = [(chunk, layers) for chunk in (256, 2048) for layers in (8, 64)]
    rivals = {}
    for way, given in (("", features()), (", kept logits", kept)):
        rivals[f"lora{way}"] = our_step(cells["lora"], given)
        rivals |= {f"{size}{way}": our_step(cells[f"native {size}"], given) for size in sizes}
    seconds = take_turns(benchmark, rivals, rounds=5)
    for way, target in (("", 1.05), (", kept logits", None)):
        for size in sizes:
            name = f"{size}{way}"
            measured.append(
                ratio(f"QPA step / LoRA step, {name}", seconds[name], seconds[f"lora{way}"], "low", target)
            )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Features]:
    """The same features with their logits on disk."""
    folder: Path = tmp_path_factory.mktemp("kept")
    given = features()
    split = given.splits["train"]
    write_logits(given, split, folder, lambda what, done, total: None)
    logits = KeptLogits(folder / "logits.f32", VOCABULARY)
    yield replace(given, splits={"train": replace(split, kept=logits)})
    logits.path.unlink()


def test_released_step(benchmark: Any, measured: list[Ratio], cells: dict[str, Cell], kept: Features) -> None:
    cell = cells["torchquantum (2048, 8)"]
    released = released_step(cell, built(cell))
    ours = cells["native (2048, 8)"]
    inputs, logits = features().splits["train"].features[:TOKENS], torch.empty(TOKENS, VOCABULARY)
    rivals = {
        "released": timed(released),
        "product": timed(lambda: torch.mm(inputs, features().weight.T, out=logits)),
        "ours": our_step(ours),
        "kept": our_step(ours, kept),
        "ours in torch": in_torch(our_step(ours)),
        "kept in torch": in_torch(our_step(ours, kept)),
    }
    seconds = take_turns(benchmark, rivals, rounds=5)
    name = "step as released / our step"
    for rival, way, target in (
        ("ours", "", 8),
        ("kept", ", kept logits", 60),
        ("ours in torch", " in torch", None),
        ("kept in torch", " in torch, kept logits", None),
    ):
        measured.append(ratio(f"{name}{way}", seconds["released"], seconds[rival], "high", target))
    name = "step as released / bare product"  # no step that computes all logits can be quicker
    measured.append(ratio(name, seconds["released"], seconds["product"], "high"))
