"""Losses of the output layer against autograd and torch's cross-entropy, in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qpabench.targets.target import Factors
from qpabench.training.evaluate import row_perplexities
from qpabench.training.features import Split
from qpabench.training.head import fast_loss, token_nll
from qpabench.training.one_pass import CHUNK_OUTPUTS
from qpabench.training.plain_head import plain_logits, plain_loss

TOKENS, WIDTH, RANK = 9, 6, 3
OUTPUTS = 2 * CHUNK_OUTPUTS + 117  # three chunks, the last one short
#: rounding of float64 over some thousand terms
TOLERANCE = 1e-11
#: of a loss's gradients in float32, largest difference over largest entry
FLOAT32 = 1e-5
SWITCHES = list(itertools.product([False, True], repeat=4))


class Layer:
    """A random output layer and a target's factors."""

    def __init__(
        self,
        *,
        low_rank: bool = True,
        scale: bool = False,
        inputs: bool = False,
        bias: bool = False,
        size: float = 1,
    ) -> None:
        random = torch.Generator().manual_seed(1)

        def draw(*shape: int, factor: float = 1.0) -> torch.Tensor:
            return torch.randn(*shape, generator=random, dtype=torch.float64) * factor

        self.weight = draw(OUTPUTS, WIDTH, factor=size)
        self.bias = draw(OUTPUTS) if bias else None
        self.labels = torch.randint(0, OUTPUTS, (TOKENS,), generator=random)
        self.labels[1] = self.labels[0]  # one label twice
        self.weights = torch.rand(TOKENS, generator=random, dtype=torch.float64)
        pair = (draw(TOKENS, RANK), draw(OUTPUTS, RANK)) if low_rank else None
        self.factors = Factors(draw(TOKENS, WIDTH), pair, 1 + draw(OUTPUTS, factor=0.1) if scale else None)
        self.leaves = [*(pair or ()), *([self.factors.scale] if scale else [])]
        if inputs:
            self.leaves.append(self.factors.inputs)
        for leaf in self.leaves:
            leaf.requires_grad_()

    def gradients(self, loss: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(loss, self.leaves)) if self.leaves else []


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = expected.detach().abs().max().clamp_min(1e-300)
    assert float((found - expected).detach().abs().max() / scale) < TOLERANCE


@pytest.mark.parametrize(("low_rank", "scale", "inputs", "bias"), SWITCHES)
def test_fast_loss_is_the_plain_loss(low_rank: bool, scale: bool, inputs: bool, bias: bool) -> None:
    layer = Layer(low_rank=low_rank, scale=scale, inputs=inputs, bias=bias)
    given = (layer.factors, layer.weight, layer.labels, layer.weights, layer.bias)
    assert_same(fast_loss(*given), plain_loss(*given))


@pytest.mark.parametrize(("low_rank", "scale", "inputs", "bias"), SWITCHES)
def test_fast_gradients_are_those_of_autograd(low_rank: bool, scale: bool, inputs: bool, bias: bool) -> None:
    layer = Layer(low_rank=low_rank, scale=scale, inputs=inputs, bias=bias)
    given = (layer.factors, layer.weight, layer.labels, layer.weights, layer.bias)
    pairs = zip(layer.gradients(3 * fast_loss(*given)), layer.gradients(3 * plain_loss(*given)), strict=True)
    for found, expected in pairs:
        assert_same(found, expected)


def test_fast_gradients_agree_where_exponentials_would_overflow() -> None:
    layer = Layer(scale=True, inputs=True, size=300.0)
    given = (layer.factors, layer.weight, layer.labels, layer.weights)
    assert float(plain_logits(layer.factors, layer.weight, None, None).detach().max()) > 710
    pairs = zip(layer.gradients(fast_loss(*given)), layer.gradients(plain_loss(*given)), strict=True)
    for found, expected in pairs:
        assert_same(found, expected)


def test_a_step_does_not_touch_what_another_gave() -> None:
    """Steps write their exponentials to the same memory, and their numbers of tokens differ."""
    layer = Layer()
    given = (layer.factors, layer.weight, layer.labels, layer.weights)
    loss = fast_loss(*given)
    for tokens in (4, 2 * TOKENS):
        other = Factors(torch.ones(tokens, WIDTH, dtype=torch.float64))
        fast_loss(other, layer.weight, torch.zeros(tokens).long(), torch.ones(tokens).double())
    for found, expected in zip(layer.gradients(loss), layer.gradients(plain_loss(*given)), strict=True):
        assert_same(found, expected)


