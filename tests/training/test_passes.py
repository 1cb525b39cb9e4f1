"""Recorded passes give the numbers of those that run: with a recorder that records by doing the work."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from steps import (
    CAPTURABLE,
    EVERY,
    STEPS,
    StandIn,
    Tape,
    as_on_a_gpu,
    built_on,
    captured,
    cell_of,
    plain_features,
    positions_of,
    stepper_of,
)

from qpabench.generators.controls import ShuffledGenerator
from qpabench.generators.qpa import QpaGenerator
from qpabench.training.passes import CapturedPasses, Passes, is_capturable
from qpabench.training.step import Stepper


def trained(folder: Path, body: str, passes: Callable[..., Passes] | None = None) -> Stepper:
    cell = cell_of(folder, body)
    features = plain_features(cell)
    stepper = stepper_of(cell, features, passes)
    for positions in positions_of(cell, features):
        stepper.step(positions)
    stepper.readings.fetch()
    return stepper


def assert_equal(found: Stepper, expected: Stepper) -> None:
    assert found.readings.losses[:STEPS].tolist() == expected.readings.losses[:STEPS].tolist()
    state, wanted = (stepper.built.generator.state_dict() for stepper in (found, expected))
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    gradients, others = found.readings.gradients, expected.readings.gradients
    assert [g.tolist() for g in gradients] == [g.tolist() for g in others]
    circuit, other = found.built.circuit, expected.built.circuit
    assert (circuit is None) == (other is None)
    if circuit is not None and other is not None:
        assert circuit.counts == other.counts
    streams, others_streams = found.built.generator.streams, expected.built.generator.streams
    assert streams.keys() == others_streams.keys()
    for name, stream in streams.items():
        assert torch.equal(stream.get_state(), others_streams[name].get_state())


@pytest.mark.parametrize("name", CAPTURABLE)
def test_recorded_passes_train_as_those_that_run(name: str, tmp_path: Path) -> None:
    """Basis strings and permutations are drawn anew in each, angles and weights change between them."""
    recorder = StandIn()
    found = trained(tmp_path, CAPTURABLE[name], captured(recorder))
    assert found.passes.graph == "captured"
    one_way = name == "literal"  # nothing comes back from the head
    assert recorder.done == {
        "warm-up": 1,
        "recorded": 1 if one_way else 2,
        "replayed": (STEPS - 1) * (1 if one_way else 2),
    }
    assert_equal(found, trained(tmp_path, CAPTURABLE[name]))


@pytest.mark.parametrize("name", CAPTURABLE)
def test_the_operations_alone_train_as_the_code_behind_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is replayed are operations on fixed memory, as in a CUDA graph: nothing else may be in a pass."""
    as_on_a_gpu(monkeypatch)
    found = trained(tmp_path, CAPTURABLE[name], captured(Tape()))
    assert found.passes.graph == "captured"
    assert_equal(found, trained(tmp_path, CAPTURABLE[name]))


@pytest.mark.parametrize("hidden", ["draws", "reads"])
def test_a_generator_that_draws_or_reads_as_it_computes_is_not_captured(
    hidden: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_gpu(monkeypatch)
    probabilities = QpaGenerator.probabilities

    def changed(self: QpaGenerator) -> torch.Tensor:
        found = probabilities(self)
        if hidden == "draws":
            return found[torch.randperm(len(found))]
        return found if float(found.detach().sum()) > 0 else found * 2

    monkeypatch.setattr(QpaGenerator, "probabilities", changed)
    found = trained(tmp_path, CAPTURABLE["paper-text"], captured(Tape()))
    assert found.passes.graph.startswith("eager: not captured")


def test_a_second_backward_pass_does_not_add_to_the_first(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, CAPTURABLE["paper-text"])
    features = plain_features(cell)
    stepper = stepper_of(cell, features, captured(StandIn()))
    (positions,) = positions_of(cell, features, 1)
    found = []
    for group in stepper.optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 0.0
    stepper.schedule.base_lrs = [0.0 for _ in stepper.schedule.base_lrs]
    for _ in range(STEPS):
        stepper.step(positions)
        found.append([p.grad.clone() for p in stepper.built.generator.parameters() if p.grad is not None])
    for gradients in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(gradients, found[0], strict=True))


def test_another_effect_of_the_tensors_is_recorded_anew(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, CAPTURABLE["paper-text"])
    features = plain_features(cell)
    recorder = StandIn()
    steppers = [stepper_of(cell, features, captured(recorder)), stepper_of(cell, features)]
    for names in (["lora_A"], ["lora_A"], ["lora_A", "lora_B"], ["lora_A", "lora_B"]):
        gradients = []
        for stepper in steppers:
            stepper.optimizer.zero_grad(set_to_none=True)
            leaves = stepper.passes.forward()
            torch.stack([leaves[name].square().sum() for name in names]).sum().backward()
            stepper.passes.backward(leaves)
            gradients.append([p.grad for p in stepper.built.generator.parameters()])
        for found, expected in zip(*gradients, strict=True):
            assert (found is None) == (expected is None)
            assert found is None or torch.equal(found, expected)
    assert recorder.done["warm-up"] == 2


class Refusing(StandIn):
    """A driver that can't."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        work()
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("name", ["released-code", "shuffled"])
def test_what_cannot_be_recorded_runs_as_it_is(name: str, tmp_path: Path) -> None:
    found = trained(tmp_path, CAPTURABLE[name], captured(Refusing()))
    assert found.passes.graph.startswith("eager: not captured (operation not permitted")
    assert_equal(found, trained(tmp_path, CAPTURABLE[name]))


@pytest.mark.parametrize("name", EVERY)
def test_what_runs_wholly_on_the_device_is_captured(name: str, tmp_path: Path) -> None:
    cell = cell_of(tmp_path, EVERY[name])
    assert is_capturable(built_on(cell, plain_features(cell))) == (name in CAPTURABLE)


@pytest.mark.parametrize("options", ['"pennylane"', '{ name = "native", shots = 50 }'])
def test_other_backends_and_shots_are_not_captured(options: str, tmp_path: Path) -> None:
    cell = cell_of(tmp_path, CAPTURABLE["released-code"] + f"backend = {options}\n")
    built = built_on(cell, plain_features(cell))
    assert not is_capturable(built)


@pytest.mark.parametrize("parent", [QpaGenerator, ShuffledGenerator])
def test_a_subclass_is_not_captured_unless_it_says_so(parent: type, tmp_path: Path) -> None:
    """It may draw where its parent doesn't: a graph would repeat its first draw."""
    cell = cell_of(tmp_path, CAPTURABLE["released-code"])
    built = built_on(cell, plain_features(cell))
    built.generator.__class__ = type("Other", (parent,), {})
    assert not is_capturable(built)


def test_on_the_cpu_nothing_is_recorded(tmp_path: Path) -> None:
    passes = trained(tmp_path, CAPTURABLE["released-code"]).passes
    assert not isinstance(passes, CapturedPasses)
    assert passes.graph == "eager"
