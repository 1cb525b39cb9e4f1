"""The output layer of a model loaded in bfloat16, kept in that where nothing is rounded by it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from steps import EVERY, META, as_on_a_gpu, cell_of, plain_features, positions_of, stepper_of

from qpabench.training import live
from qpabench.training.features import Features

HALVED = 'model = { name = "tiny-gpt2", dtype = "bfloat16" }\n'
CPU = torch.device("cpu")
#: float32 sums in another order
TOLERANCE = 1e-5
LEFT_ALONE = ["released-code", "dropout", "vera", "uni-lora", "fourierft", "literal"]
CHANGED = ["prefix", "ffa"]
READ = ["dora", "tinylora"]


def features_for(name: str, folder: Path, model: str = HALVED) -> Features:
    return plain_features(cell_of(folder, model + EVERY[name]))


@pytest.mark.parametrize("name", [*LEFT_ALONE, *CHANGED])
def test_a_step_trains_as_with_float32(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch)
    cell, features = cell_of(tmp_path, HALVED + EVERY[name]), features_for(name, tmp_path)
    halved = features.on(CPU, torch.bfloat16)
    assert halved.weight.dtype == torch.bfloat16
    losses = []
    for given in (halved, features):
        stepper = stepper_of(cell, given)
        for positions in positions_of(cell, features):
            stepper.step(positions)
        stepper.readings.fetch()
        losses.append(stepper.readings.losses[: stepper.readings.done])
    assert np.allclose(*losses, rtol=TOLERANCE)


@pytest.mark.parametrize("name", [*LEFT_ALONE, *CHANGED])
def test_a_step_in_bfloat16_reads_no_value_and_mixes_no_devices(name: str, tmp_path: Path) -> None:
    cell, features = cell_of(tmp_path, HALVED + EVERY[name]), features_for(name, tmp_path)
    stepper = stepper_of(cell, features.on(META, torch.bfloat16))
    for positions in positions_of(cell, features):
        stepper.step(positions)
    assert stepper.split.features.dtype == stepper.features.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("name", [*LEFT_ALONE, *CHANGED])
def test_inputs_are_multiplied_in_bfloat16_where_the_target_leaves_them_alone(
    name: str, tmp_path: Path
) -> None:
    cell, features = cell_of(tmp_path, HALVED + EVERY[name]), features_for(name, tmp_path)
    stepper = stepper_of(cell, features.on(META, torch.bfloat16))
    factors = stepper.features.factors(
        stepper.built.target, stepper.split, torch.arange(5), stepper.passes.forward(), None
    )
    assert factors.inputs.dtype == (torch.float32 if name in CHANGED else torch.bfloat16)
    assert factors.low_rank is None or factors.low_rank[0].dtype == torch.float32


def test_numbers_that_are_not_of_bfloat16_stay_as_they_are(tmp_path: Path) -> None:
    features = features_for("released-code", tmp_path)
    other = replace(features, weight=features.weight * 1.01)
    assert other.on(META, torch.bfloat16).weight.dtype == torch.float32
    train = features.splits["train"]
    splits = {**features.splits, "train": replace(train, features=train.features * 1.01)}
    assert replace(features, splits=splits).on(META, torch.bfloat16).weight.dtype == torch.float32


def test_a_softcap_wants_float32(tmp_path: Path) -> None:
    features = replace(features_for("released-code", tmp_path), softcap=30.0)
    assert features.on(META, torch.bfloat16).weight.dtype == torch.float32


@pytest.mark.parametrize("name", [*LEFT_ALONE, *CHANGED, *READ])
@pytest.mark.parametrize(("model", "device"), [(HALVED, META), (HALVED, CPU), ("", META)])
def test_a_layer_is_kept_in_bfloat16_by_device_model_and_target(
    name: str, model: str, device: torch.device, tmp_path: Path
) -> None:
    cell = cell_of(tmp_path, model + EVERY[name])
    halved = bool(model) and device == META and name not in READ
    assert live._head_dtype(cell, device) == (torch.bfloat16 if halved else torch.float32)


def test_a_subclass_of_a_target_may_read_the_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cell_of(tmp_path, HALVED + EVERY["released-code"])
    other = type("Other", (cell.target.entry.component(),), {})
    monkeypatch.setattr(type(cell.target.entry), "component", lambda entry: other)
    assert live._head_dtype(cell, META) == torch.float32


def test_the_record_says_how_losses_are_computed(tmp_path: Path) -> None:
    features = features_for("released-code", tmp_path)
    assert features.head_path == "one-pass"
    assert features.on(META).head_path == "blocks"
    assert features.on(META, torch.bfloat16).head_path == "blocks-bfloat16"
    assert replace(features, softcap=30.0).on(META).head_path == "autograd"
