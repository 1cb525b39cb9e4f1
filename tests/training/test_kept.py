"""Kept logits: the same numbers as without them, whatever happens to the files."""

import os
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from written_suites import DIRECT, QPA, cells_of

from qpabench.cache import cache_dir, make_room
from qpabench.errors import InputError, UnavailableError
from qpabench.suite.cell import Cell
from qpabench.targets.target import Factors
from qpabench.training import kept, kept_loss
from qpabench.training.budget import VARIABLE
from qpabench.training.features import Features
from qpabench.training.head import fast_loss, token_nll
from qpabench.training.kept import with_kept
from qpabench.training.kept_loss import KeptFactors, KeptLogits
from qpabench.training.keys import features_key
from qpabench.training.live import features_of
from qpabench.training.loop import Result, run_cell
from qpabench.training.plain_head import plain_loss

TOKENS, WIDTH, OUTPUTS = 40, 64, 9000
#: what issue and records ask of the path: float32 beside float64
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture(params=["compiled", "torch"])
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "compiled":
        pytest.importorskip("numba")
    monkeypatch.setenv("QPABENCH_COMPILED", str(int(request.param == "compiled")))


def draw(*shape: int, seed: int, factor: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * factor


class Layer:
    """A random output layer with its logits on disk, read at some positions out of order."""

    def __init__(self, folder: Path, size: float, rank: int = 4) -> None:
        inputs = draw(TOKENS, WIDTH, seed=1)
        self.weight = draw(OUTPUTS, WIDTH, seed=2, factor=0.3)
        z = inputs @ self.weight.T
        (z - z.logsumexp(1, keepdim=True)).numpy().tofile(folder / "logits.f32")
        source = KeptLogits(folder / "logits.f32", OUTPUTS)
        self.positions = torch.cat([torch.arange(20, 37), torch.arange(5), torch.tensor([39, 39])])
        n = len(self.positions)
        self.labels = torch.randint(0, OUTPUTS, (n,), generator=torch.Generator().manual_seed(3))
        self.weights = torch.rand(n, generator=torch.Generator().manual_seed(4))
        self.pair = (draw(n, rank, seed=5, factor=size), draw(OUTPUTS, rank, seed=6))
        self.inputs = inputs[self.positions]
        self.kept = KeptFactors(self.inputs, self.pair, source=source, positions=self.positions)
        exact = (self.pair[0].double(), self.pair[1].double())
        self.exact = Factors(self.inputs.double(), exact)
        for leaf in (*self.pair, *exact):
            leaf.requires_grad_()


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = expected.detach().abs().max()
    assert float((found.double() - expected).detach().abs().max() / scale) < TOLERANCE


@pytest.mark.parametrize("length", [14.0, 29.0, 31.0])
def test_what_is_called_bounded_is_so(length: float) -> None:
    """Hölder's bound, 2 length, is enough for the first; Cauchy and Schwarz's, length, for the second."""
    diagonal, axis = torch.full((1, 4), 0.5), torch.tensor([[1.0, 0, 0, 0]])
    u, B = length * diagonal, torch.cat([-diagonal, axis])
    assert kept_loss._is_bounded(u, B) == (length < kept_loss.BOUNDED)
    assert float((u @ B.T).abs().max()) == length


#: within the bound, and so far beyond it that exponentials would overflow
@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize("rank", [1, 4, 9])
@pytest.mark.parametrize("size", [0.1, 40.0])
def test_loss_and_gradients_are_those_of_float64(size: float, rank: int, tmp_path: Path) -> None:
    layer = Layer(tmp_path, size, rank)
    assert kept_loss._is_bounded(*layer.pair) == (size < 1)
    found = 3 * fast_loss(layer.kept, layer.weight, layer.labels, layer.weights)
    expected = 3 * plain_loss(layer.exact, layer.weight.double(), layer.labels, layer.weights.double())
    assert_same(found, expected)
    exact = layer.exact.low_rank or ()
    for gradient, reference in zip(
        torch.autograd.grad(found, layer.pair), torch.autograd.grad(expected, exact), strict=True
    ):
        assert_same(gradient, reference)


@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize("size", [0.1, 40.0])
def test_token_nll_is_that_of_float64(size: float, tmp_path: Path) -> None:
    layer = Layer(tmp_path, size)
    logits = layer.exact.inputs @ layer.weight.double().T
    u, B = layer.exact.low_rank or ()
    expected = F.cross_entropy(logits + u @ B.T, layer.labels, reduction="none")
    assert_same(token_nll(layer.kept, layer.weight, layer.labels), expected)


@pytest.mark.usefixtures("_path")
def test_a_whole_vocabulary_keeps_its_digits(tmp_path: Path) -> None:
    """Logits almost alike: each sum is of 49,152 terms of one size, the worst there is."""
    outputs, tokens = 49_152, 9
    z = draw(tokens, outputs, seed=1, factor=0.1)
    (z - z.logsumexp(1, keepdim=True)).numpy().tofile(tmp_path / "logits.f32")
    u, B = draw(tokens, 3, seed=2, factor=0.1), draw(outputs, 3, seed=3, factor=0.1)
    source = KeptLogits(tmp_path / "logits.f32", outputs)
    labels = torch.arange(tokens) * 5000
    factors = KeptFactors(torch.zeros(tokens, 1), (u, B), source=source, positions=slice(0, tokens))
    exact = F.cross_entropy(z.double() + u.double() @ B.double().T, labels, reduction="none")
    assert_same(token_nll(factors, torch.zeros(outputs, 1), labels), exact)


@pytest.mark.usefixtures("_path")
def test_only_the_factor_that_wants_a_gradient_gets_one(tmp_path: Path) -> None:
    layer = Layer(tmp_path, 0.1)
    u, B = layer.pair
    both = torch.autograd.grad(fast_loss(layer.kept, layer.weight, layer.labels, layer.weights), layer.pair)
    layer.kept.low_rank = (u.detach(), B)
    (alone,) = torch.autograd.grad(fast_loss(layer.kept, layer.weight, layer.labels, layer.weights), [B])
    assert torch.equal(alone, both[1])


def test_positions_are_read_in_their_order_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = draw(TOKENS, 7, seed=1)
    logits.numpy().tofile(tmp_path / "logits.f32")
    monkeypatch.setattr(kept_loss, "PIECE_BYTES", 3 * 7 * kept_loss.FLOAT_BYTES)
    source = KeptLogits(tmp_path / "logits.f32", 7)
    positions = torch.tensor([30, 31, 32, 33, 34, 2, 2, 39, 0])
    found = [(part, piece.clone()) for part, piece in source.pieces(positions)]
    assert [(part.start, part.stop) for part, _ in found] == [(0, 3), (3, 5), (5, 6), (6, 7), (7, 8), (8, 9)]
    assert torch.equal(torch.cat([piece for _, piece in found]), logits[positions])
    assert torch.equal(torch.cat([piece for _, piece in source.pieces(slice(4, 9))]), logits[4:9])


def test_a_file_that_is_cut_short_while_it_is_read_is_no_crash(tmp_path: Path) -> None:
    draw(TOKENS, 7, seed=1).numpy().tofile(tmp_path / "logits.f32")
    source = KeptLogits(tmp_path / "logits.f32", 7)
    os.truncate(tmp_path / "logits.f32", 100)
    with pytest.raises(UnavailableError, match=r"logits.f32 was cut short while it was read; run again"):
        list(source.pieces(slice(0, TOKENS)))


def test_a_process_does_not_seem_to_hold_what_it_reads(tmp_path: Path) -> None:
    outputs, tokens = 2**16, 2**11
    with (tmp_path / "logits.f32").open("wb") as file:
        file.truncate(outputs * tokens * kept_loss.FLOAT_BYTES)  # 512 MiB, on disk none
    source, process = KeptLogits(tmp_path / "logits.f32", outputs), psutil.Process()
    before, most = process.memory_info().rss, 0
    for _, piece in source.pieces(slice(0, tokens)):
        assert float(piece.sum()) == 0
        most = max(most, process.memory_info().rss - before)
    assert most < 3 * kept_loss.PIECE_BYTES


def run(cell: Cell) -> tuple[Result, Features]:
    features = features_of(cell)
    return run_cell(cell, features), features


@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize("body", [DIRECT, QPA], ids=["direct", "qpa"])
@pytest.mark.parametrize("loss", ["padded", "masked"])
def test_a_cell_gives_the_same_numbers_with_and_without(
    body: str, loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (
        f'train.loss="{loss}"',
        "train.epochs=3",
        "train.learning_rate=1e-3",
        "train.batch_size=2",
        "target.dropout=0.1",
        f'dataset.validation="{tmp_path.as_posix()}/validation.txt"',
        "evaluate.strided=true",
        "evaluate.context=8",
        "evaluate.stride=4",
    )
    (cell,) = cells_of(tmp_path, body, settings)
    fast, with_them = run(cell)
    monkeypatch.setenv(VARIABLE, "0")
    slow, without = run(cell)
    assert (with_them.head_path, without.head_path) == ("kept-logits", "one-pass")
    assert np.allclose(fast.series["train_loss"], slow.series["train_loss"], rtol=TOLERANCE)
    scores = {name for name in slow.metrics if "perplexity" in name or "bits" in name}
    assert len(scores) >= 14
    for name in scores:
        assert fast.metrics[name] == pytest.approx(slow.metrics[name], rel=TOLERANCE), name


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "kept").rglob("*.f32"))


