"""Each control and each rival through training: counted as planned, from the base model to a lower loss."""

from pathlib import Path

import numpy as np
import pytest
from written_suites import cells_of

from qpabench.suite.cell import Cell
from qpabench.training.features import ensure_features, open_features
from qpabench.training.loop import Result, run_cell

LORA = '{ name = "lora", rank = 2 }'
MAPPED = 'chunk_size = 64, n_layers = 2, basis_order = "fixed", start = "zero"'
CONTROLS = {
    name: f'{{ name = "{name}", {MAPPED} }}'.replace("n_layers = 2, ", layers)
    for name, layers in {
        "qpa": "n_layers = 2, ",
        "uniform": "",
        "frozen": "n_layers = 2, ",
        "shuffled": "n_layers = 2, ",
        "free": "",
        "angles-mlp": "n_layers = 2, ",
        "collapsed": "n_layers = 2, ",
    }.items()
} | {"random-projection": '{ name = "random-projection", budget = 100, start = "zero" }'}
RIVALS = {
    "vera": '{ name = "vera", rank = 8 }',
    "uni-lora": '{ name = "uni-lora", rank = 2, budget = 100 }',
    "fourierft": '{ name = "fourierft", budget = 100 }',
    "tinylora": '{ name = "tinylora", rank = 4, budget = 16 }',
}
DIRECT = '{ name = "direct", init = "target" }'
#: float32 sums in another order
TOLERANCE = 1e-5
#: shuffled draws its permutation anew, so only its first pass is at the base
AT_THE_BASE = [name for name in CONTROLS if name != "shuffled"]
WITH_CIRCUIT = ("qpa", "frozen", "shuffled", "collapsed")


def trained(folder: Path, target: str, generator: str, *settings: str) -> tuple[Cell, Result]:
    body = f"\n[[matrix]]\ntarget = {target}\ngenerator = {generator}\n"
    cell = cells_of(folder, body, ("train.learning_rate=3e-3", *settings))[0]
    return cell, run_cell(cell, open_features(ensure_features(cell)))


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_trains_as_planned(tmp_path: Path, name: str) -> None:
    cell, result = trained(tmp_path, LORA, CONTROLS[name], "train.epochs=3")
    found = result.metrics
    assert found["perplexity_padded"] < found["base_perplexity_padded"]
    assert found["n_trainable"] == cell.n_trainable
    assert found["n_theta"] == cell.n_theta
    assert (found.get("circuits_executed", 0) > 0) == (name in WITH_CIRCUIT)


@pytest.mark.parametrize("name", AT_THE_BASE)
def test_a_control_begins_at_the_base_model(tmp_path: Path, name: str) -> None:
    _, result = trained(tmp_path, LORA, CONTROLS[name], "train.epochs=0")
    assert result.metrics["perplexity_padded"] == pytest.approx(
        result.metrics["base_perplexity_padded"], rel=TOLERANCE
    )


def test_all_see_the_same_first_loss(tmp_path: Path) -> None:
    """Same rows in the same order, begun at the base model."""
    first = [
        trained(tmp_path, LORA, generator, "train.max_steps=1")[1].series["train_loss"][0]
        for generator in (*(CONTROLS[name] for name in AT_THE_BASE), DIRECT)
    ]
    assert np.ptp(first) == 0


def test_frozen_angles_stay_whatever_searches_them(tmp_path: Path) -> None:
    settings = ('train.theta_optimizer="cobyla"', "train.theta_evaluations=3")
    cell, result = trained(tmp_path, LORA, CONTROLS["frozen"], *settings)
    _, untrained = trained(tmp_path, LORA, CONTROLS["frozen"], "train.epochs=0")
    assert result.metrics["n_trainable"] == cell.n_trainable
    assert (result.state["angles"] == untrained.state["angles"]).all()


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_trains_as_planned(tmp_path: Path, name: str) -> None:
    cell, result = trained(tmp_path, RIVALS[name], DIRECT, "train.epochs=3", "train.learning_rate=1e-1")
    assert result.metrics["perplexity_padded"] < result.metrics["base_perplexity_padded"]
    assert result.metrics["n_trainable"] == cell.n_trainable


@pytest.mark.parametrize(
    ("name", "trained_there"), [("qpa", "angles"), ("free", "logits"), ("angles-mlp", "inputs")]
)
def test_what_stands_for_the_angles_has_their_learning_rate(
    name: str, trained_there: str, tmp_path: Path
) -> None:
    """The first step of AdamW moves each number by the learning rate."""
    rate = 0.5
    settings = f"train.learning_rate_theta={rate}", "train.scheduler=constant"
    _, before = trained(tmp_path, LORA, CONTROLS[name], "train.epochs=0", *settings)
    _, after = trained(tmp_path, LORA, CONTROLS[name], "train.max_steps=1", *settings)
    moved = {key: (after.state[key] - value).abs().max().item() for key, value in before.state.items()}
    assert moved.pop(trained_there) == pytest.approx(rate, rel=0.01)
    assert 0 < max(moved.values()) < 0.01
