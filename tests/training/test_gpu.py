"""Cells on a GPU: the numbers of the CPU, no waiting, graphs, bfloat16, times. Skipped without one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import environment, in_subprocess
from steps import CAPTURABLE, DIRECT, EVERY, LORA, cell_of, plain_features, positions_of, stepper_of
from written_suites import QPA, write_suite

from qpabench.records.record import MACHINE_METRICS
from qpabench.records.store import RunDirectory
from qpabench.suite.cell import Cell
from qpabench.training.checkpoint import Checkpoints
from qpabench.training.live import features_of
from qpabench.training.loop import Result, run_cell
from qpabench.training.passes import VARIABLE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]
CUDA = torch.device("cuda", 0)
#: float32 through two epochs: other kernels, sums in another order
TOLERANCE = 1e-4
#: the same kernels, perhaps other algorithms of cuBLAS
GRAPH_TOLERANCE = 1e-5
BF16 = 'model = { name = "tiny-gpt2", dtype = "bfloat16", device = "cuda" }\n'
#: what only a GPU shows: copies to and from backends of the CPU, a search, the backbone
OTHERS = {
    "pennylane": CAPTURABLE["released-code"] + 'backend = "pennylane"\n',
    "shots": CAPTURABLE["released-code"] + 'backend = { name = "native", shots = 50 }\n',
    "cobyla": CAPTURABLE["released-code"]
    + 'train.theta_optimizer = "cobyla"\ntrain.theta_evaluations = 11\n',
    "masked": LORA + DIRECT + 'train.loss = "masked"\n',
    "live": 'target = { name = "lora", rank = 2, target_modules = ["c_attn", "lm_head"] }\n' + DIRECT,
}
CELLS = EVERY | OTHERS


def on_gpu(folder: Path, body: str) -> Cell:
    return cell_of(folder, body, 'model.device="cuda"')


def run(cell: Cell, checkpoints: Checkpoints | None = None) -> Result:
    return run_cell(cell, features_of(cell), None, checkpoints)


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_the_numbers_of_the_cpu(name: str, tmp_path: Path) -> None:
    found, expected = run(on_gpu(tmp_path, CELLS[name])), run(cell_of(tmp_path, CELLS[name]))
    assert np.allclose(found.series["train_loss"], expected.series["train_loss"], rtol=TOLERANCE)
    for metric in ("perplexity_padded", "perplexity_masked", "base_perplexity_padded"):
        assert found.metrics[metric] == pytest.approx(expected.metrics[metric], rel=TOLERANCE)
    counted = ("n_trainable", "n_steps", "circuits_executed", "shots_executed")
    assert all(found.metrics.get(metric) == expected.metrics.get(metric) for metric in counted)
    assert all(value.device.type == "cpu" for value in found.state.values())


@pytest.mark.parametrize("name", CELLS)
def test_the_record_says_whether_a_graph_was_captured(name: str, tmp_path: Path) -> None:
    facts = run(on_gpu(tmp_path, CELLS[name])).facts
    assert facts["graph"] == ("captured" if name in CAPTURABLE or name == "cobyla" else "eager")


@pytest.mark.parametrize("name", CAPTURABLE)
def test_a_graph_gives_the_numbers_of_what_it_recorded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = on_gpu(tmp_path, CAPTURABLE[name])
    captured = run(cell)
    monkeypatch.setenv(VARIABLE, "0")
    eager = run(cell)
    assert (captured.facts["graph"], eager.facts["graph"]) == ("captured", "eager")
    assert np.allclose(captured.series["train_loss"], eager.series["train_loss"], rtol=GRAPH_TOLERANCE)
    for state, value in eager.state.items():
        assert torch.allclose(captured.state[state], value, rtol=1e-3, atol=1e-4)
    assert captured.metrics.get("circuits_executed") == eager.metrics.get("circuits_executed")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("graph", ["0", "1"])
def test_a_step_waits_for_nothing(
    name: str, graph: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, graph)
    cell = on_gpu(tmp_path, EVERY[name])
    features = plain_features(cell)
    stepper = stepper_of(cell, features)
    steps = positions_of(cell, features, 8)
    for positions in steps[:3]:  # tables are made, a graph is recorded
        stepper.step(positions)
    with no_waiting():
        for positions in steps[3:]:
            stepper.step(positions)
    stepper.readings.fetch()
    assert np.isfinite(stepper.readings.losses[: len(steps)]).all()


def test_waiting_would_be_noticed() -> None:
    value = torch.ones((), device=CUDA)
    with no_waiting(), pytest.raises(RuntimeError, match="synchronizing"):
        value.item()


def test_a_split_that_does_not_fit_is_copied_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = on_gpu(tmp_path, EVERY["dropout"])
    whole = run(cell)
    monkeypatch.setattr("qpabench.training.features.RESIDENT_SHARE", 0.0)
    features = plain_features(cell)
    stepper = stepper_of(cell, features)
    assert stepper.split.features.device.type == "cpu"
    steps = positions_of(cell, features, 8)
    stepper.step(steps[0])
    with no_waiting():
        for positions in steps[1:]:
            stepper.step(positions)
    assert np.allclose(run(cell).series["train_loss"], whole.series["train_loss"], rtol=GRAPH_TOLERANCE)


@pytest.mark.parametrize("name", ["released-code", "dropout", "prefix", "ffa", "vera", "fourierft"])
def test_an_output_layer_in_bfloat16_trains_as_in_float32(name: str, tmp_path: Path) -> None:
    cell = cell_of(tmp_path, BF16 + EVERY[name])
    halved = features_of(cell)
    assert halved.head_path == "blocks-bfloat16"
    wider = replace(halved, weight=halved.weight.float())
    assert wider.head_path == "blocks"
    found, expected = run_cell(cell, halved), run_cell(cell, wider)
    assert np.allclose(found.series["train_loss"], expected.series["train_loss"], rtol=TOLERANCE)
    assert found.metrics["perplexity_masked"] == pytest.approx(
        expected.metrics["perplexity_masked"], rel=TOLERANCE
    )


def test_times_are_those_of_the_work(tmp_path: Path) -> None:
    found = run(on_gpu(tmp_path, CAPTURABLE["released-code"]))
    seconds, train = found.series["step_seconds"], found.metrics["train_seconds"]
    assert (seconds > 0).all()
    assert seconds.sum() < 1.05 * train
    phases = {name: value for name, value in found.phases.items() if name != "evaluation"}
    assert set(phases) == {"generator", "head", "optimizer"}
    assert 0.5 * seconds.sum() < sum(phases.values()) < 1.05 * seconds.sum()


def test_a_long_kernel_is_in_the_time_of_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cycles = 200_000_000  # a tenth of a second on a clock of 2 GHz

    def slow(*given: object) -> torch.Tensor:
        torch.cuda._sleep(cycles)
        return loss(*given)

    from qpabench.training import step as module

    loss = module.fast_loss
    monkeypatch.setattr(module, "fast_loss", slow)
    found = run(on_gpu(tmp_path, LORA + DIRECT))
    assert found.metrics["step_seconds_median"] > 0.03
    assert found.phases["head"] > 0.9 * found.series["step_seconds"].sum()


def test_a_stopped_cell_goes_on(tmp_path: Path) -> None:
    cell = on_gpu(tmp_path, CAPTURABLE["released-code"])
    whole = run(cell)

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 6:
            raise KeyboardInterrupt

    def checkpoints() -> Checkpoints:
        return Checkpoints(RunDirectory(tmp_path / "run"), cell.id, {"threads": 1}, 1e-9)

    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, features_of(cell), stop, checkpoints())
    resumed = run(cell, checkpoints())
    assert np.allclose(resumed.series["train_loss"], whole.series["train_loss"], rtol=GRAPH_TOLERANCE)
    assert resumed.metrics["circuits_executed"] == whole.metrics["circuits_executed"]


@pytest.mark.parametrize("name", ["released-code", "dora", "prefix"])
def test_the_same_cell_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    cell = on_gpu(tmp_path, EVERY[name])
    first, second = run(cell), run(cell)
    assert np.array_equal(first.series["train_loss"], second.series["train_loss"])
    assert np.array_equal(first.series["test_nll"], second.series["test_nll"])
    for metric in first.metrics.keys() - MACHINE_METRICS:
        assert first.metrics[metric] == second.metrics[metric]


def test_the_command_runs_a_suite_on_the_gpu(tmp_path: Path) -> None:
    write_suite(tmp_path, QPA)
    command = ["run", "suite.toml", "--device", "cuda:0", "--out", "run"]
    done = in_subprocess(command, environment(tmp_path / "cache"), tmp_path)
    assert done.code == 0, done
    (path,) = (tmp_path / "run" / "records").glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["status"] == "ok", record["reason"]
    assert record["provenance"]["circuit"]["graph"] == "captured"
    assert record["provenance"]["head"] == "blocks"
    assert record["provenance"]["hardware"]["gpu"] == torch.cuda.get_device_name(0)
