"""Intervals against what can be worked out otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from qpabench.reports.statistics import (
    RowSums,
    average,
    mean_and_spread,
    over_seeds,
    paired_bootstrap,
    row_sums,
    smoothed,
)

#: a bootstrap of 2000 finds the ends of a normal interval to a few per cent of its width
BOOTSTRAP_TOLERANCE = 0.08


def test_rows_are_summed() -> None:
    sums = row_sums(np.array([1.0, 2.0, 4.0]), np.array([3, 3, 8], dtype=np.int32))
    assert sums is not None
    assert (sums.nll.tolist(), sums.tokens.tolist()) == ([3.0, 4.0], [2.0, 1.0])


@pytest.mark.parametrize("nll", [np.array([1.0, np.nan]), np.array([1.0]), np.zeros((2, 1)), np.zeros(0)])
def test_rows_that_make_no_sense_are_left_out(nll: np.ndarray) -> None:
    assert row_sums(nll, np.array([0, 1])) is None


def test_interval_of_equal_cells_is_zero() -> None:
    sums = RowSums(np.arange(10.0), np.ones(10))
    found = paired_bootstrap(sums, sums)
    assert found is not None
    assert (found.low, found.high, found.excludes_zero) == (0.0, 0.0, False)


def test_interval_agrees_with_the_normal_one_for_rows_of_one_token() -> None:
    values = np.random.default_rng(5).normal(0.1, 1.0, 400)
    found = paired_bootstrap(RowSums(np.zeros(400), np.ones(400)), RowSums(values, np.ones(400)))
    low, high = stats.norm.interval(0.95, values.mean(), values.std(ddof=1) / 20)
    assert found is not None
    assert found.low == pytest.approx(low, abs=BOOTSTRAP_TOLERANCE * (high - low))
    assert found.high == pytest.approx(high, abs=BOOTSTRAP_TOLERANCE * (high - low))


def test_tokens_of_one_row_are_resampled_together() -> None:
    """Every row's tokens repeat one value: as many rows say no more for having more tokens."""
    values = np.random.default_rng(6).normal(0, 1, 50)
    short = paired_bootstrap(RowSums(np.zeros(50), np.ones(50)), RowSums(values, np.ones(50)))
    long = paired_bootstrap(RowSums(np.zeros(50), np.full(50, 9.0)), RowSums(9 * values, np.full(50, 9.0)))
    assert short is not None
    assert long is not None
    assert long.low == pytest.approx(short.low)


def test_other_rows_have_no_interval() -> None:
    assert paired_bootstrap(RowSums(np.ones(9), np.ones(9)), RowSums(np.ones(9), np.full(9, 2.0))) is None


def test_few_rows_have_no_interval() -> None:
    assert paired_bootstrap(RowSums(np.ones(2), np.ones(2)), RowSums(np.ones(2), np.ones(2))) is None


def test_interval_over_seeds_is_students() -> None:
    values = [0.1, 0.3, 0.2]
    found = over_seeds(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_has_no_interval() -> None:
    assert over_seeds([0.1]) is None


def test_one_value_has_no_spread() -> None:
    assert mean_and_spread([2.0]) == (2.0, None)


def test_runs_on_other_rows_are_not_averaged() -> None:
    assert average([RowSums(np.ones(2), np.ones(2)), RowSums(np.ones(3), np.ones(3))]) is None


def test_smoothing_keeps_a_constant() -> None:
    np.testing.assert_allclose(smoothed(np.full(7, 3.0), 4), np.full(7, 3.0))
