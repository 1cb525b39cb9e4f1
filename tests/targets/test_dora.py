"""DoRA against Hugging Face PEFT with the same weights on ``lm_head``."""

import warnings
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from qpabench.hooks.entries import LayerShape
from qpabench.targets.dora import DoraTarget, adapted_norm, row_squares
from qpabench.targets.options import DoraOptions
from qpabench.training.head import fast_loss
from qpabench.training.plain_head import plain_logits

RANK, ALPHA, WIDTH, VOCABULARY = 3, 7.0, 24, 301
#: float32 on both sides; relative to the largest entry of the compared array
TOLERANCE = 1e-5
Case = tuple[Any, Any, dict[str, torch.Tensor], torch.Tensor]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


def random_tensors() -> dict[str, torch.Tensor]:
    return {
        "lora_B": torch.randn(VOCABULARY, RANK),
        "lora_A": torch.randn(RANK, WIDTH),
        "magnitude": 0.1 * torch.randn(VOCABULARY),
    }


@pytest.fixture
def case() -> Case:
    """A base model, PEFT's model of the same weights, the shared tensors, and token ids."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=WIDTH,
        n_layer=1,
        n_head=2,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    base, twin = GPT2LMHeadModel(config).eval(), GPT2LMHeadModel(config).eval()
    twin.load_state_dict(base.state_dict())
    settings = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["lm_head"], use_dora=True)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        # PEFT's advice against merging tied heads (not merged here), and its use of an older name
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        adapted = get_peft_model(twin, settings).eval()
    tensors = {name: tensor.requires_grad_() for name, tensor in random_tensors().items()}
    head = adapted.get_output_embeddings()
    with torch.no_grad():
        head.lora_A["default"].weight.copy_(tensors["lora_A"])
        head.lora_B["default"].weight.copy_(tensors["lora_B"])
        head.lora_magnitude_vector["default"].weight.copy_(
            base.lm_head.weight.norm(dim=1) + tensors["magnitude"]
        )
    return base, adapted, tensors, torch.randint(0, VOCABULARY, (2, 9))


def factors_of(case: Case) -> tuple[Any, torch.Tensor]:
    base, _, tensors, ids = case
    weight = base.lm_head.weight.detach()
    target = DoraTarget(DoraOptions(rank=RANK, alpha=ALPHA), LayerShape(WIDTH, VOCABULARY))
    target.prepare(weight)
    with torch.no_grad():
        hidden = base.transformer(ids).last_hidden_state.flatten(0, 1)
    positions = torch.arange(ids.shape[1]).repeat(len(ids))
    return target.factors(hidden, positions, weight, tensors, None), weight


def test_logits_are_those_of_peft(case: Case) -> None:
    factors, weight = factors_of(case)
    logits = plain_logits(factors, weight, None, None)
    assert relative(logits, case[1](case[3]).logits.flatten(0, 1)) < TOLERANCE


def test_gradients_are_those_of_peft(case: Case) -> None:
    _, adapted, tensors, ids = case
    factors, weight = factors_of(case)
    labels = ids.flatten().roll(1)
    fast_loss(factors, weight, labels, torch.full((len(labels),), 1 / len(labels))).backward()  # type: ignore[no-untyped-call]
    torch.nn.functional.cross_entropy(adapted(ids).logits.flatten(0, 1), labels).backward()  # type: ignore[no-untyped-call]
    head = adapted.get_output_embeddings()
    expected = {
        "lora_B": head.lora_B["default"].weight.grad,
        "lora_A": head.lora_A["default"].weight.grad,
        "magnitude": head.lora_magnitude_vector["default"].weight.grad,
    }
    for name, gradient in expected.items():
        assert relative(tensors[name].grad, gradient) < TOLERANCE, name  # type: ignore[arg-type]


def test_norm_is_that_of_the_whole_matrix() -> None:
    torch.manual_seed(1)
    weight, tensors = torch.randn(VOCABULARY, WIDTH), random_tensors()
    found = adapted_norm(weight, row_squares(weight), tensors["lora_A"], tensors["lora_B"], 2.5)
    expected = (weight + 2.5 * tensors["lora_B"] @ tensors["lora_A"]).norm(dim=1)
    assert relative(found, expected) < TOLERANCE


def test_a_row_of_zeros_stays_finite() -> None:
    weight, tensors = torch.zeros(VOCABULARY, WIDTH), random_tensors()
    tensors = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    target = DoraTarget(DoraOptions(rank=RANK), LayerShape(WIDTH, VOCABULARY))
    output = target.forward(torch.randn(2, WIDTH), torch.arange(2), weight, tensors)
    assert torch.equal(output, torch.zeros(2, VOCABULARY))


def test_zero_is_exactly_the_base() -> None:
    torch.manual_seed(2)
    weight, inputs, tensors = torch.randn(VOCABULARY, WIDTH), torch.randn(4, WIDTH), random_tensors()
    zeros = tensors | {name: torch.zeros_like(tensors[name]) for name in ("lora_B", "magnitude")}
    target = DoraTarget(DoraOptions(rank=RANK), LayerShape(WIDTH, VOCABULARY))
    target.prepare(weight)
    output = target.forward(inputs, torch.arange(4), weight, zeros)
    assert torch.equal(output, torch.nn.functional.linear(inputs, weight))
