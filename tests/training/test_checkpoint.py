"""Cells that are stopped and go on from a checkpoint: equal to the bit to those that nothing disturbed."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from written_suites import cells_of

from qpabench.records.record import MACHINE_METRICS
from qpabench.records.store import RunDirectory
from qpabench.suite.cell import Cell
from qpabench.training.checkpoint import Checkpoints, content_hash
from qpabench.training.live import features_of
from qpabench.training.loop import Result, run_cell

OFTEN = 1e-9  # seconds: a checkpoint after every step
STEPS = 16
LORA = 'target = { name = "lora", rank = 2 }\n'
GENERATED = LORA + 'generator = { name = "%s", chunk_size = 64, n_layers = 2 }\n'
QPA = GENERATED % "qpa"
DIRECT = 'generator = "direct"\n'
#: what is trained -> the lines of its matrix; most of them draw anew in every pass
CELLS = {
    "dropout": 'target = { name = "lora", rank = 2, dropout = 0.3 }\n' + DIRECT,
    "dora": 'target = { name = "dora", rank = 2, dropout = 0.3 }\n' + DIRECT,
    "prefix": 'target = "prefix"\n' + DIRECT,
    "ffa": 'target = "ffa"\n' + DIRECT,
    "qpa": QPA,
    "fixed-order": QPA.replace("n_layers = 2", 'n_layers = 2, basis_order = "fixed"'),
    "shuffled": GENERATED % "shuffled",
    "frozen": GENERATED % "frozen",
    "free": LORA + 'generator = { name = "free", chunk_size = 64 }\n',
    "angles-mlp": GENERATED % "angles-mlp",
    "collapsed": GENERATED % "collapsed",
    "random-projection": LORA + 'generator = { name = "random-projection", budget = 50 }\n',
    "shots": QPA + 'backend = { name = "native", shots = 50 }\n',
    "spsa": QPA + 'backend = { name = "native", shots = 50, gradient = "spsa" }\n',
    "cobyla": QPA + 'train.theta_optimizer = "cobyla"\ntrain.theta_evaluations = 11\n',
    "two-rates": QPA
    + 'train.learning_rate_theta = 1e-2\ntrain.scheduler = "cosine"\ntrain.warmup_steps = 9\n',
    "masked": LORA + DIRECT + 'train.loss = "masked"\ntrain.weight_decay = 0.1\n',
    "live": 'target = { name = "lora", rank = 2, dropout = 0.3, target_modules = ["c_attn", "lm_head"] }\n'
    + DIRECT,
}
SETTINGS = ("train.epochs=2", "train.learning_rate=3e-3")


class StoppedError(Exception):
    """What stops a cell here."""


def stop_in(wanted: int) -> Callable[[int, int, float], None]:
    """Stop after the optimizer's step and before its checkpoint: that step is done again."""

    def progress(step: int, steps: int, loss: float) -> None:
        if step == wanted:
            raise StoppedError

    return progress


def cell_of(folder: Path, body: str) -> Cell:
    (cell,) = cells_of(folder, "\n[[matrix]]\n" + body, SETTINGS)
    return cell


def checkpoints_of(cell: Cell, folder: Path, seconds: float = OFTEN, **origin: Any) -> Checkpoints:
    return Checkpoints(RunDirectory(folder / "run"), cell.id, {"threads": 1} | origin, seconds)


def stopped(cell: Cell, folder: Path, *steps: int) -> Checkpoints:
    """Stop a cell in each of these steps; return where it can go on."""
    for step in steps:
        with pytest.raises(StoppedError):
            run_cell(cell, features_of(cell), stop_in(step), checkpoints_of(cell, folder))
    return checkpoints_of(cell, folder)


def numbers(result: Result) -> dict[str, Any]:
    """Return all that may not differ."""
    return {
        "metrics": {name: value for name, value in result.metrics.items() if name not in MACHINE_METRICS},
        "series": {n: values.tolist() for n, values in result.series.items() if n != "step_seconds"},
        "state": {name: value.tolist() for name, value in result.state.items()},
        "facts": result.facts,
    }


