"""What runs over several seeds allow to conclude: intervals, tests, equivalence, and their power.

Two things vary in a difference between two methods: the training runs (seeds) and the text it is measured
on (rows; tokens of one row hang together). All runs are measured on the same rows, so more seeds don't make
up for few rows. Both are taken as drawn at random and crossed:

    d[s, r] = mean + seed[s] + row[r] + rest[s, r]

Rows weigh by their tokens. The variance of the mean is (MS_seed + MS_row - MS_rest) / (S R), its degrees of
freedom Satterthwaite's. Source: the two-way random-effects analysis of variance; Satterthwaite (1946).
Differs: the variance never falls below what seeds alone or rows alone give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qpabench.reports.statistics import CONFIDENCE, RowSums, t_quantile

ALPHA = 1 - CONFIDENCE
POWER = 0.8
#: with two the intervals cover the truth in as little as 88 % of cases, from three on in 92 to 98 %
FEWEST_SEEDS = 3
FEWEST_ROWS = 5
#: a spread below this share of the NLL is rounding
ROUNDING = 1e-12

Floats = NDArray[np.float64]
Outcome = Literal["better", "worse", "equivalent", "undecided", "no inference"]


@dataclass(frozen=True)
class Estimate:
    """A difference in NLL and how well it is known; negative: the first is better.

    Args:
        nats: difference of the means, nats per token.
        standard_error: of it; absent where too few runs or rows allow none.
        degrees_of_freedom: of the standard error.
        n_seeds, n_rows, n_tokens: what it rests on; tokens of one run.
    """

    nats: float
    standard_error: float | None
    degrees_of_freedom: float
    n_seeds: int
    n_rows: int
    n_tokens: int

    def half_width(self, confidence: float = CONFIDENCE) -> float | None:
        """Return half the width of the interval; None without inference."""
        if self.standard_error is None:
            return None
        return t_quantile((1 + confidence) / 2, self.degrees_of_freedom) * self.standard_error

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval; None without inference."""
        half = self.half_width()
        return None if half is None else (self.nats - half, self.nats + half)

    @property
    def p_difference(self) -> float | None:
        """Probability of a difference at least this large, were there none (two-sided t test)."""
        if self.standard_error is None:
            return None
        if self.standard_error == 0:
            return 1.0 if self.nats == 0 else 0.0
        return min(1.0, 2 * _tail(abs(self.nats) / self.standard_error, self.degrees_of_freedom))

    def p_equivalence(self, margin_nats: float) -> float | None:
        """Return the larger p of the two one-sided tests that the difference lies within the margin."""
        if self.standard_error is None:
            return None
        inside = margin_nats - abs(self.nats)
        if self.standard_error == 0:
            return 0.0 if inside > 0 else 1.0
        return _tail(inside / self.standard_error, self.degrees_of_freedom)

    @property
    def smallest_effect(self) -> float | None:
        """The smallest true difference that a run like this would tell from none in 80 % of cases."""
        if self.standard_error is None:
            return None
        df = self.degrees_of_freedom
        return (t_quantile((1 + CONFIDENCE) / 2, df) + t_quantile(POWER, df)) * self.standard_error


def estimate(first: Sequence[RowSums], second: Sequence[RowSums]) -> Estimate | None:
    """Estimate first minus second.

    Args:
        first: NLL by test row, one per seed.
        second: the same of the other method, seeds in the same order.

    Returns:
        None when the runs weren't measured on the same rows.
    """
    runs = [*first, *second]
    if not first or len(first) != len(second):
        return None
    tokens = runs[0].tokens
    if any(not np.array_equal(run.tokens, tokens) for run in runs):
        return None
    sums = np.stack([a.nll - b.nll for a, b in zip(first, second, strict=True)])
    n_seeds, n_rows = sums.shape
    nats = float(sums.sum() / (n_seeds * tokens.sum()))
    error, df = None, math.inf
    if n_seeds >= FEWEST_SEEDS and n_rows >= FEWEST_ROWS:
        _, errors, dfs = crossed(sums, tokens)
        error, df = float(errors), float(dfs)
        if error <= ROUNDING * max(run.mean for run in runs):
            error = 0.0
    return Estimate(nats, error, df, n_seeds, n_rows, int(tokens.sum()))


def crossed(sums: Floats, tokens: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mean, standard error and degrees of freedom of crossed seeds and rows.

    Args:
        sums: differences summed by row, (..., seeds, rows); leading axes are independent studies.
        tokens: of each row, (rows,).
    """
    n_seeds, n_rows = sums.shape[-2:]
    mean = sums.sum(axis=(-2, -1)) / (n_seeds * tokens.sum())
    # of a ratio of sums, to first order
    residual = (sums - mean[..., None, None] * tokens) / tokens.mean()
    of_seed, of_row = residual.mean(axis=-1), residual.mean(axis=-2)
    rest = residual - of_seed[..., :, None] - of_row[..., None, :]
    df_seed, df_row = n_seeds - 1, n_rows - 1
    df_rest = df_seed * df_row
    ms_seed = n_rows * (of_seed**2).sum(axis=-1) / df_seed
    ms_row = n_seeds * (of_row**2).sum(axis=-1) / df_row
    ms_rest = (rest**2).sum(axis=(-2, -1)) / df_rest
    combined = np.maximum(ms_seed + ms_row - ms_rest, np.maximum(ms_seed, ms_row))
    spread = ms_seed**2 / df_seed + ms_row**2 / df_row + ms_rest**2 / df_rest
    with np.errstate(invalid="ignore", divide="ignore"):
        df = np.where(spread > 0, combined**2 / spread, df_seed)
    return mean, np.sqrt(combined / (n_seeds * n_rows)), np.maximum(df, 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being a family, each at least as large as before.

    Source: Holm (1979), step-down.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def outcome(nats: float, p_difference: float | None, p_equivalence: float | None) -> Outcome:
    """Say what two p-values, adjusted for the family, mean.

    A difference shown to lie within the margin counts as none, also where it is told from zero.
    """
    if p_difference is None or p_equivalence is None:
        return "no inference"
    if p_equivalence <= ALPHA:
        return "equivalent"
    if p_difference <= ALPHA:
        return "better" if nats < 0 else "worse"
    return "undecided"


def _tail(value: float, df: float) -> float:
    from scipy.special import stdtr

    return float(stdtr(df, -value))
