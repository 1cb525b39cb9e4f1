"""LoRA against Hugging Face PEFT with the same weights on ``lm_head``."""

import warnings
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from qpabench.errors import UnsupportedError
from qpabench.hooks.entries import LayerShape
from qpabench.targets.lora import LoraTarget
from qpabench.targets.options import LoraOptions
from qpabench.targets.target import dropout
from qpabench.training.head import fast_loss
from qpabench.training.plain_head import plain_logits

RANK, ALPHA, WIDTH, VOCABULARY = 3, 7.0, 24, 301
#: float32 on both sides; relative to the largest entry of the compared array
TOLERANCE = 1e-5
Pair = tuple[Any, Any, dict[str, torch.Tensor], torch.Tensor]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """A base model, PEFT's model of the same weights, the shared factors, and token ids."""
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
        tie_word_embeddings=request.param,
    )
    base = GPT2LMHeadModel(config).eval()
    twin = GPT2LMHeadModel(config).eval()
    twin.load_state_dict(base.state_dict())
    settings = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["lm_head"], lora_dropout=0.0)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        # PEFT's advice against merging tied heads (not merged here), and its use of an older name
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        adapted = get_peft_model(twin, settings).eval()
    tensors = {
        "lora_B": torch.randn(VOCABULARY, RANK, requires_grad=True),
        "lora_A": torch.randn(RANK, WIDTH, requires_grad=True),
    }
    head = adapted.get_output_embeddings()
    with torch.no_grad():
        head.lora_A["default"].weight.copy_(tensors["lora_A"])
        head.lora_B["default"].weight.copy_(tensors["lora_B"])
    return base, adapted, tensors, torch.randint(0, VOCABULARY, (2, 9))


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((found - expected).detach().abs().max() / expected.detach().abs().max()) < TOLERANCE


def factors_of(pair: Pair) -> tuple[Any, torch.Tensor]:
    base, _, tensors, ids = pair
    target = LoraTarget(LoraOptions(rank=RANK, alpha=ALPHA), LayerShape(WIDTH, VOCABULARY))
    with torch.no_grad():
        hidden = base.transformer(ids).last_hidden_state.flatten(0, 1)
    positions = torch.arange(ids.shape[1]).repeat(len(ids))
    return target.factors(hidden, positions, base.lm_head.weight, tensors, None), base.lm_head.weight.detach()


def test_logits_are_those_of_peft(pair: Pair) -> None:
    factors, weight = factors_of(pair)
    logits = plain_logits(factors, weight, None, None)
    assert_close(logits, pair[1](pair[3]).logits.flatten(0, 1))


def test_the_plain_forward_gives_the_logits_of_peft(pair: Pair) -> None:
    base, adapted, tensors, ids = pair
    target = LoraTarget(LoraOptions(rank=RANK, alpha=ALPHA), LayerShape(WIDTH, VOCABULARY))
    hidden = base.transformer(ids).last_hidden_state.flatten(0, 1)
    output = target.forward(hidden, torch.arange(18), base.lm_head.weight, tensors)
    assert_close(output, adapted(ids).logits.flatten(0, 1))


@pytest.mark.parametrize("name", ["lora_A", "lora_B"])
def test_gradients_of_the_loss_are_those_of_peft(pair: Pair, name: str) -> None:
    _, adapted, tensors, ids = pair
    factors, weight = factors_of(pair)
    labels = torch.randint(0, VOCABULARY, (ids.numel(),))
    loss = fast_loss(factors, weight, labels, torch.full((ids.numel(),), 1 / ids.numel()))
    loss.backward()
    expected = torch.nn.functional.cross_entropy(adapted(ids).logits.flatten(0, 1), labels)
    expected.backward()
    assert_close(loss, expected)
    found, wanted = tensors[name].grad, getattr(adapted.get_output_embeddings(), name)["default"].weight.grad
    assert found is not None
    assert_close(found, wanted)


def test_alpha_defaults_to_twice_the_rank() -> None:
    assert LoraOptions(rank=8).scale == LoraOptions(rank=8, alpha=16.0).scale == 2.0


def test_a_rank_larger_than_the_layer_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="rank 9 is larger than the layer"):
        LoraOptions(rank=9).specs(LayerShape(8, 100))


def test_dropout_scales_what_it_keeps() -> None:
    found = dropout(torch.ones(4000), 0.25, torch.Generator().manual_seed(0))
    assert found.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert abs(float((found == 0).float().mean()) - 0.25) < 5 * (0.25 * 0.75 / 4000) ** 0.5  # five deviations


def test_dropout_is_off_when_measuring() -> None:
    inputs = torch.randn(10)
    assert dropout(inputs, 0.5, None) is inputs
