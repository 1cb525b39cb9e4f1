"""The rivals against Hugging Face PEFT: the same numbers give the same update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qpabench.errors import UnsupportedError
from qpabench.hooks.entries import LayerShape, TargetOptions
from qpabench.hooks.manager import load_registry
from qpabench.targets.target import Target

peft = pytest.importorskip("peft")
LAYER = LayerShape(d_in=12, d_out=30)
TOLERANCE = 1e-5  # float32 on both sides
OPTIONS: dict[str, dict[str, Any]] = {
    "vera": {"rank": 5, "projection_key": 3},
    "uni-lora": {"rank": 3, "budget": 41},
    "fourierft": {"budget": 50, "scaling": 20.0, "location_key": 5},
    "tinylora": {"rank": 3, "budget": 7},
}
NAMES = tuple(OPTIONS)
WEIGHT = torch.randn(LAYER.d_out, LAYER.d_in, generator=torch.Generator().manual_seed(1))


def options_of(name: str, **changes: Any) -> TargetOptions:
    entry = load_registry().find("target", name).entry
    options = entry.options(**{**OPTIONS[name], **changes})
    assert isinstance(options, TargetOptions)
    return options


def target_of(name: str) -> Target:
    made = load_registry().find("target", name).entry.component()(options_of(name), LAYER)
    assert isinstance(made, Target)
    return made


def numbers_of(name: str) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {s.name: torch.randn(s.shape, generator=random) for s in options_of(name).specs(LAYER)}


def update_of(name: str) -> Tensor:
    """Delta W (V, d), from what the target adds to the layer."""
    places = torch.arange(LAYER.d_in)
    return target_of(name).forward(torch.eye(LAYER.d_in), places, WEIGHT, numbers_of(name)).T - WEIGHT


def config_of(name: str) -> Any:
    config = dict(target_of(name).peft_config() or {})
    kind = {
        "VERA": peft.VeraConfig,
        "LORA": peft.LoraConfig,
        "FOURIERFT": peft.FourierFTConfig,
    }[config.pop("peft_type")]
    return kind(target_modules=["head"], **config)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Specified to not")
def test_a_checkpoint_gives_the_same_update_in_peft(name: str) -> None:
    """What an export writes, loaded into a fresh PEFT model."""
    model = nn.ModuleDict({"head": nn.Linear(LAYER.d_in, LAYER.d_out, bias=False)})
    model["head"].weight.data.copy_(WEIGHT)
    wrapped = peft.get_peft_model(model, config_of(name))
    tensors = target_of(name).peft_tensors(WEIGHT, numbers_of(name))
    state = {f"base_model.model.head.{key}": value for key, value in tensors.items()}
    loaded = peft.set_peft_model_state_dict(wrapped, state)
    assert not loaded.unexpected_keys
    theirs = wrapped.base_model.model["head"].get_delta_weight("default").detach()
    assert torch.allclose(update_of(name), theirs, atol=TOLERANCE)


@pytest.mark.skipif(not hasattr(peft, "UniLoraConfig"), reason="this PEFT has no Uni-LoRA")
def test_uni_lora_is_that_of_peft_under_the_same_assignment() -> None:
    target, tensors = target_of("uni-lora"), numbers_of("uni-lora")
    model = nn.ModuleDict({"head": nn.Linear(LAYER.d_in, LAYER.d_out, bias=False)})
    config = peft.UniLoraConfig(r=3, theta_d_length=41, target_modules=["head"])
    layer = peft.get_peft_model(model, config).base_model.model["head"]
    theirs = torch.cat(
        [layer.unilora_indices_A["default"].flatten(), layer.unilora_indices_B["default"].flatten()]
    )
    ours = torch.cat([target.index_A.flatten(), target.index_B.flatten()])  # type: ignore[attr-defined]
    assert torch.equal(torch.bincount(ours).sort().values, torch.bincount(theirs).sort().values)
    for part in "AB":
        getattr(layer, f"unilora_indices_{part}")["default"] = getattr(target, f"index_{part}")
        getattr(layer, f"unilora_scales_{part}")["default"] = getattr(target, f"scale_{part}")
    with torch.no_grad():
        layer.unilora_theta_d["default"].copy_(tensors["theta_d"])
        assert torch.allclose(layer.get_delta_weight("default"), update_of("uni-lora"), atol=TOLERANCE)


@pytest.mark.skipif(not hasattr(peft, "TinyLoraConfig"), reason="this PEFT has no TinyLoRA")
def test_tinylora_is_that_of_peft_up_to_the_signs_of_singular_vectors() -> None:
    target, tensors = target_of("tinylora"), numbers_of("tinylora")
    model = nn.ModuleDict({"head": nn.Linear(LAYER.d_in, LAYER.d_out, bias=False)})
    model["head"].weight.data.copy_(WEIGHT)
    config = peft.TinyLoraConfig(r=3, u=7, projection_seed=42, target_modules=["head"])
    layer = peft.get_peft_model(model, config).base_model.model["head"]
    theirs_A, theirs_B = layer.tinylora_A["default"], layer.tinylora_B["default"]
    target.prepare(WEIGHT)
    ours_A, ours_B = target._frozen  # type: ignore[attr-defined]
    signs = (ours_A * theirs_A).sum(1).sign()
    assert torch.allclose(ours_A, theirs_A * signs.unsqueeze(1), atol=TOLERANCE)
    assert torch.allclose(ours_B, theirs_B * signs, atol=TOLERANCE)
    assert torch.equal(target.P, layer.tinylora_P["default"])  # type: ignore[attr-defined]
    layer.tinylora_A["default"], layer.tinylora_B["default"] = ours_A, ours_B
    with torch.no_grad():
        v = layer.tinylora_v["default"][layer._tinylora_v_key["default"]]
        assert not v.any()
        v.copy_(tensors["v"])
        assert torch.allclose(layer.get_delta_weight("default"), update_of("tinylora"), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "count"), [("vera", 30 + 5), ("uni-lora", 41), ("fourierft", 50), ("tinylora", 7)]
)
def test_what_is_trained_is_counted(name: str, count: int) -> None:
    assert sum(spec.numel for spec in options_of(name).specs(LAYER)) == count


@pytest.mark.parametrize("name", ["vera", "fourierft", "tinylora"])
def test_it_begins_at_the_base_model(name: str) -> None:
    specs = options_of(name).specs(LAYER)
    assert all(spec.init == "zeros" for spec in specs)
    inputs, weight = torch.randn(4, LAYER.d_in), torch.randn(LAYER.d_out, LAYER.d_in)
    zeros = {spec.name: torch.zeros(spec.shape) for spec in specs}
    output = target_of(name).forward(inputs, torch.arange(4), weight, zeros)
    assert torch.allclose(output, inputs @ weight.T, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_everything_trained_receives_a_gradient(name: str) -> None:
    numbers = {key: value.requires_grad_() for key, value in numbers_of(name).items()}
    inputs, weight = torch.randn(7, LAYER.d_in), torch.zeros(LAYER.d_out, LAYER.d_in)
    target_of(name).forward(inputs, torch.arange(7), weight, numbers).square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in numbers.values())


@pytest.mark.parametrize(("name", "most"), [("uni-lora", 3 * 42), ("fourierft", 360)])
def test_a_budget_that_cannot_be_met_says_the_nearest(name: str, most: int) -> None:
    with pytest.raises(UnsupportedError, match=f"nearest budget is {most}"):
        options_of(name, budget=most + 1).specs(LAYER)
    options_of(name, budget=most).specs(LAYER)


def test_a_rank_beyond_the_layer_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="expected at most 12"):
        options_of("tinylora", rank=13).specs(LAYER)


def test_projections_too_large_to_hold_say_the_nearest_budget() -> None:
    with pytest.raises(UnsupportedError, match="nearest budget is"):
        options_of("tinylora", rank=12, budget=2**27).specs(LAYER)
