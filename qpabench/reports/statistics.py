"""Means over seeds, and intervals that say which randomness they cover."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000
#: intervals are the same in every rebuild
SEED = 20250213
#: fewer rows than this say too little about the text for an interval
FEWEST_ROWS = 5
_BLOCK = 256
#: up to here the drawn rows are kept for the next cell (at most 130 MB), past it they are drawn anew
MOST_KEPT_ROWS = 8192

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval.

    Args:
        low: lower end.
        high: upper end.
        over: what varies: ``"test rows"`` or ``"seeds"``.
        n: how many of them.
    """

    low: float
    high: float
    over: str
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class RowSums:
    """Per-token NLL summed by test row; rows are what is resampled, for tokens of one row hang together.

    Args:
        nll: summed NLL of each row, nats.
        tokens: scored tokens of each row.
    """

    nll: Floats
    tokens: Floats

    @property
    def mean(self) -> float:
        """Mean NLL per token, nats."""
        return float(self.nll.sum() / self.tokens.sum())


def row_sums(nll: NDArray[Any], rows: NDArray[Any]) -> RowSums | None:
    """Sum per-token NLL by row.

    Args:
        nll: (tokens,) nats.
        rows: (tokens,) index of the row each token stands in.

    Returns:
        None when the two don't fit together or hold no finite numbers.
    """
    if nll.ndim != 1 or nll.shape != rows.shape or nll.size == 0 or rows.dtype.kind not in "iu":
        return None
    values = nll.astype(np.float64)
    if not np.isfinite(values).all():
        return None
    _, index = np.unique(rows, return_inverse=True)
    tokens: Floats = np.bincount(index).astype(np.float64)
    summed: Floats = np.bincount(index, weights=values).astype(np.float64)
    return RowSums(summed, tokens)


def average(sums: Sequence[RowSums]) -> RowSums | None:
    """Average the NLL of several runs on the same rows; None when the rows differ."""
    if not sums or any(not np.array_equal(sums[0].tokens, other.tokens) for other in sums[1:]):
        return None
    return RowSums(np.mean([one.nll for one in sums], axis=0), sums[0].tokens)


def _blocks(n_rows: int) -> Iterator[Floats]:
    """Yield how often each row is drawn, (some resamples, n_rows) at a time: all of them can be gigabytes."""
    generator = np.random.default_rng(SEED)
    share = np.full(n_rows, 1 / n_rows)
    for start in range(0, RESAMPLES, _BLOCK):
        yield generator.multinomial(n_rows, share, size=min(_BLOCK, RESAMPLES - start)).astype(np.float64)


@lru_cache(maxsize=1)
def _kept_blocks(n_rows: int) -> list[Floats]:
    return list(_blocks(n_rows))


def _resampled(columns: Floats) -> Floats:
    """Sum columns of shape (n_rows, k) over rows drawn with replacement; returns (RESAMPLES, k)."""
    n_rows = len(columns)
    blocks = _kept_blocks(n_rows) if n_rows <= MOST_KEPT_ROWS else _blocks(n_rows)
    return np.concatenate([block @ columns for block in blocks])


def paired_bootstrap(a: RowSums, b: RowSums, *, perplexity: bool = False) -> Interval | None:
    """Return the interval of b minus a, resampling test rows, each drawn for both at once.

    Args:
        a: one model's NLL by row.
        b: the other's, on the same rows.
        perplexity: the difference of perplexities instead of that of mean NLL (nats per token).

    Returns:
        None when the rows differ or are too few.
    """
    n_rows = a.tokens.size
    if n_rows < FEWEST_ROWS or not np.array_equal(a.tokens, b.tokens):
        return None
    sums = _resampled(np.stack([a.nll, b.nll, a.tokens], axis=1))
    means_a, means_b = sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2]
    differences = np.exp(means_b) - np.exp(means_a) if perplexity else means_b - means_a
    differences.sort()
    left_out = round((1 - CONFIDENCE) / 2 * RESAMPLES)
    low, high = differences[left_out], differences[-1 - left_out]
    return Interval(float(low), float(high), "test rows", n_rows)


def over_seeds(differences: Sequence[float]) -> Interval | None:
    """Return Student's interval of a mean over seeds; None with fewer than two."""
    n = len(differences)
    if n < 2:
        return None
    mean, spread = mean_and_spread(differences)
    half = t_quantile((1 + CONFIDENCE) / 2, n - 1) * (spread or 0.0) / math.sqrt(n)
    return Interval(mean - half, mean + half, "seeds", n)


def t_quantile(probability: float, df: float) -> float:
    """Return the value that Student's t with ``df`` degrees of freedom stays below with a probability."""
    from scipy.special import stdtrit  # scipy.stats would take most of a second to import

    return float(stdtrit(df, probability))


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation, which one value doesn't have."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def smoothed(values: NDArray[Any], window: int) -> Floats:
    """Return the running mean over the last ``window`` values, shorter at the start."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))
