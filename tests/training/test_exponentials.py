"""Compiled loops of the output layer's loss beside float64: the same sums, nothing hidden, chosen quietly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from qpabench.targets.target import Factors
from qpabench.training import exponentials
from qpabench.training.exponentials import LowRank, whole_rows
from qpabench.training.head import fast_loss, token_nll
from qpabench.training.one_pass import COMPILED_CHUNK_OUTPUTS
from qpabench.training.plain_head import plain_loss

pytest.importorskip("numba")

OUTPUTS = 4 * 2048 + 117  # five tiles, the last one short and no multiple of sixteen
#: rounding of float32 sums over some thousand outputs, relative to the largest entry
TOLERANCE = 2e-6
#: what the issue of the head step asks of loss and gradients
HEAD = 1e-5
TOKENS = (1, 4, 7)
COLUMNS = (1, 3, 4, 5, 16)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def draw(*shape: int, seed: int, factor: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * factor


def assert_close(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    assert found.dtype == torch.float32
    scale = expected.detach().abs().max()
    assert float((found.double() - expected).detach().abs().max() / scale) < tolerance


class Term:
    """Logits and a low-rank term, with their exponentials in float64."""

    def __init__(self, tokens: int, columns: int, *, bias: bool = False) -> None:
        self.z = draw(tokens, OUTPUTS, seed=1, factor=3) - 12
        self.u, self.B = draw(tokens, columns, seed=2), draw(OUTPUTS, columns, seed=3, factor=0.3)
        self.bias = draw(OUTPUTS, seed=4) if bias else None
        self.weights = torch.rand(tokens, generator=torch.Generator().manual_seed(5))
        self.low_rank = LowRank.of(self.u, self.B, tokens, OUTPUTS, self.bias)
        logits = self.z.double() + self.u.double() @ self.B.double().T
        self.e = (logits if self.bias is None else logits + self.bias.double()).exp()

    def assert_sums(self) -> None:
        sums = torch.from_numpy(self.low_rank.sums)
        assert_close(sums[:, -1], self.e.sum(1))
        assert_close(sums[:, : self.u.shape[1]], self.e @ self.B.double())

    def gradient(self) -> Tensor:
        share = self.weights.double() / self.e.sum(1)
        return self.e.T @ (self.u.double() * share.unsqueeze(1))


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_whole_rows_give_sums_and_gradient(tokens: int, columns: int) -> None:
    term = Term(tokens, columns)
    pieces = (
        [(slice(0, 2), term.z[:2]), (slice(2, tokens), term.z[2:])] if tokens > 2 else [(slice(0, 1), term.z)]
    )
    gradient = whole_rows(pieces, term.low_rank, term.weights, wants_gradient=True)
    term.assert_sums()
    assert gradient is not None
    assert_close(gradient, term.gradient())


def test_sums_alone_need_no_gradient() -> None:
    term = Term(5, 4)
    assert whole_rows([(slice(0, 5), term.z)], term.low_rank, term.weights, wants_gradient=False) is None
    term.assert_sums()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_parts_of_the_outputs_add_up(tokens: int, columns: int, bias: bool) -> None:
    term = Term(tokens, columns, bias=bias)
    kept = []
    for part in (slice(0, 5000), slice(5000, OUTPUTS)):
        e = torch.zeros(exponentials.padded(tokens), part.stop - part.start)
        term.low_rank.exponentials(term.z[:, part], torch.zeros(tokens), part.start, e[:tokens])
        assert_close(e[:tokens], term.e[:, part])
        kept.append((part, e))
    term.assert_sums()
    share = term.weights / torch.from_numpy(term.low_rank.sums)[:, -1]
    assert_close(term.low_rank.factor_gradient(share.unsqueeze(1), kept), term.gradient())


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exponentials, "ENTRIES_PER_THREAD", 1)
    for number in (1, 3):
        torch.set_num_threads(number)
        term = Term(9, 4)
        gradient = whole_rows([(slice(0, 9), term.z)], term.low_rank, term.weights, wants_gradient=True)
        assert gradient is not None
        term.assert_sums()
        assert_close(gradient, term.gradient())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_logit_that_is_no_number_is_not_hidden(value: float) -> None:
    inputs, weight = torch.ones(3, 1), torch.zeros(OUTPUTS, 1)
    inputs[1] = value
    nll = token_nll(Factors(inputs), weight, torch.zeros(3, dtype=torch.long))
    assert nll.isfinite().tolist() == [True, False, True]


def test_a_logit_that_is_no_number_is_not_hidden_far_from_label_and_maximum() -> None:
    weight = torch.zeros(OUTPUTS, 1)
    weight[OUTPUTS - 1] = torch.nan
    assert not token_nll(Factors(torch.ones(1, 1)), weight, torch.zeros(1, dtype=torch.long)).isfinite()


def test_exponentials_end_at_the_smallest_and_largest_power_of_two() -> None:
    z = torch.tensor([[-torch.inf, -1e30, 0.0, 1e30]])
    e = torch.empty_like(z)
    LowRank.of(None, None, 1, 4).exponentials(z, torch.zeros(1), 0, e)
    assert e.tolist() == [[2.0**-126, 2.0**-126, 1.0, 2.0**127]]


class Layer:
    """A random output layer in float32 and float64."""

    def __init__(self, *, low_rank: bool, inputs: bool, bias: bool, size: float = 1.0) -> None:
        tokens, width, n_outputs = 9, 6, 2 * COMPILED_CHUNK_OUTPUTS + 117
        self.weight = draw(n_outputs, width, seed=1, factor=size)
        self.bias = draw(n_outputs, seed=2) if bias else None
        self.labels = torch.randint(n_outputs, (tokens,), generator=torch.Generator().manual_seed(3))
        self.labels[1] = self.labels[0]  # one label twice
        self.weights = torch.rand(tokens, generator=torch.Generator().manual_seed(4))
        pair = [draw(tokens, 3, seed=5), draw(n_outputs, 3, seed=6)] if low_rank else []
        self.leaves = [*pair, draw(tokens, width, seed=7)]
        self.n_wanted = len(self.leaves) if inputs else len(pair)

    def loss_and_gradients(self, dtype: torch.dtype) -> list[Tensor]:
        leaves = [leaf.to(dtype) for leaf in self.leaves]
        for leaf in leaves[: self.n_wanted]:
            leaf.requires_grad_()
        pair = (leaves[0], leaves[1]) if len(leaves) == 3 else None
        bias = None if self.bias is None else self.bias.to(dtype)
        compute = fast_loss if dtype == torch.float32 else plain_loss
        given = (Factors(leaves[-1], pair), self.weight.to(dtype), self.labels, self.weights.to(dtype), bias)
        loss = 3 * compute(*given)
        return [loss, *torch.autograd.grad(loss, leaves[: self.n_wanted])] if self.n_wanted else [loss]

    def assert_same(self, tolerance: float = HEAD) -> None:
        pairs = zip(
            self.loss_and_gradients(torch.float32), self.loss_and_gradients(torch.float64), strict=True
        )
        for found, expected in pairs:
            assert_close(found, expected, tolerance)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("low_rank", [False, True])
def test_the_head_step_is_that_of_autograd_in_float64(low_rank: bool, inputs: bool, bias: bool) -> None:
    Layer(low_rank=low_rank, inputs=inputs, bias=bias).assert_same()


def test_the_head_step_holds_where_exponentials_would_overflow() -> None:
    layer = Layer(low_rank=True, inputs=True, bias=False, size=300.0)
    largest = float((layer.leaves[-1] @ layer.weight.T).max())
    assert largest > 90
    layer.assert_same(2 * largest * torch.finfo(torch.float32).eps)


def test_padding_of_an_earlier_step_is_not_counted() -> None:
    """Steps write to the same memory; of other than a multiple of four tokens there is room behind."""
    layer = Layer(low_rank=True, inputs=False, bias=False)
    fast_loss(
        Factors(torch.full((12, 1), torch.nan), (torch.ones(12, 1), torch.ones(300, 1).requires_grad_())),
        torch.ones(300, 1), torch.zeros(12, dtype=torch.long), torch.ones(12),
    )  # fmt: skip
    layer.assert_same()


def test_what_is_not_float32_with_few_columns_goes_through_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    single, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    most = exponentials.MOST_COLUMNS
    assert exponentials.chosen(single, None, n_columns=most)
    assert not exponentials.chosen(single, None, n_columns=most + 1)
    assert not exponentials.chosen(single, double, n_columns=1)
    monkeypatch.setenv("QPABENCH_COMPILED", "0")
    assert not exponentials.chosen(single, n_columns=1)


WITHOUT = """
import sys
sys.modules["numba"] = None  # as if it were not installed
import torch
from qpabench.targets.target import Factors
from qpabench.training import exponentials
from qpabench.training.head import token_nll
exponentials.warm_up()
nll = token_nll(Factors(torch.zeros(1, 2)), torch.ones(8, 2), torch.zeros(1, dtype=torch.long))
print(exponentials.chosen(nll, n_columns=1), round(float(nll.exp())))
"""


def test_without_numba_torch_does_it_quietly() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False 8\n", "")
