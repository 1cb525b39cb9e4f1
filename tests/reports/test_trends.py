"""Planted variances: the outcome is known before the fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qpabench.reports.trends import Floats, estimate, trend

SIZES = [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]
PLANTED: dict[str, Callable[[float], float]] = {
    "exponential": lambda n: 2.0 ** (-1.5 * n),
    "polynomial": lambda n: n**-2.0,
    "constant": lambda n: 0.3,
}
REPETITIONS, WRONG = 60, 0.05
COVERED = (0.85, 1.0)  # of 60 at 95 %: 5 standard errors are 0.14
SPREAD, WILD = 2.0, 0.05  # shape of the gamma that draws follow: a smaller one is noisier


def drawn(kind: str, seed: int, shape: float = SPREAD, draws: int = 48) -> list[Floats]:
    random = np.random.default_rng(seed)
    return [PLANTED[kind](n) * random.gamma(shape, 1 / shape, draws) for n in SIZES]


@pytest.mark.parametrize("kind", PLANTED)
def test_what_was_planted_is_found_again(kind: str) -> None:
    outcomes = [trend(SIZES, drawn(kind, seed)).outcome for seed in range(REPETITIONS)]
    assert outcomes.count(kind) >= (1 - 2 * WRONG) * REPETITIONS  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["exponential", "polynomial"])
def test_the_interval_of_the_slope_covers_the_truth(kind: str) -> None:
    truth = {"exponential": -1.5 * np.log(2), "polynomial": -2.0}[kind]
    lines = [getattr(trend(SIZES, drawn(kind, seed)), kind) for seed in range(REPETITIONS)]
    share = sum(line.low <= truth <= line.high for line in lines) / REPETITIONS
    assert COVERED[0] <= share <= COVERED[1]


def test_too_much_noise_decides_nothing() -> None:
    random = np.random.default_rng(0)
    for _ in range(REPETITIONS):
        draws = [2.0 ** (-0.1 * n) * random.gamma(WILD, 1 / WILD, 24) for n in SIZES]
        assert trend(SIZES, draws).outcome in ("undecided", "constant")


def test_points_exactly_on_a_line_are_no_trouble() -> None:
    found = trend(SIZES, [np.full(8, 2.0**-n) for n in SIZES])
    assert found.outcome == "exponential"
    assert found.exponential is not None
    assert found.exponential.slope == pytest.approx(-np.log(2))


def test_the_median_is_not_moved_by_one_wild_draw() -> None:
    draws = drawn("exponential", 0)
    for index in (0, 3, 6):
        draws[index] = np.append(draws[index], 1e6 * PLANTED["exponential"](SIZES[index]))
    assert trend(SIZES, draws, median=True).outcome == "exponential"
    assert trend(SIZES, draws).outcome != "exponential"


def test_few_sizes_allow_no_inference() -> None:
    assert trend(SIZES[:4], drawn("exponential", 0)[:4]).outcome == "too few"


def test_an_estimate_has_its_interval_and_its_largest_draw() -> None:
    found = estimate(2, np.array([1.0, 1.0, 2.0, 4.0]))
    assert found is not None
    assert (found.variance, found.median, found.largest) == (2.0, 1.5, 0.5)
    assert found.low < 2 < found.high


def test_rounding_is_no_variance() -> None:
    assert estimate(2, np.full(5, 1e-33)) is None
