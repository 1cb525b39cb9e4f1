"""Recorded passes give the numbers of those that run: with a recorder that records by doing the work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
from qpabench.records.store import RunDirectory
from qpabench.training import passes as module
from qpabench.training.build import Built
from qpabench.training.checkpoint import Checkpoints
from qpabench.training.loop import Trained, train
from qpabench.training.passes import (
    VARIABLE,
    WARM_UPS,
    CapturedPasses,
    CudaRecorder,
    Passes,
    is_capturable,
    passes_of,
)
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


class Cuda:
    """Stands for ``torch.cuda``: notes in which order it is used."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.stream = "main"
        for name in (
            "Stream",
            "graph_pool_handle",
            "current_stream",
            "stream",
            "CUDAGraph",
            "graph",
            "set_stream",
        ):
            patch.setattr(torch.cuda, name, getattr(self, f"_{name}"))

    def _Stream(self, device: torch.device) -> SimpleNamespace:
        return self._named("side")

    def _named(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, wait_stream=lambda other: self.told.append(f"{name} waits for {other.name}")
        )

    def _graph_pool_handle(self) -> str:
        return "pool"

    def _current_stream(self, device: torch.device) -> SimpleNamespace:
        return self._named(self.stream)

    @contextmanager
    def _stream(self, stream: SimpleNamespace) -> Iterator[None]:
        before, self.stream = self.stream, stream.name
        yield
        self.stream = before

    def _CUDAGraph(self) -> SimpleNamespace:
        return SimpleNamespace(replay=lambda: self.told.append(f"replayed on {self.stream}"))

    @contextmanager
    def _graph(self, graph: object, *, pool: str, stream: SimpleNamespace) -> Iterator[None]:
        self.told.append(f"recorded on {stream.name} in {pool}")
        self.stream = stream.name
        yield
        self.stream = "main"  # not where the work raised, as in torch

    def _set_stream(self, stream: SimpleNamespace) -> None:
        self.stream = stream.name


def test_cuda_graphs_are_warmed_up_and_recorded_on_a_stream_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = Cuda(monkeypatch)
    recorder = CudaRecorder(torch.device("cuda"))
    recorder.warm_up(lambda: cuda.told.append(f"worked on {cuda.stream}"))
    replays = [recorder.record(lambda: cuda.told.append(f"worked on {cuda.stream}")) for _ in range(2)]
    for replay in replays:
        replay()
    assert cuda.told == [
        "side waits for main",
        *["worked on side"] * WARM_UPS,
        "main waits for side",
        *["recorded on side in pool", "worked on side"] * 2,
        *["replayed on main"] * 2,
    ]


def test_a_recording_that_fails_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)

    def work() -> None:
        raise RuntimeError("operation not permitted")

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaRecorder(torch.device("cuda")).record(work)
    assert cuda.stream == "main"


@pytest.mark.parametrize(
    ("name", "variable", "kind"),
    [
        ("released-code", "1", CapturedPasses),
        ("released-code", "0", Passes),
        ("dropout", "1", Passes),
        ("spsa", "1", Passes),
    ],
)
def test_a_gpu_records_what_can_be_recorded_unless_it_is_forbidden(
    name: str, variable: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cuda(monkeypatch)
    monkeypatch.setenv(VARIABLE, variable)
    cell = cell_of(tmp_path, EVERY[name])
    built = built_on(cell, plain_features(cell))
    monkeypatch.setattr(module, "device_of", lambda generator: torch.device("cuda"))
    assert type(passes_of(built)) is kind


def test_in_a_replayed_graph_circuit_and_mapping_are_one_phase(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, CAPTURABLE["released-code"])
    features = plain_features(cell)
    phases = [
        set(train(built_on(cell, features), features, cell.train, cell.seed, None, None, stepper).phases)
        for stepper in (Stepper, with_stand_in)
    ]
    assert phases == [
        {"circuit", "mapping", "head", "optimizer"},
        {"generator", "head", "optimizer"},
    ]


def with_stand_in(built: Built, *given: Any) -> Stepper:
    return Stepper(built, *given, at_once=False, passes=captured(StandIn())(built))


@pytest.mark.parametrize("name", ["released-code", "shuffled", "two-rates"])
def test_a_stopped_cell_goes_on_with_a_graph_of_its_own(name: str, tmp_path: Path) -> None:
    cell = cell_of(tmp_path, CAPTURABLE[name])
    features = plain_features(cell)

    def trained_with(checkpoints: Checkpoints | None, stop: int | None = None) -> Trained:
        def progress(step: int, steps: int, loss: float) -> None:
            if step == stop:
                raise KeyboardInterrupt

        built = built_on(cell, features)
        return train(built, features, cell.train, cell.seed, progress, checkpoints, with_stand_in)

    def checkpoints() -> Checkpoints:
        return Checkpoints(RunDirectory(tmp_path / "run"), cell.id, {"threads": 1}, 1e-9)

    whole = trained_with(None)
    with pytest.raises(KeyboardInterrupt):
        trained_with(checkpoints(), stop=7)
    resumed = trained_with(checkpoints())
    for series in ("train_loss", "theta_gradient_variance"):
        assert resumed.series[series].tolist() == whole.series[series].tolist()
