"""The output layer in blocks of tokens, against autograd and torch's cross-entropy."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from test_head import OUTPUTS, SWITCHES, TOKENS, Layer

from qpabench.targets.target import Factors
from qpabench.training import blocks
from qpabench.training.blocks import blocks_loss, blocks_nll, product
from qpabench.training.plain_head import plain_logits, plain_loss

#: rounding of float64 over some thousand terms
TOLERANCE = 1e-10
#: of float32, largest difference over largest entry
FLOAT32 = 1e-5
CONVERTED = 1000


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine parts of a converted weight, the last one short."""
    monkeypatch.setattr(blocks, "CONVERTED_OUTPUTS", CONVERTED)


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-300))


@pytest.mark.parametrize(("low_rank", "scale", "inputs", "bias"), SWITCHES)
def test_loss_and_gradients_are_those_of_autograd(
    low_rank: bool, scale: bool, inputs: bool, bias: bool
) -> None:
    layer = Layer(low_rank=low_rank, scale=scale, inputs=inputs, bias=bias)
    given = (layer.factors, layer.weight, layer.labels, layer.weights, layer.bias)
    found, expected = 3 * blocks_loss(*given), 3 * plain_loss(*given)
    assert difference(found, expected) < TOLERANCE
    for one, other in zip(layer.gradients(found), layer.gradients(expected), strict=True):
        assert difference(one, other) < TOLERANCE


@pytest.mark.parametrize("slope", [-1.0, 1.0, "peak", "valley"])
@pytest.mark.parametrize("size", [1.0, 300.0])
def test_logits_may_rise_and_fall_by_any_amount(slope: float | str, size: float) -> None:
    """By far more than an exponential can hold."""
    layer = Layer(scale=True, inputs=True, bias=True, size=size)
    place = torch.linspace(-1, 1, len(layer.weight), dtype=torch.float64)
    shape = {"peak": 1 - place.abs(), "valley": place.abs()}
    layer.bias = 5000 * (shape[slope] if isinstance(slope, str) else slope * place)
    given = (layer.factors, layer.weight, layer.labels, layer.weights, layer.bias)
    found, expected = blocks_loss(*given), plain_loss(*given)
    assert torch.isfinite(found)
    assert difference(found, expected) < TOLERANCE
    for one, other in zip(layer.gradients(found), layer.gradients(expected), strict=True):
        assert difference(one, other) < TOLERANCE


