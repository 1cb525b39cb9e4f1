"""Each control differs from QPA in the stated way, and in nothing else, to the bit."""

import math
from dataclasses import replace

import pytest
import torch

from qpabench.circuits.ansatze import ry
from qpabench.circuits.gradients import CircuitFunction
from qpabench.circuits.native import NativeBackend
from qpabench.errors import UnsupportedError
from qpabench.generators.control_options import RandomProjectionOptions
from qpabench.generators.controls import (
    CollapsedGenerator,
    FreeGenerator,
    FrozenGenerator,
    RandomProjectionGenerator,
    ShuffledGenerator,
)
from qpabench.generators.generator import Generator, GeneratorContext
from qpabench.generators.qpa import MappedGenerator, QpaGenerator
from qpabench.hooks.entries import BackendOptions, GeneratorEntry, GeneratorOptions, LayerShape
from qpabench.hooks.manager import load_registry
from qpabench.targets.lora import LoraTarget
from qpabench.targets.options import LoraOptions

LAYER = LayerShape(d_in=8, d_out=40)
LORA = LoraOptions(rank=2)  # 2 (40 + 8) = 96 numbers in chunks of 16: 6 chunks, 3 qubits
SPECS = LORA.specs(LAYER)
N_LAYERS, N_QUBITS, N_THETA = 2, 3, 6
MAPPING = 32 * 5 + 33 * 64 + 65 * 128 + 129 * 128 + 129 * 64 + 65 * 32 + 33 * 32 + 33 * 16
#: same initial numbers through another order of float32 sums
ROUNDING = 1e-5
PROTOCOLS = ("released-code", "paper-text")
#: what takes the probabilities' place, the mapping untouched
PROBABILITIES = ("uniform", "frozen", "shuffled", "free", "angles-mlp")
CONTROLS = (*PROBABILITIES, "collapsed", "random-projection")


def entry_of(name: str) -> GeneratorEntry:
    entry = load_registry().find("generator", name).entry
    assert isinstance(entry, GeneratorEntry)
    return entry


def options_of(name: str, protocol: str = "released-code", **options: object) -> GeneratorOptions:
    model = entry_of(name).options
    given = (
        {"chunk_size": 16, "n_layers": N_LAYERS, "budget": 30}
        | dict(model.presets.get(protocol, {}))
        | options
    )
    made = model(**{key: value for key, value in given.items() if key in model.model_fields})
    assert isinstance(made, GeneratorOptions)
    return made


def made(name: str, protocol: str = "released-code", seed: int = 0, **options: object) -> Generator:
    entry = entry_of(name)
    context = GeneratorContext(SPECS, seed)
    if entry.uses_circuit:
        circuit = CircuitFunction(
            NativeBackend(BackendOptions()), ry(N_QUBITS, N_LAYERS), BackendOptions(), "own", seed
        )
        context = replace(context, n_qubits=N_QUBITS, angles_shape=(N_LAYERS, N_QUBITS), circuit=circuit)
    generator = entry.component()(options_of(name, protocol, **options), context)
    assert isinstance(generator, Generator)
    return generator


def mapped(name: str, protocol: str = "released-code", **options: object) -> MappedGenerator:
    generator = made(name, protocol, **options)
    assert isinstance(generator, MappedGenerator)
    return generator


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


@pytest.mark.parametrize("name", PROBABILITIES)
def test_the_mapping_begins_with_the_weights_of_qpa(name: str) -> None:
    ours, theirs = mapped(name).mapping.state_dict(), mapped("qpa").mapping.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", PROBABILITIES)
def test_with_the_same_probabilities_the_same_numbers_to_the_bit(
    name: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, qpa = mapped(name, protocol), mapped("qpa", protocol)
    given = torch.softmax(torch.randn(8, generator=torch.Generator().manual_seed(1), dtype=torch.float64), 0)
    for generator in (ours, qpa):
        monkeypatch.setattr(generator, "probabilities", lambda: given)
    for _ in range(4):  # redrawn strings too
        assert torch.equal(flat(ours()), flat(qpa()))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", [*PROBABILITIES, "collapsed"])
def test_strings_are_drawn_as_qpa_draws_them(name: str, protocol: str) -> None:
    ours, qpa = mapped(name, protocol), mapped("qpa", protocol)
    for _ in range(4):
        ours.probabilities()
        assert torch.equal(ours.strings(), qpa.strings())


@pytest.mark.parametrize("name", [*PROBABILITIES, "collapsed"])
def test_probabilities_are_a_distribution(name: str) -> None:
    probabilities = mapped(name).probabilities().detach()
    assert probabilities.dtype == torch.float64
    assert len(probabilities) == 8
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-12)
    assert (probabilities >= 0).all()


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_zero_start_begins_exactly_at_the_base_model(name: str, protocol: str) -> None:
    still = {} if name == "random-projection" else {"basis_order": "fixed"}
    if name == "shuffled":
        still["permutation"] = "fixed"
    generator = made(name, protocol, start="zero", **still)
    inputs, weight = torch.randn(5, LAYER.d_in), torch.randn(LAYER.d_out, LAYER.d_in)
    output = LoraTarget(LORA, LAYER).forward(inputs, torch.arange(5), weight, generator())
    assert torch.equal(output, torch.nn.functional.linear(inputs, weight))


