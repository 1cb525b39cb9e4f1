"""What training benchmarks measure: cells of one suite, inputs in SmolLM2's shape, the step as released."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from ratios import Clock

from qpabench.hooks.entries import LayerShape
from qpabench.hooks.manager import load_registry
from qpabench.suite.cell import Cell
from qpabench.suite.plan import make_plan
from qpabench.training.build import Built, build
from qpabench.training.features import Features, Split
from qpabench.training.plain_head import plain_loss

TOKENS, WIDTH, VOCABULARY = 511, 576, 49152  # one row of SmolLM2-135M at 512 tokens
STEPS = 4
SUITE = """
[suite]
name = "bench"
[defaults]
model = "smollm2-135m"
dataset = {{ name = "text", train = "{text}", test = "{text}", max_length = 512 }}
protocol = "released-code"
train = {{ epochs = 1, max_steps = {steps}, learning_rate = 1e-4, scheduler = "constant" }}
[[matrix]]
target = {{ name = "lora", rank = 4 }}
generator = {{ name = "direct" }}
[[matrix]]
target = {{ name = "lora", rank = 4 }}
generator = {{ name = "qpa", chunk_size = [256, 2048], n_layers = [8, 64] }}
backend = ["native", "torchquantum"]
"""


@cache
def features() -> Features:
    """Random inputs and weights in the shape and scale of SmolLM2's; times don't depend on the values."""
    random = torch.Generator().manual_seed(0)
    n = TOKENS * STEPS
    split = Split(
        features=torch.randn(n, WIDTH, generator=random),
        labels=torch.randint(VOCABULARY, (n,), generator=random),
        mask=torch.ones(n, dtype=torch.bool),
        row=torch.arange(STEPS).repeat_interleave(TOKENS),
        position=torch.arange(TOKENS).repeat(STEPS),
        base_nll=None,
    )
    weight = torch.randn(VOCABULARY, WIDTH, generator=random) * 0.1
    return Features(weight, None, None, {"train": split}, {})


def cells_in(folder: Path) -> dict[str, Cell]:
    """Return the cells of a suite written to a folder.

    LoRA as ``lora``; QPA as ``native (256, 8)``: backend, chunk size, layers.
    """
    (folder / "text.txt").write_text("a line\n" * 8, encoding="utf-8")
    suite = folder / "suite.toml"
    suite.write_text(SUITE.format(text=(folder / "text.txt").as_posix(), steps=STEPS), encoding="utf-8")
    found = {}
    for planned in make_plan(suite, load_registry(), settings=(f"model.device={Clock.device}",)).cells:
        cell = planned.cell
        name = "lora"
        if cell.backend is not None and cell.ledger is not None:
            name = f"{cell.backend.name} ({cell.ledger.chunk_size}, {cell.ledger.n_layers})"
        found[name] = cell
    return found


def built(cell: Cell) -> Built:
    """Return a cell's target and generator on the device that is measured."""
    made = build(cell, LayerShape(WIDTH, VOCABULARY, n_positions=512), None, Clock.device)
    made.target.prepare(features().weight)
    return made


def on_its_device(made: Built) -> Built:
    """Let TorchQuantum run where the generator is, as in the released code; in a suite it runs on the CPU."""
    assert made.circuit is not None
    made.circuit.backend.on_device = True
    return made


def released_step(cell: Cell, made: Built) -> Callable[[], None]:
    """Return a step as the released code takes it, on a cell whose backend is TorchQuantum.

    The backbone runs in every step, the circuit on TorchQuantum, the head by autograd; all on one device.
    """
    on_its_device(made)
    lacking = cell.model.options.missing()
    if lacking:
        pytest.skip(lacking)
    model = cell.model.entry.component()(cell.model.options)
    device = Clock.device
    optimizer = torch.optim.AdamW(made.generator.parameters(), lr=1e-5)
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (1, TOKENS + 1), generator=random).to(device)
    weights = torch.full((TOKENS,), 1 / TOKENS, device=device)
    places = torch.arange(TOKENS, device=device)

    def released() -> None:
        x = model.features(ids, torch.ones_like(ids))[0, :-1]
        made.generator.train()
        factors = made.target.factors(x, places, model.head.weight, made.generator(), None)
        loss = plain_loss(factors, model.head.weight, ids[0, 1:], weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return released
