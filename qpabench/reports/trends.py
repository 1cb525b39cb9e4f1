"""Does a variance fall exponentially or as a power? Lines through its logarithm, and how sure they are.

Exponential: log variance linear in x; polynomial: linear in log x; and a constant. All by least squares,
compared by AICc; the difference's interval comes from resampling the draws of each point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qpabench.reports.statistics import CONFIDENCE, SEED, t_quantile

FEWEST_SIZES = 5
RESAMPLES = 1000
#: an AIC difference below this leaves considerable support for the other model (Burnham and Anderson)
DECISIVE = 4.0
#: one draw that makes more of an estimate than this makes it an estimate of rare draws
HEAVY = 0.3
#: below this a mean square is rounding
ROUNDING = 1e-28

Outcome = Literal["exponential", "polynomial", "constant", "undecided", "too few"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A variance at one size.

    Args:
        x: qubits or repetitions.
        variance: mean over draws of the mean square over angles.
        low, high: its 95 % bootstrap interval over draws.
        median: over draws: what a typical draw has.
        largest: share of the variance that the largest draw makes.
        draws: how many.
    """

    x: float
    variance: float
    low: float
    high: float
    median: float
    largest: float
    draws: int


@dataclass(frozen=True)
class Line:
    """A least-squares line through log variance.

    Args:
        slope: per unit of x (exponential) or of log x (polynomial), in nats.
        low, high: its 95 % interval by Student's t.
        intercept: of the line.
        aicc: Akaike's criterion with the small-sample correction.
        off: how far points typically lie from the line, as a factor.
    """

    slope: float
    low: float
    high: float
    intercept: float
    aicc: float
    off: float


@dataclass(frozen=True)
class Trend:
    """What is known of a variance over sizes.

    Args:
        exponential, polynomial: the two lines; None with too few sizes.
        constant: AICc of no trend.
        difference: AICc of the polynomial less that of the exponential; above 0 favours the latter.
        low, high: its 95 % interval over draws.
        outcome: what follows.
    """

    exponential: Line | None
    polynomial: Line | None
    constant: float
    difference: float
    low: float
    high: float
    outcome: Outcome


def estimate(x: float, squares: Floats) -> Estimate | None:
    """Estimate a variance from its draws; None where it is zero but for rounding.

    Args:
        x: qubits or repetitions.
        squares: (draws,) mean square over angles of each draw.
    """
    if not len(squares) or squares.max() < ROUNDING:
        return None
    means = np.sort(_resampled(squares, np.random.default_rng(SEED)).mean(axis=1))
    out = round((1 - CONFIDENCE) / 2 * RESAMPLES)
    return Estimate(
        x,
        float(squares.mean()),
        float(means[out]),
        float(means[-1 - out]),
        float(np.median(squares)),
        float(squares.max() / squares.sum()),
        len(squares),
    )


def trend(xs: Sequence[float], draws: Sequence[Floats], *, median: bool = False) -> Trend:
    """Compare an exponential with a polynomial.

    Args:
        xs: sizes, distinct and positive.
        draws: per size the mean square over angles of each draw.
        median: fit the median over draws instead of the variance.
    """
    if len(xs) < FEWEST_SIZES:
        return Trend(None, None, math.nan, math.nan, math.nan, math.nan, "too few")
    statistic = np.median if median else np.mean
    linear, log = np.asarray(xs, dtype=np.float64), np.log(np.asarray(xs, dtype=np.float64))
    y = np.log(np.array([statistic(squares) for squares in draws]))
    exponential, polynomial = _line(linear, y), _line(log, y)
    constant = _aicc(float(((y - y.mean()) ** 2).sum()), len(y), 2)
    random = np.random.default_rng(SEED)
    again = np.log(np.stack([statistic(_resampled(squares, random), axis=1) for squares in draws]))
    differences = np.sort(len(y) * np.log(_residual(log, again) / _residual(linear, again)))
    out = round((1 - CONFIDENCE) / 2 * RESAMPLES)
    low, high = float(differences[out]), float(differences[-1 - out])
    difference = polynomial.aicc - exponential.aicc
    best = min(polynomial.aicc, exponential.aicc)
    outcome: Outcome = "undecided"
    if constant <= best:
        outcome = "constant"
    elif constant - best >= DECISIVE:
        if difference >= DECISIVE and low > 0:
            outcome = "exponential"
        elif difference <= -DECISIVE and high < 0:
            outcome = "polynomial"
    return Trend(exponential, polynomial, constant, difference, low, high, outcome)


def _resampled(squares: Floats, random: np.random.Generator) -> Floats:
    return squares[random.integers(len(squares), size=(RESAMPLES, len(squares)))]


def _line(x: Floats, y: Floats) -> Line:
    from scipy.stats import linregress

    found: Any = linregress(x, y)
    residual = float(_residual(x, y[:, None])[0])
    half = t_quantile((1 + CONFIDENCE) / 2, len(x) - 2) * float(found.stderr)
    slope = float(found.slope)
    off = math.exp(math.sqrt(residual / (len(x) - 2)))
    return Line(slope, slope - half, slope + half, float(found.intercept), _aicc(residual, len(x), 3), off)


def _residual(x: Floats, ys: Floats) -> Floats:
    """Return the residual sums of squares of lines through the columns of (sizes, k)."""
    design = np.stack([np.ones_like(x), x], axis=1)
    away = ys - design @ np.linalg.lstsq(design, ys, rcond=None)[0]
    # points on a line to rounding fit it no better than this
    return np.asarray(np.maximum((away**2).sum(axis=0), len(x) * 1e-12))


def _aicc(residual: float, n: int, n_parameters: int) -> float:
    correction = 2 * n_parameters * (n_parameters + 1) / (n - n_parameters - 1)
    return n * math.log(max(residual, n * 1e-12) / n) + 2 * n_parameters + correction