@pytest.mark.parametrize("name", CELLS)
def test_a_resumed_cell_ends_as_an_undisturbed_one(name: str, tmp_path: Path) -> None:
    cell = cell_of(tmp_path, CELLS[name])
    whole = run_cell(cell, features_of(cell))
    n_steps = len(whole.series["train_loss"])
    checkpoints = stopped(cell, tmp_path, n_steps // 2 - 1, n_steps - 1)  # in either epoch
    torch.rand(3)  # the global stream goes on from the checkpoint too
    resumed = run_cell(cell, features_of(cell), None, checkpoints)
    assert checkpoints.timing() == {"resumed_at_steps": [n_steps // 2 - 2, n_steps - 2]}
    assert numbers(resumed) == numbers(whole)


def test_checkpoints_change_no_number(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, QPA)
    kept = run_cell(cell, features_of(cell), None, checkpoints_of(cell, tmp_path))
    assert numbers(kept) == numbers(run_cell(cell, features_of(cell)))


def test_a_cell_stopped_after_training_is_only_measured(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, QPA)
    whole = run_cell(cell, features_of(cell), None, checkpoints_of(cell, tmp_path))
    checkpoints = checkpoints_of(cell, tmp_path)
    assert numbers(run_cell(cell, features_of(cell), stop_in(STEPS), checkpoints)) == numbers(whole)
    assert checkpoints.resumed_at == [STEPS]


def test_train_seconds_are_the_sum_of_both_parts(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, QPA)
    checkpoints = stopped(cell, tmp_path, STEPS)
    _, facts = checkpoints._read()
    again = run_cell(cell, features_of(cell), None, checkpoints)
    last = again.series["step_seconds"][-1]
    assert again.metrics["train_seconds"] >= facts["train_seconds"] + last
    assert facts["train_seconds"] >= again.series["step_seconds"][:-1].sum()
    assert again.phases["head"] > facts["phases"]["head"]


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_no_checkpoint_before_its_time(seconds: float, tmp_path: Path) -> None:
    cell = cell_of(tmp_path, LORA + DIRECT)
    run_cell(cell, features_of(cell), None, checkpoints_of(cell, tmp_path, seconds))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, LORA + DIRECT)
    (tmp_path / "run").write_text("a file in the way")
    checkpoints = checkpoints_of(cell, tmp_path)
    whole = run_cell(cell, features_of(cell))
    assert numbers(run_cell(cell, features_of(cell), None, checkpoints)) == numbers(whole)
    (line,) = checkpoints.timing()["checkpoint_trouble"]
    assert "cannot write" in line


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(content: bytes) -> bytes:
    return b""


def one_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def edited(old: str, new: str) -> Callable[[bytes], bytes]:
    """Change the facts, and nothing else: the content hash stays."""
    return lambda content: content.replace(old.encode(), new.encode(), 1)


def forged(**facts: Any) -> Callable[[bytes], bytes]:
    """Change facts as another program would have written them, hash included."""

    def change(content: bytes) -> bytes:
        from safetensors.torch import load, save

        (length,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        text = json.dumps(json.loads(metadata["checkpoint"]) | facts)
        tensors = load(content)
        return save(tensors, {"checkpoint": text, "content_hash": content_hash(tensors, text)})

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cut, "damaged"),
        (emptied, "damaged"),
        (one_bit, "content hash differs"),
        (edited('\\"step\\": 4', '\\"step\\": 5'), "content hash differs"),
        (forged(format=2), "found format 2, this qpabench reads 1"),
        (forged(cell="0" * 16), "found the checkpoint of cell '0000000000000000'"),
        (forged(origin={"threads": 2}), "made with threads 2, here 1"),
        (forged(n_steps=17), "found 17 steps in all, expected 16"),
    ],
)
def test_a_checkpoint_that_is_not_its_own_is_set_aside_and_named(
    change: Callable[[bytes], bytes], reason: str, tmp_path: Path
) -> None:
    cell = cell_of(tmp_path, LORA + DIRECT)
    checkpoints = stopped(cell, tmp_path, 5)
    path = checkpoints.directory.checkpoint_path(cell.id)
    content = change(path.read_bytes())
    path.write_bytes(content)
    anew = run_cell(cell, features_of(cell), None, checkpoints)
    (line,) = checkpoints.timing()["checkpoint_trouble"]
    assert reason in line
    assert path.name in line
    assert (path.parent / "damaged" / path.name).read_bytes() == content
    assert checkpoints.resumed_at == []
    assert numbers(anew) == numbers(run_cell(cell, features_of(cell)))


def test_a_checkpoint_of_another_form_is_set_aside(tmp_path: Path) -> None:
    """As a plugin that was changed without a new version would leave."""
    other = cell_of(tmp_path, LORA.replace("2", "3") + DIRECT)
    left = stopped(other, tmp_path, 5).directory.checkpoint_path(other.id)
    cell = cell_of(tmp_path, LORA + DIRECT)
    checkpoints = checkpoints_of(cell, tmp_path)
    path = checkpoints.directory.checkpoint_path(cell.id)
    path.write_bytes(forged(cell=cell.id)(left.read_bytes()))
    run_cell(cell, features_of(cell), None, checkpoints)
    (line,) = checkpoints.trouble
    assert "has another form than this cell's" in line


def test_a_checkpoint_is_read_without_pickle(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, QPA)
    path = stopped(cell, tmp_path, 5).directory.checkpoint_path(cell.id)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    assert 8 + length + end == len(content)  # nothing but the header and numbers
