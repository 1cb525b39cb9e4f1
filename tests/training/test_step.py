"""A training step reads no value and mixes no devices: what a GPU needs, shown without one."""

import math
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from steps import (
    EVERY,
    META,
    Reads,
    as_on_a_gpu,
    built_on,
    cell_of,
    plain_features,
    positions_of,
    stepper_of,
)

from qpabench.errors import NumericalError
from qpabench.records.store import RunDirectory
from qpabench.training.checkpoint import Checkpoints
from qpabench.training.loop import Trained, train
from qpabench.training.readings import Readings
from qpabench.training.step import Stepper
from qpabench.training.stopwatch import Stopwatch

#: float32: AdamW's fused kernel, losses summed chunk by chunk
TOLERANCE = 1e-5


@pytest.mark.parametrize("name", EVERY)
def test_a_step_reads_no_value_and_mixes_no_devices(name: str, tmp_path: Path) -> None:
    """Tensors of the meta device have no values: reading one raises, as does mixing it with the CPU's."""
    cell = cell_of(tmp_path, EVERY[name])
    features = plain_features(cell)
    stepper = stepper_of(cell, features.on(META))
    try:
        for positions in positions_of(cell, features):
            stepper.step(positions)
    except (RuntimeError, NotImplementedError) as error:
        pytest.fail(str(error))
    assert stepper.split.features.device == META
    trained = list(stepper.built.generator.parameters())
    assert {p.device for p in trained} == {META}
    assert name == "literal" or any(p.grad is not None for p in trained)


def test_the_meta_device_would_notice() -> None:
    value = torch.zeros((), device=META)
    for read in (value.item, value.__bool__, value.cpu, lambda: value + torch.ones(2)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read()


@pytest.mark.parametrize("name", EVERY)
def test_a_step_makes_no_host_wait(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read, and no result has a size that depends on values."""
    as_on_a_gpu(monkeypatch)
    cell = cell_of(tmp_path, EVERY[name])
    features = plain_features(cell)
    stepper, steps = stepper_of(cell, features), positions_of(cell, features)
    stepper.step(steps[0])  # the circuit's tables are made, on the host
    with Reads() as reads:
        for positions in steps[1:]:
            stepper.step(positions)
    assert not reads.found


def test_the_counter_would_notice() -> None:
    values = torch.arange(3.0)
    with Reads() as reads:
        values.sum().item()
        bool((values > 1).any())
        values[values > 1]
        torch.unique(values)
    assert reads.found == {"_local_scalar_dense": 2, "index by a mask": 1, "_unique2": 1}


@pytest.mark.parametrize("name", ["released-code", "dropout", "dora", "prefix", "ffa", "vera", "two-rates"])
def test_losses_fetched_now_and_then_are_those_read_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of(tmp_path, EVERY[name])
    features = plain_features(cell)
    expected = train(built_on(cell, features), features, cell.train, cell.seed, None)
    as_on_a_gpu(monkeypatch)
    told: list[float] = []
    found = train(
        built_on(cell, features),
        features,
        cell.train,
        cell.seed,
        lambda step, steps, loss: told.append(loss),
        make_stepper=partial(Stepper, at_once=False),
    )
    assert np.allclose(found.series["train_loss"], expected.series["train_loss"], rtol=TOLERANCE)
    assert found.metrics["n_steps"] == expected.metrics["n_steps"] == 16
    assert found.metrics.get("gradient_variance_theta", 0) == pytest.approx(
        expected.metrics.get("gradient_variance_theta", 0), rel=100 * TOLERANCE
    )
    assert (found.series["step_seconds"] > 0).all()
    # the first is fetched at once, the others at the end
    assert told == [found.series["train_loss"][0]] * 15 + [found.series["train_loss"][15]]


@pytest.mark.parametrize("between", [1, 3, 64])
def test_the_first_loss_that_is_not_finite_is_named_when_it_is_fetched(between: int) -> None:
    readings = Readings(9, Stopwatch(), at_once=False, between=between)

    def step(loss: float) -> None:
        readings.loss(torch.tensor(loss))
        readings.end(0.0)
        readings.fetch_if_due()

    with pytest.raises(NumericalError, match=r"loss is nan at step 5 of 9; .* smaller learning rate"):
        deque(map(step, [1.0] * 4 + [math.nan] * 5), maxlen=0)
    assert readings.done <= 4


def test_a_gradient_is_taken_before_its_memory_is_written_to_again() -> None:
    readings = Readings(2, Stopwatch(), at_once=False)
    memory = torch.zeros(2, 2)
    for step in range(2):
        memory.fill_(step)
        readings.loss(torch.tensor(1.0))
        readings.gradient(memory)
        readings.end(0.0)
    readings.fetch()
    assert [gradient.tolist() for gradient in readings.gradients] == [[0.0] * 4, [1.0] * 4]


def test_a_checkpoint_holds_what_had_not_been_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell stopped between two fetches goes on as if nothing had happened."""
    as_on_a_gpu(monkeypatch)
    cell = cell_of(tmp_path, EVERY["released-code"])
    features = plain_features(cell)

    def trained(checkpoints: Checkpoints | None, stop: int | None = None) -> Trained:
        def progress(step: int, steps: int, loss: float) -> None:
            if step == stop:
                raise KeyboardInterrupt

        built = built_on(cell, features)
        stepper = partial(Stepper, at_once=False)
        return train(built, features, cell.train, cell.seed, progress, checkpoints, stepper)

    def checkpoints() -> Checkpoints:
        return Checkpoints(RunDirectory(tmp_path / "run"), cell.id, {"threads": 1}, 1e-9)

    whole = trained(None)
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoints(), stop=6)
    resumed = trained(checkpoints())
    for name in ("train_loss", "theta_gradient_variance"):
        assert np.array_equal(resumed.series[name], whole.series[name])


def test_phases_are_those_between_events() -> None:
    """As on a GPU: an event has its time once the work before it is done, and is asked for it only then."""
    clock = iter(range(0, 10_000, 500))  # milliseconds
    asked: list[str] = []

    class Event:
        at: float

        def record(self) -> None:
            asked.append("record")
            self.at = next(clock)

        def synchronize(self) -> None:
            asked.append("synchronize")

        def elapsed_time(self, end_event: "Event") -> float:
            asked.append("elapsed")
            return end_event.at - self.at

    watch = Stopwatch(Event)
    for _ in range(2):
        started = watch.now()
        head = watch.now()
        watch.add("head", head)
        watch.lap(started)
    assert "elapsed" not in asked
    watch.settle()
    assert asked.count("synchronize") == 1
    assert watch.seconds == {"head": 1.0}
    assert watch.taken_laps() == [1.5, 1.5]
    assert watch.taken_laps() == []