def test_a_budget_of_zero_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    features_of(cells_of(tmp_path)[0])
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("loss", "enough"),
    [("padded", "kept-logits (test), one-pass"), ("masked", "kept-logits (train, test), one-pass")],
)
def test_what_does_not_fit_is_not_kept(
    loss: str, enough: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (f'train.loss="{loss}"', f'dataset.validation="{tmp_path.as_posix()}/validation.txt"')
    (cell,) = cells_of(tmp_path, settings=settings)
    features = features_of(cell)
    total = sum(path.stat().st_size for path in files(tmp_path))
    assert features.head_path == "kept-logits"
    each = total // sum(len(split.labels) for split in features.splits.values())
    train, test = features.splits["train"], features.splits["test"]
    assert len(test.labels) > len(features.splits["validation"].labels)
    both = each * (int(train.mask.sum()) + len(test.labels))
    smallest = min(each * int(train.mask.sum()), total - each * len(train.labels) - each * len(test.labels))
    for allowed, said in (
        (total, "kept-logits"),
        (both, enough),
        (smallest - 1, "one-pass"),
        (0, "one-pass"),
    ):
        monkeypatch.setenv(VARIABLE, str(allowed))
        assert features_of(cell).head_path == said
        assert said == "one-pass" or sum(path.stat().st_size for path in files(tmp_path)) <= allowed


def test_a_cell_gives_the_same_numbers_where_only_text_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ('train.loss="masked"', "train.epochs=2", "train.learning_rate=1e-3", "train.batch_size=2")
    (cell,) = cells_of(tmp_path, QPA, settings)
    monkeypatch.setenv(VARIABLE, "0")
    slow, features = run(cell)
    train = features.splits["train"]
    assert 0 < int(train.mask.sum()) < len(train.labels)
    each = len(features.weight) * kept_loss.FLOAT_BYTES
    monkeypatch.setenv(VARIABLE, str(each * int(train.mask.sum())))
    read = []
    pieces = KeptLogits.pieces
    monkeypatch.setattr(KeptLogits, "pieces", lambda *given: read.append(given[1]) or pieces(*given))
    fast, features = run(cell)
    assert features.head_path == "kept-logits (train), one-pass"
    assert len(read) > fast.metrics["n_steps"] > 0
    assert np.allclose(fast.series["train_loss"], slow.series["train_loss"], rtol=TOLERANCE)
    assert fast.metrics["perplexity_masked"] == pytest.approx(
        slow.metrics["perplexity_masked"], rel=TOLERANCE
    )
    source = features.splits["train"].kept
    assert source is not None
    assert source.has(torch.nonzero(train.mask).squeeze(1))
    assert not source.has(torch.nonzero(~train.mask).squeeze(1)[:1])
    assert not source.has(slice(0, len(train.labels)))


@pytest.mark.parametrize("found", ["-1", "4 GB", "1e9"])
def test_a_budget_that_is_no_number_is_refused(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, found)
    with pytest.raises(InputError, match=f"{VARIABLE}: found '{found}', expected a number of bytes"):
        features_of(cells_of(tmp_path)[0])


@pytest.mark.parametrize("target", ["dora", "prefix", "ffa"])
def test_targets_that_change_more_than_logits_go_without(target: str, tmp_path: Path) -> None:
    body = f'[[matrix]]\ntarget = "{target}"\ngenerator = "direct"\n'
    assert features_of(cells_of(tmp_path, body)[0]).head_path == "one-pass"
    assert not files(tmp_path)


def test_logits_are_computed_once_for_all_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    write = kept.write_logits
    monkeypatch.setattr(kept, "write_logits", lambda *given: writes.append(1) or write(*given))
    for cell in cells_of(tmp_path, DIRECT + QPA, ("seeds=[0, 1]",)):
        assert features_of(cell).head_path == "kept-logits"
    assert len(writes) == 2  # train and test


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4)