def test_float32_is_close_to_float64() -> None:
    layer = Layer(size=3.0)
    exact = plain_loss(layer.factors, layer.weight, layer.labels, layer.weights)
    pair = [tensor.detach().float().requires_grad_() for tensor in layer.leaves]
    factors = Factors(layer.factors.inputs.float(), (pair[0], pair[1]))
    found = fast_loss(factors, layer.weight.float(), layer.labels, layer.weights.float())
    for gradient, expected in zip(torch.autograd.grad(found, pair), layer.gradients(exact), strict=True):
        assert float((gradient - expected).abs().max() / expected.abs().max()) < FLOAT32


@pytest.mark.parametrize("compiled", ["1", "0"])
def test_float32_keeps_its_digits_over_a_whole_vocabulary(
    compiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits almost alike: each sum is of 49,152 terms of one size, the worst there is."""
    monkeypatch.setenv("QPABENCH_COMPILED", compiled)
    random = torch.Generator().manual_seed(1)
    outputs, tokens = 49_152, 16
    weight, inputs = (torch.randn(n, WIDTH, generator=random) * 0.1 for n in (outputs, tokens))
    pair = [torch.rand(n, RANK, generator=random) * 0.1 for n in (tokens, outputs)]
    labels, weights = torch.arange(tokens) * 1000, torch.full((tokens,), 1 / tokens)
    found, exact = (
        [tensor.detach().to(dtype).requires_grad_() for tensor in pair]
        for dtype in (torch.float32, torch.float64)
    )
    loss = fast_loss(Factors(inputs, (found[0], found[1])), weight, labels, weights)
    expected = plain_loss(
        Factors(inputs.double(), (exact[0], exact[1])), weight.double(), labels, weights.double()
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    nll = token_nll(Factors(inputs, (found[0], found[1])), weight, labels)
    assert nll.mean().item() == pytest.approx(expected.item(), rel=1e-6)
    pairs = zip(torch.autograd.grad(loss, found), torch.autograd.grad(expected, exact), strict=True)
    for gradient, reference in pairs:
        assert float((gradient - reference).abs().max() / reference.abs().max()) < FLOAT32


def test_fast_loss_agrees_where_only_part_of_a_low_rank_term_wants_a_gradient() -> None:
    layer = Layer()
    u, B = layer.factors.low_rank or ()
    layer.leaves = [B]
    layer.factors = Factors(layer.factors.inputs, (u.detach(), B))
    given = (layer.factors, layer.weight, layer.labels, layer.weights)
    assert_same(layer.gradients(fast_loss(*given))[0], layer.gradients(plain_loss(*given))[0])


def test_softcapped_loss_is_that_of_capped_logits() -> None:
    layer = Layer(bias=True, size=5.0)
    logits = F.linear(layer.factors.inputs, layer.weight, layer.bias)
    u, B = layer.factors.low_rank or ()
    capped = 3.0 * torch.tanh((logits + u @ B.T) / 3.0)
    expected = (F.cross_entropy(capped, layer.labels, reduction="none") * layer.weights).sum()
    assert_same(
        fast_loss(layer.factors, layer.weight, layer.labels, layer.weights, layer.bias, 3.0), expected
    )


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize(("low_rank", "scale", "bias"), list(itertools.product([False, True], repeat=3)))
def test_token_nll_is_cross_entropy(low_rank: bool, scale: bool, bias: bool, softcap: float | None) -> None:
    layer = Layer(low_rank=low_rank, scale=scale, bias=bias)
    logits = plain_logits(layer.factors, layer.weight, layer.bias, softcap)
    expected = F.cross_entropy(logits, layer.labels, reduction="none")
    assert_same(token_nll(layer.factors, layer.weight, layer.labels, layer.bias, softcap), expected)


def test_uniform_logits_give_the_vocabulary_size_as_perplexity() -> None:
    rows, length = 3, 5
    flat = rows * length
    labels = torch.arange(flat) * 7
    nll = token_nll(Factors(torch.zeros(flat, WIDTH)), torch.ones(OUTPUTS, WIDTH), labels)
    row = torch.arange(rows).repeat_interleave(length)
    split = Split(
        torch.zeros(flat, WIDTH), labels, torch.rand(flat) < 0.5, row, torch.zeros(flat).long(), None
    )
    found = row_perplexities(nll.numpy(), split, batch_size=2)
    assert found == pytest.approx({"perplexity_padded": OUTPUTS, "perplexity_masked": OUTPUTS}, rel=1e-6)


def test_a_perplexity_beyond_floating_point_is_left_out() -> None:
    row = torch.tensor([0, 0])
    split = Split(torch.zeros(2, 1), row, torch.tensor([True, False]), row, row, None)
    nll = np.array([0.5, 2000.0])
    assert row_perplexities(nll, split, 1) == {"perplexity_masked": pytest.approx(math.exp(0.5))}
