"""Frozen features: computed once, right for every row, named by all they depend on."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from written_suites import DIRECT, QPA, cells_of

import qpabench.models.tiny
from qpabench.errors import InputError
from qpabench.models.options import TinyGpt2Options
from qpabench.models.tiny import load
from qpabench.training import write_features
from qpabench.training.budget import FEATURES_VARIABLE
from qpabench.training.features import Features, ensure_features, open_features
from qpabench.training.keys import features_key


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def features(tmp_path: Path) -> Features:
    return open_features(ensure_features(cells_of(tmp_path)[0]))


def test_the_model_is_loaded_once_for_all_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    monkeypatch.setattr(qpabench.models.tiny, "load", lambda options: loads.append(1) or load(options))
    for cell in cells_of(tmp_path, DIRECT + QPA):
        ensure_features(cell)
    assert len(loads) == 1


def test_a_failed_computation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = cells_of(tmp_path)
    monkeypatch.setattr("qpabench.training.write_features.make_rows", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ensure_features(cell)
    assert not [path for path in (tmp_path / "cache" / "features").iterdir() if path.suffix != ".lock"]


def test_features_are_what_enters_the_head(features: Features, tmp_path: Path) -> None:
    """Features times the head's weight are the logits of the whole model on each row alone."""
    model = load(TinyGpt2Options())
    lines = (tmp_path / "test.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    split = features.splits["test"]
    for index in (0, 2, 4):
        tokens = model.tokenizer(lines[index])["input_ids"][:32]
        with torch.no_grad():
            expected = model.module(torch.tensor([tokens])).logits[0, :-1]
        found = (split.features[split.row == index] @ features.weight.T)[: len(tokens) - 1]
        assert torch.allclose(found, expected, atol=1e-6)  # float32, batched and alone


def test_every_position_but_the_last_is_scored(features: Features) -> None:
    split = features.splits["test"]
    assert np.bincount(split.row.numpy()).tolist() == [31] * split.n_rows


def test_equal_rows_have_equal_features_and_base_losses(features: Features) -> None:
    split = features.splits["test"]  # its first and last row are one line
    first, last = split.row == 0, split.row == split.n_rows - 1
    assert torch.equal(split.features[first], split.features[last])
    assert split.base_nll is not None
    assert torch.equal(split.base_nll[first], split.base_nll[last])
    assert split.base_nll[first].min() > 0


def test_equal_windows_scored_in_part_have_their_own_losses(tmp_path: Path) -> None:
    """A stream of one repeated byte: windows are twins, though the first scores more of its tokens."""
    (cell,) = cells_of(tmp_path, DIRECT, ("evaluate.strided=true", "evaluate.context=8", "evaluate.stride=4"))
    (tmp_path / "test.txt").write_text("a" * 16 + "\n")
    split = open_features(ensure_features(cell)).splits["stream"]
    assert np.bincount(split.row.numpy()).tolist() == [7, 4, 4]
    assert split.base_nll is not None
    assert torch.equal(split.base_nll[7:11], split.base_nll[11:15])
    assert split.base_nll.min() > 0


def test_a_row_longer_than_the_model_takes_is_refused(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, DIRECT, ("dataset.max_length=200",))
    with pytest.raises(InputError, match="found 200, expected at most 128"):
        ensure_features(cell)


def test_cells_that_differ_in_target_generator_or_training_share_features(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, DIRECT + QPA, ("seeds=[0, 1]", "train.epochs=[1, 2]"))
    assert len(cells) == 8
    assert len({features_key(cell) for cell in cells}) == 1


@pytest.mark.parametrize(
    "setting",
    ["model.seed=1", "dataset.max_length=16", "dataset.test_rows=2", "evaluate.strided=true"],
)
def test_what_changes_the_features_changes_their_name(setting: str, tmp_path: Path) -> None:
    (one,), (other,) = cells_of(tmp_path), cells_of(tmp_path, DIRECT, (setting,))
    assert features_key(one) != features_key(other)


def test_another_text_changes_the_name(tmp_path: Path) -> None:
    from qpabench.hooks.manager import load_registry
    from qpabench.suite.plan import make_plan

    (one,) = cells_of(tmp_path)
    (tmp_path / "test.txt").write_text("another text\n")
    (planned,) = make_plan(tmp_path / "suite.toml", load_registry()).cells
    assert features_key(one) != features_key(planned.cell)


def test_validation_rows_are_measured_when_given(tmp_path: Path) -> None:
    settings = (f'dataset.validation="{tmp_path.as_posix()}/validation.txt"',)
    (cell,) = cells_of(tmp_path, DIRECT, settings)
    found = open_features(ensure_features(cell))
    assert found.meta["rows"] == {"train": 8, "validation": 2, "test": 6}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from written_suites import cells_of
from qpabench.training import write_features
from qpabench.training.features import ensure_features
write_features.TOKENS_PER_BATCH, write_features.SECONDS_BETWEEN_NOTES = 32, 0

def killed(what, done, total):
    if (what, done) == ("features of test", 3):
        os.kill(os.getpid(), signal.SIGKILL)

ensure_features(cells_of(Path(sys.argv[2]))[0], killed)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


def test_a_computation_that_was_killed_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), str(tmp_path)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    monkeypatch.setattr(write_features, "TOKENS_PER_BATCH", 32)
    (cell,) = cells_of(tmp_path)
    told: list[tuple[str, int]] = []
    resumed = ensure_features(cell, lambda what, done, total: told.append((what, done)))
    assert [done for what, done in told if what == "features of train"] == [6]  # what all of them are
    assert [done for what, done in told if what == "features of test"] == [3, 4]  # four rows are distinct
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "other"))
    assert contents(resumed) == contents(ensure_features(cell))
    assert not (resumed / "progress.json").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda draft: (draft / "progress.json").write_bytes(b"{"),
        lambda draft: (draft / "test_features.npy").unlink(),
        lambda draft: (draft / "test_features.npy").write_bytes(b"short"),
    ],
    ids=["note", "missing", "cut"],
)
def test_what_a_killed_computation_left_damaged_is_computed_anew(
    damage: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), str(tmp_path)]
    subprocess.run(command, check=False, capture_output=True)
    (draft,) = (tmp_path / "cache" / "features").glob("*.part")
    damage(draft)  # type: ignore[operator]
    monkeypatch.setattr(write_features, "TOKENS_PER_BATCH", 32)
    (cell,) = cells_of(tmp_path)
    resumed = ensure_features(cell)
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "other"))
    assert contents(resumed) == contents(ensure_features(cell))


def test_features_used_longest_ago_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cells_of(tmp_path, DIRECT, (f"model.seed={seed}",))[0] for seed in range(3)]
    first, second = (ensure_features(cell) for cell in cells[:2])
    ensure_features(cells[0])  # used again: the other is older now
    monkeypatch.setenv(FEATURES_VARIABLE, str(sum(path.stat().st_size for path in first.iterdir())))
    third = ensure_features(cells[2])
    assert [folder.exists() for folder in (first, second, third)] == [True, False, True]
    monkeypatch.setenv(FEATURES_VARIABLE, "0")
    assert ensure_features(cells[1]).exists()
    assert not first.exists()


def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FEATURES_VARIABLE, "10 GB")
    with pytest.raises(InputError, match=f"{FEATURES_VARIABLE}: found '10 GB', expected a number of bytes"):
        ensure_features(cells_of(tmp_path)[0])
