"""The QPA generator: finite at zero probability, its start, its randomness."""

import math

import pytest
import torch

from qpabench.circuits.ansatze import ry
from qpabench.circuits.gradients import CircuitFunction
from qpabench.circuits.native import NativeBackend
from qpabench.generators import qpa
from qpabench.generators.generator import GeneratorContext
from qpabench.generators.options import QpaOptions
from qpabench.generators.qpa import QpaGenerator, basis_bits, scaled_probability
from qpabench.hooks.entries import BackendOptions, LayerShape
from qpabench.targets.lora import LoraTarget
from qpabench.targets.options import LoraOptions

LAYER = LayerShape(d_in=8, d_out=40)
LORA = LoraOptions(rank=2)  # 2 (40 + 8) = 96 numbers
N_LAYERS = 2
PROTOCOLS = ("released-code", "paper-text")


def generator(protocol: str = "paper-text", seed: int = 0, **options: object) -> QpaGenerator:
    """96 numbers in chunks of 16: 6 chunks, 3 qubits."""
    resolved = QpaOptions(chunk_size=16, n_layers=N_LAYERS, **{**QpaOptions.presets[protocol], **options})  # type: ignore[arg-type]
    specs = LORA.specs(LAYER)
    n_qubits = resolved.ledger(specs).n_qubits
    assert n_qubits == 3
    circuit = CircuitFunction(
        NativeBackend(BackendOptions()), ry(n_qubits, N_LAYERS), BackendOptions(), "own", seed
    )
    return QpaGenerator(resolved, GeneratorContext(specs, seed, n_qubits, (N_LAYERS, n_qubits), circuit))


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("theta", [0.0, math.pi], ids=["0", "pi"])
def test_outputs_and_gradients_are_finite_where_a_probability_is_zero(protocol: str, theta: float) -> None:
    made = generator(protocol)
    with torch.no_grad():
        made.angles.fill_(theta)
    output = flat(made())
    output.square().sum().backward()
    assert output.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_the_scaled_feature_is_finite_at_exactly_zero() -> None:
    probabilities = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    feature = scaled_probability(probabilities, 2)
    (gradient,) = torch.autograd.grad(feature @ torch.arange(4.0, dtype=torch.float64), probabilities)
    assert feature.isfinite().all()
    assert gradient.isfinite().all()


def test_the_scaled_feature_is_the_formula() -> None:
    probabilities = [0.5, 0.25, 0.2, 0.05]
    curved = [(0.60 * math.tanh(0.1 * 2**1 * p)) ** 0.15 for p in probabilities]
    expected = [value - sum(curved) / 4 for value in curved]
    found = scaled_probability(torch.tensor(probabilities, dtype=torch.float64), 2)
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_the_scaled_feature_is_continuous_where_it_becomes_linear() -> None:
    around = torch.tensor([1e-16 * (1 - 1e-9), 1e-16 * (1 + 1e-9)], dtype=torch.float64)
    low, high = scaled_probability(around, 3).tolist()
    assert low == pytest.approx(high, abs=1e-9)


def test_bits_stand_least_significant_first() -> None:
    assert basis_bits(torch.tensor([6]), 3, "zero-one").tolist() == [[0.0, 1.0, 1.0]]
    assert basis_bits(torch.tensor([6]), 3, "plus-minus").tolist() == [[-1.0, 1.0, 1.0]]


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_zero_start_begins_exactly_at_the_base_model(activation: str) -> None:
    made = generator(start="zero", activation=activation)
    inputs, weight = torch.randn(5, LAYER.d_in), torch.randn(LAYER.d_out, LAYER.d_in)
    output = LoraTarget(LORA, LAYER).forward(inputs, torch.arange(5), weight, made())
    assert torch.equal(output, torch.nn.functional.linear(inputs, weight))


def test_zero_start_adds_no_trainable_number() -> None:
    counts = [sum(p.numel() for p in generator(start=start).parameters()) for start in ("random", "zero")]
    assert counts[0] == counts[1]


def test_zero_start_leaves_a_gradient() -> None:
    made = generator(start="zero")
    made()["lora_B"].sum().backward()
    assert made.angles.grad is not None
    assert made.angles.grad.abs().max() > 0


def test_random_start_changes_the_model() -> None:
    assert generator(start="random")()["lora_B"].abs().max() > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_same_seed_same_numbers(protocol: str) -> None:
    first, second = generator(protocol, seed=3), generator(protocol, seed=3)
    for _ in range(3):
        assert torch.equal(flat(first()), flat(second()))


def test_other_seed_other_numbers() -> None:
    assert not torch.equal(flat(generator(seed=3)()), flat(generator(seed=4)()))


def test_another_seed_gives_other_angles() -> None:
    assert not torch.equal(generator(seed=3).angles, generator(seed=4).angles)


def test_another_seed_gives_another_mapping_model() -> None:
    first, second = generator(seed=3).mapping.state_dict(), generator(seed=4).mapping.state_dict()
    assert not any(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_draws_other_strings() -> None:
    first, second = generator(seed=3, basis_order="redrawn"), generator(seed=4, basis_order="redrawn")
    draws = [[made.strings().tolist() for _ in range(5)] for made in (first, second)]
    assert draws[0] != draws[1]


def test_building_a_generator_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    generator("released-code")()
    assert torch.equal(before, torch.get_rng_state())


def test_fixed_strings_are_in_index_order() -> None:
    assert generator(basis_order="fixed").strings().tolist() == [0, 1, 2, 3, 4, 5]


def test_redrawn_strings_are_without_replacement() -> None:
    made = generator(basis_order="redrawn")
    for _ in range(50):
        drawn = made.strings().tolist()
        assert len(set(drawn)) == len(drawn) == made.n_chunks
        assert set(drawn) <= set(range(2**made.n_qubits))


def test_redrawn_strings_differ_between_passes() -> None:
    made = generator(basis_order="redrawn")
    assert len({tuple(made.strings().tolist()) for _ in range(20)}) > 15


def test_redrawn_strings_reach_every_state() -> None:
    made = generator(basis_order="redrawn")
    assert {string for _ in range(60) for string in made.strings().tolist()} == set(range(8))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("left_over", [0, 5])
def test_gradients_of_the_cut_chunks_are_those_of_autograd(centred: bool, left_over: int) -> None:
    chunks = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    m = chunks.numel() - left_over
    found: torch.Tensor = qpa._Flat.apply(chunks, m, centred)
    expected = chunks.flatten()[:m]
    expected = expected - expected.mean() if centred else expected
    assert torch.equal(found, expected)
    cotangent = torch.randn(m, dtype=torch.float64)
    pair = (torch.autograd.grad(value, chunks, cotangent)[0] for value in (found, expected))
    assert torch.allclose(*pair, rtol=0, atol=1e-15)


def test_centred_output_has_mean_zero() -> None:
    assert abs(float(flat(generator(centred_output=True)()).detach().mean())) < 1e-7  # float32 rounding


def test_generated_numbers_fill_the_target_in_its_order() -> None:
    made = generator()
    chunks = torch.arange(96.0).reshape(6, 16)
    tensors = made.assemble(chunks)
    assert torch.equal(tensors["lora_B"], torch.arange(80.0).reshape(40, 2))
    assert torch.equal(tensors["lora_A"], torch.arange(80.0, 96.0).reshape(2, 8))


def test_shapes_in_signatures_are_checked_in_tests() -> None:
    with pytest.raises(Exception, match="Type-check error"):
        scaled_probability(torch.ones(2, 4), 2)
