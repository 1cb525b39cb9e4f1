"""Position vectors and feed-forward adapters against plain torch."""

import pytest
import torch
import torch.nn.functional as F

from qpabench.errors import UnsupportedError
from qpabench.hooks.entries import LayerShape
from qpabench.targets.ffa import FfaTarget
from qpabench.targets.options import FfaOptions, PrefixOptions
from qpabench.targets.prefix import PrefixTarget

WIDTH, OUTPUTS, TOKENS = 16, 50, 6
LAYER = LayerShape(WIDTH, OUTPUTS)
#: float32; sums of 16 products
TOLERANCE = 1e-5


@pytest.fixture
def inputs() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(TOKENS, WIDTH)


@pytest.fixture
def weight() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(OUTPUTS, WIDTH)


def test_each_position_gets_its_vector(inputs: torch.Tensor, weight: torch.Tensor) -> None:
    prefix = torch.randn(TOKENS, WIDTH)
    target = PrefixTarget(PrefixOptions(length=TOKENS), LAYER)
    positions = torch.tensor([3, 0, 5, 1, 2, 4])
    output = target.forward(inputs, positions, weight, {"prefix": prefix})
    assert torch.allclose(output, (inputs + prefix[positions]) @ weight.T, atol=TOLERANCE)


def test_positions_beyond_the_last_get_none(inputs: torch.Tensor, weight: torch.Tensor) -> None:
    target = PrefixTarget(PrefixOptions(length=2), LAYER)
    output = target.forward(inputs, torch.arange(TOKENS), weight, {"prefix": torch.ones(2, WIDTH)})
    assert torch.equal(output[2:], F.linear(inputs, weight)[2:])
    assert not torch.equal(output[:2], F.linear(inputs, weight)[:2])


def test_the_literal_reading_has_no_effect(inputs: torch.Tensor, weight: torch.Tensor) -> None:
    prefix = torch.randn(TOKENS, WIDTH)
    prepended = F.linear(torch.cat([prefix, inputs]), weight)[TOKENS:]
    target = PrefixTarget(PrefixOptions(length=TOKENS, reading="literal"), LAYER)
    output = target.forward(inputs, torch.arange(TOKENS), weight, {"prefix": prefix})
    assert torch.allclose(output, prepended, atol=TOLERANCE)
    assert torch.equal(output, F.linear(inputs, weight))


@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
def test_ffa_is_a_residual_bottleneck(activation: str, inputs: torch.Tensor, weight: torch.Tensor) -> None:
    down, up = torch.randn(4, WIDTH), torch.randn(WIDTH, 4)
    curve = {"none": lambda x: x, "relu": torch.relu, "gelu": F.gelu}[activation]
    target = FfaTarget(FfaOptions(activation=activation), LAYER)  # type: ignore[arg-type]
    output = target.forward(inputs, torch.arange(TOKENS), weight, {"up": up, "down": down})
    expected = (inputs + curve(inputs @ down.T) @ up.T) @ weight.T  # type: ignore[no-untyped-call]
    assert torch.allclose(output, expected, atol=TOLERANCE * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("target", "options"),
    [(FfaTarget, FfaOptions()), (PrefixTarget, PrefixOptions(length=TOKENS))],
    ids=["ffa", "prefix"],
)
def test_zero_is_the_base(target: type, options: object, inputs: torch.Tensor, weight: torch.Tensor) -> None:
    zeros = {
        spec.name: torch.zeros(spec.shape) if spec.zero_at_start else torch.randn(spec.shape)
        for spec in options.specs(LAYER)  # type: ignore[attr-defined]
    }
    output = target(options, LAYER).forward(inputs, torch.arange(TOKENS), weight, zeros)
    assert torch.equal(output, F.linear(inputs, weight))


def test_a_bottleneck_wider_than_the_input_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="wider than the layer's input of 16"):
        FfaOptions(bottleneck=17).specs(LAYER)


def test_default_bottleneck_is_a_quarter_of_the_input() -> None:
    assert [spec.shape for spec in FfaOptions().specs(LAYER)] == [(16, 4), (4, 16)]
