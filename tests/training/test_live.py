"""Layers inside the model against Hugging Face PEFT, and cells that run the backbone live."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from written_suites import cells_of

from qpabench.errors import InputError
from qpabench.hooks.entries import LayerShape
from qpabench.models.options import TinyGpt2Options
from qpabench.models.tiny import load
from qpabench.targets.dora import DoraTarget
from qpabench.targets.layers import AdaptedLayers, specs_of_layers, tensor_name
from qpabench.targets.options import DoraOptions
from qpabench.training.features import ensure_features, open_features
from qpabench.training.live import LiveFeatures, features_of, live_features, matching_layers
from qpabench.training.loop import run_cell

#: float32 on both sides; relative to the largest entry of the compared array
TOLERANCE = 1e-5
INNER = """
[[matrix]]
target = { name = "lora", rank = 2, target_modules = MODULES }
generator = GENERATOR
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))


def body(modules: str, generator: str = '"direct"') -> str:
    return INNER.replace("MODULES", modules).replace("GENERATOR", generator)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


def peft_twin(target_modules: list[str]) -> Any:
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=2, lora_alpha=4, target_modules=target_modules, use_dora=True, fan_in_fan_out=True
    )
    with warnings.catch_warnings():
        # PEFT's advice against merging tied heads (not merged here), its choice of fan_in_fan_out for the
        # head, and its use of an older name
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return get_peft_model(load(TinyGpt2Options()).module, settings).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("modules", [["c_attn", "mlp.c_proj"], ["c_attn", "lm_head"]])
def test_inner_layers_are_those_of_peft(tmp_path: Path, modules: list[str]) -> None:
    torch.manual_seed(0)
    cell = cells_of(tmp_path)[0]
    live = live_features(open_features(ensure_features(cell)), load(TinyGpt2Options()), modules, 32)
    options = DoraOptions(rank=2, target_modules=modules)
    shapes = live.layers()
    target = AdaptedLayers(DoraTarget, options, shapes)
    target.prepare(live.weight)
    tensors = {
        spec.name: (0.1 * torch.randn(spec.shape)).requires_grad_()
        for spec in specs_of_layers(options, shapes)
    }
    twin = peft_twin(modules)
    for name in shapes:
        layer = twin.base_model.model.get_submodule(name)
        own = target.tensors_of(name, tensors)
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(own["lora_A"])
            layer.lora_B["default"].weight.copy_(own["lora_B"])
            layer.lora_magnitude_vector["default"].weight += own["magnitude"]
    test = live.splits["test"]
    rows = test.row < 2
    factors = live.factors(target, test, torch.nonzero(rows).squeeze(1), tensors, None)
    from qpabench.training.plain_head import plain_logits

    found = plain_logits(factors, live.weight, None, None)
    assert test.ids is not None
    assert test.attention is not None
    expected = twin(input_ids=test.ids[:2], attention_mask=test.attention[:2]).logits[:, :-1].flatten(0, 1)
    assert relative(found, expected) < TOLERANCE
    found.square().mean().backward()  # type: ignore[no-untyped-call]
    expected.square().mean().backward()
    for name in shapes:
        layer = twin.base_model.model.get_submodule(name)
        for factor in ("lora_A", "lora_B", "lora_magnitude_vector"):
            gradient = tensors[tensor_name(name, factor.replace("lora_magnitude_vector", "magnitude"))].grad
            assert gradient is not None
            assert relative(gradient, getattr(layer, factor)["default"].weight.grad) < 10 * TOLERANCE


def test_an_untrained_inner_target_is_the_base(tmp_path: Path) -> None:
    cell = cells_of(tmp_path, body('["c_attn"]'), ("generator.init=target", "train.epochs=0"))[0]
    metrics = run_cell(cell, features_of(cell)).metrics
    assert math.isclose(metrics["perplexity_padded"], metrics["base_perplexity_padded"], rel_tol=TOLERANCE)


@pytest.mark.parametrize("generator", ['"direct"', '{ name = "qpa", chunk_size = 64, start = "zero" }'])
def test_an_inner_cell_learns(tmp_path: Path, generator: str) -> None:
    settings = ("train.epochs=3", "train.learning_rate=3e-3", "generator.start=zero")
    cell = cells_of(tmp_path, body('["attn.c_attn", "c_fc"]', generator), settings)[0]
    assert cell.ledger is None
    result = run_cell(cell, features_of(cell))
    losses = result.series["train_loss"]
    assert losses[-4:].mean() < losses[:4].mean()
    assert result.metrics["perplexity_padded"] < result.metrics["base_perplexity_padded"]


def test_counts_of_inner_layers_come_from_the_model(tmp_path: Path) -> None:
    cell = cells_of(tmp_path, body('["c_attn"]'), ("train.max_steps=1",))[0]
    metrics = run_cell(cell, features_of(cell)).metrics
    assert metrics["n_trainable"] == metrics["n_generated"] == 2 * 2 * (32 + 96)
    assert metrics["n_mapping"] == metrics["n_theta"] == 0


def test_head_among_other_layers_is_adapted_too(tmp_path: Path) -> None:
    cell = cells_of(tmp_path, body('["c_attn", "lm_head"]'))[0]
    features = features_of(cell)
    assert isinstance(features, LiveFeatures)
    assert features.layers()["lm_head"] == LayerShape(32, 257, 32)
    assert len(features.layers()) == 3


def test_unknown_layer_offers_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no linear layer 'c_atn'; did you mean 'c_attn'\?"):
        matching_layers(load(TinyGpt2Options()), ["c_atn"])
