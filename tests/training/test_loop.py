"""The training loop: order of the data, learning rates, losses, and what it refuses."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import get_linear_schedule_with_warmup
from written_suites import DIRECT, QPA, cells_of

from qpabench.errors import NumericalError
from qpabench.suite.options import TrainOptions
from qpabench.training.features import Features, Split, ensure_features, open_features
from qpabench.training.loop import Result, batches, count_steps, run_cell
from qpabench.training.step import learning_rate_factor

ROWS, LENGTH = 7, 4
#: rows 2 and 5 are padding alone
MASK = torch.tensor(
    [[1, 1, 0, 0], [1, 0, 0, 0], [0] * 4, [1] * 4, [1, 1, 1, 0], [0] * 4, [1, 1, 0, 0]]
).bool()
SPLIT = Split(
    features=torch.zeros(ROWS * LENGTH, 2),
    labels=torch.zeros(ROWS * LENGTH, dtype=torch.long),
    mask=MASK.flatten(),
    row=torch.arange(ROWS).repeat_interleave(LENGTH),
    position=torch.arange(LENGTH).repeat(ROWS),
    base_nll=None,
)


def order(seed: int = 0, **options: Any) -> list[list[int]]:
    return [positions.tolist() for positions in batches(SPLIT, TrainOptions(**options), seed)]


def trained(folder: Path, body: str = DIRECT, *settings: str) -> tuple[Result, Features]:
    (cell,) = cells_of(folder, body, settings)
    features = open_features(ensure_features(cell))
    return run_cell(cell, features), features


def test_each_epoch_sees_every_position_once() -> None:
    steps = order(epochs=2)
    for epoch in (steps[:ROWS], steps[ROWS:]):
        assert sorted(position for step in epoch for position in step) == list(range(ROWS * LENGTH))


def test_the_order_depends_on_the_seed_alone() -> None:
    assert order(seed=5, learning_rate=1.0) == order(seed=5, learning_rate=1e-4)


def test_another_seed_gives_another_order() -> None:
    assert order(seed=5) != order(seed=6)


def test_epochs_are_shuffled_anew() -> None:
    steps = order(epochs=2)
    assert steps[:ROWS] != steps[ROWS:]


def test_the_order_ignores_the_global_random_state() -> None:
    torch.manual_seed(1)
    first = order()
    torch.manual_seed(2)
    assert order() == first


def test_a_masked_loss_leaves_padding_and_empty_rows_out() -> None:
    steps = order(epochs=1, loss="masked")
    assert len(steps) == ROWS - 2
    assert (
        sorted(position for step in steps for position in step) == MASK.flatten().nonzero().flatten().tolist()
    )


@pytest.mark.parametrize("loss", ["padded", "masked"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_steps_are_counted_as_they_come(loss: str, batch_size: int) -> None:
    options = TrainOptions(epochs=3, batch_size=batch_size, loss=loss)  # type: ignore[arg-type]
    assert count_steps(SPLIT, options) == len(list(batches(SPLIT, options, 0)))


def test_max_steps_bounds_the_steps() -> None:
    assert count_steps(SPLIT, TrainOptions(epochs=3, max_steps=4)) == 4


def test_cells_with_one_seed_see_the_same_rows(tmp_path: Path) -> None:
    """Without learning, the losses of two generators that start at the base model are those of the data."""
    zero = QPA.replace("n_layers = 2", 'n_layers = 2, basis_order = "fixed", start = "zero"')
    frozen = ("train.learning_rate=1e-30", "train.epochs=2")
    direct, _ = trained(tmp_path, DIRECT, *frozen)
    qpa, _ = trained(tmp_path, zero, *frozen)
    assert np.allclose(direct.series["train_loss"], qpa.series["train_loss"], rtol=1e-6)
    assert len(np.unique(direct.series["train_loss"].round(4))) > 3


@pytest.mark.parametrize("warmup", [0, 3])
def test_the_linear_schedule_is_that_of_transformers(warmup: int) -> None:
    steps = 17
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)
    for step in range(steps):
        found = learning_rate_factor(step, steps, TrainOptions(warmup_steps=warmup))
        assert found == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_the_cosine_schedule_falls_from_one_to_zero() -> None:
    options = TrainOptions(scheduler="cosine")
    factors = [learning_rate_factor(step, 10, options) for step in range(11)]
    assert factors[0] == 1
    assert factors[5] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in pairwise(factors))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    result, _ = trained(tmp_path, DIRECT, "train.epochs=8", "train.learning_rate=0.03")
    losses = result.series["train_loss"]
    assert losses[-8:].mean() < 0.7 * losses[:8].mean()


def test_the_first_loss_is_the_base_models_on_its_row(tmp_path: Path) -> None:
    result, features = trained(tmp_path, DIRECT, "train.max_steps=1")
    split = features.splits["train"]
    positions = next(batches(split, TrainOptions(), 0))
    logits = split.features[positions] @ features.weight.T
    expected = torch.nn.functional.cross_entropy(logits, split.labels[positions])
    assert result.series["train_loss"][0] == pytest.approx(float(expected), rel=1e-5)  # float32


def test_a_learning_rate_of_its_own_moves_theta(tmp_path: Path) -> None:
    """Angles alone move when everything else has a vanishing learning rate."""
    settings = ("train.learning_rate=1e-30", "train.learning_rate_theta=0.1")
    moved, _ = trained(tmp_path, QPA, *settings)
    still, _ = trained(tmp_path, QPA, "train.epochs=0")
    changed = {name for name, value in moved.state.items() if not torch.allclose(value, still.state[name])}
    assert changed == {"angles"}


def test_the_same_cell_gives_the_same_numbers(tmp_path: Path) -> None:
    first, second = trained(tmp_path, QPA)[0], trained(tmp_path, QPA)[0]
    assert np.array_equal(first.series["train_loss"], second.series["train_loss"])
    assert np.array_equal(first.series["test_nll"], second.series["test_nll"])


def test_a_loss_that_is_not_finite_is_refused_with_its_step(tmp_path: Path) -> None:
    with pytest.raises(
        NumericalError, match=r"loss is (nan|inf) at step \d+ of 80; .* smaller learning rate"
    ):
        trained(tmp_path, QPA, "train.learning_rate=100", "train.epochs=10", "target.alpha=1e38")


def test_a_loss_that_is_not_finite_after_the_last_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NumericalError, match=r"NLL of .* isn't finite after training"):
        trained(tmp_path, DIRECT, "train.learning_rate=100", "train.max_steps=1", "target.alpha=1e38")


def test_counts_come_from_the_modules(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, QPA)
    metrics = trained(tmp_path, QPA)[0].metrics
    assert metrics["n_trainable"] == cell.n_trainable
    assert metrics["n_theta"] == cell.n_theta == 2 * metrics["n_qubits"]
    assert metrics["n_mapping"] == metrics["n_trainable"] - metrics["n_theta"]
    assert metrics["n_generated"] == 2 * (32 + 257)


def test_gradient_variance_is_that_of_the_recorded_steps(tmp_path: Path) -> None:
    result, _ = trained(tmp_path, QPA)
    assert result.metrics["gradient_variance_theta"] > 0
    assert len(result.series["theta_gradient_variance"]) == result.metrics["n_steps"]


def test_a_direct_cell_has_no_circuit_figures(tmp_path: Path) -> None:
    metrics = trained(tmp_path)[0].metrics
    assert not {"circuits_executed", "n_qubits", "gradient_variance_theta"} & set(metrics)


def test_circuits_are_counted(tmp_path: Path) -> None:
    """One a training step, and one for each batch of two rows that is measured."""
    metrics = trained(tmp_path, QPA)[0].metrics
    assert metrics["circuits_executed"] == 8 + 6 // 2


def test_the_parameter_shift_rule_trains_as_the_own_gradient(tmp_path: Path) -> None:
    own, _ = trained(tmp_path, QPA)
    shifted, _ = trained(tmp_path, QPA + 'backend = { name = "native", gradient = "parameter-shift" }\n')
    assert np.allclose(own.series["train_loss"], shifted.series["train_loss"], rtol=1e-5)  # float32 head


def test_every_step_has_its_time(tmp_path: Path) -> None:
    result, _ = trained(tmp_path)
    assert (result.series["step_seconds"] > 0).all()
    assert result.metrics["step_seconds_median"] == pytest.approx(np.median(result.series["step_seconds"]))


def test_a_search_is_a_phase_of_its_own(tmp_path: Path) -> None:
    """Its circuits don't count among those of the steps, which the mapping's time is told from."""
    settings = ('train.theta_optimizer="cobyla"', "train.theta_evaluations=40", "train.max_steps=4")
    plain, searched = trained(tmp_path, QPA, settings[-1])[0], trained(tmp_path, QPA, *settings)[0]
    assert set(searched.phases) - set(plain.phases) == {"search"}
    assert searched.metrics["circuits_executed"] > plain.metrics["circuits_executed"] + 10
    assert searched.phases["search"] > searched.phases["circuit"] > 0
    steps = sum(searched.phases[name] for name in ("circuit", "mapping", "head", "optimizer"))
    assert steps + searched.phases["search"] <= searched.metrics["train_seconds"]
    assert steps <= searched.series["step_seconds"].sum()