def scramble(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, scramble, remove])
def test_a_damaged_file_is_computed_again(damage: object, tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path)
    features_of(cell)
    before = [path.read_bytes() for path in files(tmp_path)]
    damage(files(tmp_path)[-1])  # type: ignore[operator]
    with pytest.warns(UserWarning, match=files(tmp_path)[-1].parent.name if damage is remove else "damaged"):
        assert features_of(cell).head_path == "kept-logits"
    assert [path.read_bytes() for path in files(tmp_path)] == before


def test_a_full_disk_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "write_logits", full)
    (cell,) = cells_of(tmp_path)
    assert features_of(cell).head_path == "one-pass"
    assert not files(tmp_path)


def test_logits_that_are_never_what_the_features_give_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        kept,
        "write_logits",
        lambda features, split, work, *told: (work / "logits.f32").write_bytes(b"12345678"),
    )
    assert features_of(cells_of(tmp_path)[0]).head_path == "one-pass"


def test_a_part_of_a_split_is_not_enough(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path)
    features = features_of(cell)
    assert {name: split.kept is not None for name, split in features.splits.items()} == {
        "train": True,
        "test": True,
    }
    assert with_kept(features, cell).head_path == "kept-logits"


def test_room_is_made_by_what_was_used_longest_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cells_of(tmp_path, DIRECT, (f"model.seed={seed}",))[0] for seed in range(3)]
    for cell in cells[:2]:
        features_of(cell)
    one = sum(path.stat().st_size for path in files(tmp_path)) // 2
    features_of(cells[0])  # used again: the other is older now
    monkeypatch.setenv(VARIABLE, str(2 * one + one // 2))
    features_of(cells[2])
    assert {path.parent.parent.name for path in files(tmp_path)} == {
        features_key(cells[0]),
        features_key(cells[2]),
    }


def test_own_logits_stay_when_room_is_made(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path)
    features_of(cell)
    make_room("kept", 0, cache_dir() / "kept" / features_key(cell))
    assert files(tmp_path)