@pytest.mark.parametrize("per_block", [1, 2, TOKENS - 1, TOKENS, TOKENS + 1])
@pytest.mark.parametrize(("low_rank", "scale", "inputs", "bias"), SWITCHES[-4:])
def test_many_tokens_are_taken_in_blocks(
    low_rank: bool, scale: bool, inputs: bool, bias: bool, per_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_LOGITS", per_block * OUTPUTS)
    layer = Layer(low_rank=low_rank, scale=scale, inputs=inputs, bias=bias)
    given = (layer.factors, layer.weight, layer.labels, layer.weights, layer.bias)
    found, expected = blocks_loss(*given), plain_loss(*given)
    assert difference(found, expected) < TOLERANCE
    for one, other in zip(layer.gradients(found), layer.gradients(expected), strict=True):
        assert difference(one, other) < TOLERANCE


@pytest.mark.parametrize(("scale", "bias"), list(itertools.product([False, True], repeat=2)))
def test_float32_is_close_to_float64(scale: bool, bias: bool) -> None:
    layer = Layer(scale=scale, bias=bias, size=3.0)
    exact = plain_loss(layer.factors, layer.weight, layer.labels, layer.weights, layer.bias)
    leaves = [tensor.detach().float().requires_grad_() for tensor in layer.leaves]
    factors = Factors(layer.factors.inputs.float(), (leaves[0], leaves[1]), leaves[2] if scale else None)
    bias_ = None if layer.bias is None else layer.bias.float()
    found = blocks_loss(factors, layer.weight.float(), layer.labels, layer.weights.float(), bias_)
    assert difference(found, exact) < FLOAT32
    for one, other in zip(torch.autograd.grad(found, leaves), layer.gradients(exact), strict=True):
        assert difference(one, other) < FLOAT32


def test_only_part_of_a_low_rank_term_may_want_a_gradient() -> None:
    layer = Layer()
    u, B = layer.factors.low_rank or ()
    for kept, factors in ((B, (u.detach(), B)), (u, (u, B.detach()))):
        layer.leaves, layer.factors = [kept], Factors(layer.factors.inputs, factors)
        given = (layer.factors, layer.weight, layer.labels, layer.weights)
        (found,), (expected,) = layer.gradients(blocks_loss(*given)), layer.gradients(plain_loss(*given))
        assert difference(found, expected) < TOLERANCE


@pytest.mark.parametrize(("low_rank", "scale", "bias"), list(itertools.product([False, True], repeat=3)))
def test_nll_is_cross_entropy(low_rank: bool, scale: bool, bias: bool) -> None:
    layer = Layer(low_rank=low_rank, scale=scale, bias=bias)
    logits = plain_logits(layer.factors, layer.weight, layer.bias, None)
    expected = F.cross_entropy(logits, layer.labels, reduction="none")
    assert difference(blocks_nll(layer.factors, layer.weight, layer.labels, layer.bias), expected) < TOLERANCE


def test_a_logit_that_is_not_finite_shows() -> None:
    layer = Layer(low_rank=False)
    layer.factors.inputs[3, 0] = torch.nan
    found = blocks_nll(layer.factors, layer.weight, layer.labels)
    assert torch.isfinite(found).tolist() == [index != 3 for index in range(len(found))]


def bfloat16_layer() -> tuple[Layer, list[torch.Tensor]]:
    """Return a layer of float32 whose weight and inputs are numbers of bfloat16, and its leaves."""
    layer = Layer(size=3.0)
    leaves = [leaf.detach().float().requires_grad_() for leaf in layer.leaves]
    layer.weight, layer.weights = layer.weight.bfloat16().float(), layer.weights.float()
    layer.factors = Factors(layer.factors.inputs.bfloat16().float(), (leaves[0], leaves[1]))
    return layer, leaves


def test_bfloat16_numbers_give_the_float32_loss() -> None:
    layer, leaves = bfloat16_layer()
    halved = Factors(layer.factors.inputs.bfloat16(), layer.factors.low_rank)
    expected = blocks_loss(layer.factors, layer.weight, layer.labels, layer.weights)
    found = blocks_loss(halved, layer.weight.bfloat16(), layer.labels, layer.weights)
    assert found.dtype == torch.float32
    assert difference(found, expected) < FLOAT32
    pairs = (torch.autograd.grad(loss, leaves) for loss in (found, expected))
    for one, other in zip(*pairs, strict=True):
        assert one.dtype == torch.float32
        assert difference(one, other) < FLOAT32


def test_changed_inputs_are_multiplied_in_float32() -> None:
    layer, _ = bfloat16_layer()
    changed = (layer.factors.inputs + 1e-4).requires_grad_()
    given = (layer.labels, layer.weights)
    found = blocks_loss(Factors(changed), layer.weight.bfloat16(), *given)
    expected = blocks_loss(Factors(changed), layer.weight, *given)
    assert torch.equal(found, expected)
    one, other = (torch.autograd.grad(loss, changed)[0] for loss in (found, expected))
    assert difference(one, other) < FLOAT32


def test_products_of_bfloat16_on_a_device_have_a_float32_result() -> None:
    inputs, weight = (torch.zeros(3, 4, dtype=torch.bfloat16, device="meta") for _ in range(2))
    assert product(inputs, weight).dtype == torch.float32


@pytest.mark.parametrize("outputs", [1, 63, 64, 65, 640])
def test_a_sum_over_the_vocabulary_leaves_nothing_out(outputs: int) -> None:
    random = torch.Generator().manual_seed(0)
    d_z, B = (torch.randn(*shape, generator=random).double() for shape in ((TOKENS, outputs), (outputs, 3)))
    assert difference(blocks._thin_product(d_z, B), d_z @ B) < TOLERANCE