@pytest.mark.parametrize("name", CONTROLS)
def test_zero_start_adds_no_trainable_number(name: str) -> None:
    counts = [sum(p.numel() for p in made(name, start=start).parameters()) for start in ("random", "zero")]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("name", "n_mapping", "n_theta"),
    [
        ("qpa", MAPPING, N_THETA),
        ("uniform", MAPPING, 0),
        ("frozen", MAPPING, 0),
        ("shuffled", MAPPING, N_THETA),
        ("free", MAPPING + 8, 0),
        ("angles-mlp", MAPPING + N_THETA, 0),
        ("collapsed", 5 * 16, N_THETA),
    ],
)
def test_the_ledger_counts_what_is_trained(name: str, n_mapping: int, n_theta: int) -> None:
    ledger = options_of(name).ledger(SPECS)
    assert ledger.n_mapping == n_mapping
    assert sum(p.numel() for p in made(name).parameters() if p.requires_grad) == n_mapping + n_theta
    assert ledger.trains_theta is (name != "frozen")


@pytest.mark.parametrize("name", CONTROLS)
def test_everything_trained_receives_a_gradient(name: str) -> None:
    generator = made(name, "paper-text", start="zero")
    weights = torch.randn(96, generator=torch.Generator().manual_seed(2))
    (flat(generator()) @ weights).backward()
    trained = [p for p in generator.parameters() if p.requires_grad]
    assert trained
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trained)


@pytest.mark.parametrize("name", CONTROLS)
def test_same_seed_same_numbers(name: str) -> None:
    first, second = made(name, seed=3), made(name, seed=3)
    for _ in range(3):
        assert torch.equal(flat(first()), flat(second()))


def test_uniform_is_constant() -> None:
    assert mapped("uniform").probabilities().tolist() == [1 / 8] * 8


def test_frozen_has_the_angles_of_qpa_and_never_trains_them() -> None:
    frozen, qpa = made("frozen"), made("qpa")
    assert isinstance(frozen, FrozenGenerator)
    assert isinstance(qpa, QpaGenerator)
    assert torch.equal(frozen.angles, qpa.angles)
    assert not frozen.angles.requires_grad


def test_shuffled_holds_the_probabilities_of_qpa_in_another_order_each_pass() -> None:
    shuffled, qpa = mapped("shuffled"), mapped("qpa")
    drawn = [shuffled.probabilities().tolist() for _ in range(10)]
    assert all(sorted(one) == sorted(qpa.probabilities().tolist()) for one in drawn)
    assert len({tuple(one) for one in drawn}) > 5


def test_shuffled_held_still_keeps_one_order() -> None:
    still = options_of("shuffled").held_still()
    generator = made("shuffled", **still.model_dump())
    assert isinstance(generator, ShuffledGenerator)
    assert torch.equal(flat(generator()), flat(generator()))


def test_free_begins_uniform_on_the_simplex() -> None:
    """Kolmogorov's distance of N p from 1 - (1 - p)^(N - 1), over many draws."""
    found = []
    for seed in range(400):
        generator = made("free", seed=seed)
        assert isinstance(generator, FreeGenerator)
        found.append(generator.probabilities()[0].item())
    expected = [1 - (1 - p) ** 7 for p in sorted(found)]
    distance = max(abs(value - (rank + 0.5) / 400) for rank, value in enumerate(expected))
    assert distance < 1.63 / math.sqrt(400)  # the 1 % point


def test_angles_mlp_has_as_many_inputs_as_the_circuit_has_angles() -> None:
    for per_qubit in (1, 2):
        generator = made("angles-mlp", angles_per_qubit=per_qubit)
        assert sum(p.numel() for p in generator.parameters()) - MAPPING == N_THETA * per_qubit


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_collapsed_begins_as_the_function_qpa_begins_as(protocol: str) -> None:
    collapsed = made("collapsed", protocol)
    qpa = made("qpa", protocol, activation="none")
    assert isinstance(collapsed, CollapsedGenerator)
    for _ in range(3):
        assert torch.allclose(flat(collapsed()), flat(qpa()), atol=ROUNDING)


def test_collapsed_takes_no_activation() -> None:
    with pytest.raises(ValueError, match="none"):
        options_of("collapsed", activation="gelu")


def test_random_projection_has_the_budget_of_qpa_to_the_digit() -> None:
    specs = LORA.specs(LayerShape(d_in=2048, d_out=60000))
    for per_qubit in (1, 2):
        ledger = RandomProjectionOptions(angles_per_qubit=per_qubit).ledger(specs)
        qpa = options_of("qpa", chunk_size=2048, n_layers=8).ledger(specs)
        assert qpa.n_qubits is not None
        assert ledger.n_mapping == qpa.n_mapping + qpa.n_qubits * 8 * per_qubit


def test_random_projection_keeps_distances() -> None:
    generator = made("random-projection", "paper-text", budget=17)
    assert isinstance(generator, RandomProjectionGenerator)
    first, before = flat(generator()), generator.values.detach().clone()
    with torch.no_grad():
        generator.values += torch.randn(17)
    moved = (flat(generator()) - first).detach().norm()
    assert float(moved) == pytest.approx(float((generator.values.detach() - before).norm()), rel=1e-5)


def test_a_budget_that_cannot_be_met_says_the_nearest() -> None:
    with pytest.raises(UnsupportedError, match="nearest budget is 96"):
        RandomProjectionOptions(budget=97).ledger(SPECS)
