"""Direct training: initial values, and where it starts."""

import torch

from qpabench.generators.direct import DirectGenerator
from qpabench.generators.generator import GeneratorContext
from qpabench.generators.options import DirectOptions
from qpabench.hooks.entries import LayerShape, TensorSpec
from qpabench.targets.options import LoraOptions

SPECS = LoraOptions(rank=4).specs(LayerShape(d_in=64, d_out=3000))


def values(
    seed: int = 0, specs: tuple[TensorSpec, ...] = SPECS, **options: object
) -> dict[str, torch.Tensor]:
    return DirectGenerator(DirectOptions(**options), GeneratorContext(specs, seed))()  # type: ignore[arg-type]


def test_lora_begins_as_peft_begins_it() -> None:
    found = values()
    assert not found["lora_B"].any()
    assert found["lora_A"].abs().max() <= 1 / 64**0.5


def test_normal_draws_both_factors_with_the_released_deviation() -> None:
    deviation = float(values(init="normal")["lora_B"].detach().std())
    assert abs(deviation - 0.01) < 0.01 * 5 / (2 * 12000) ** 0.5  # five standard errors of a deviation


def test_same_seed_same_numbers() -> None:
    assert torch.equal(values(seed=1)["lora_A"], values(seed=1)["lora_A"])


def test_other_seed_other_numbers() -> None:
    assert not torch.equal(values(seed=1)["lora_A"], values(seed=2)["lora_A"])


def test_tensors_of_other_names_are_drawn_apart() -> None:
    specs = (TensorSpec("one", (4, 4)), TensorSpec("two", (4, 4)))
    found = values(specs=specs)
    assert not torch.equal(found["one"], found["two"])


def test_zero_start_subtracts_the_initial_value() -> None:
    assert not values(init="normal", start="zero")["lora_B"].any()


def test_every_number_is_trainable() -> None:
    made = DirectGenerator(DirectOptions(), GeneratorContext(SPECS, 0))
    assert sum(p.numel() for p in made.parameters()) == DirectOptions().ledger(SPECS).n_free
