"""Inference over seeds and rows, held against planted truths."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t, ttest_1samp

from qpabench.reports.inference import ALPHA, Estimate, crossed, estimate, holm, outcome
from qpabench.reports.statistics import RowSums

REPETITIONS = 1000
TRUTH = 0.02
MARGIN = 0.01
#: seeds, rows, and the standard deviations of seed, row (per square root of tokens) and rest effects
DESIGNS = {
    "seeds vary most": (5, 100, 0.02, 0.05, 0.05),
    "rows vary most": (5, 100, 0.001, 0.3, 0.1),
    "both": (5, 160, 0.008, 0.15, 0.1),
    "ten seeds, few rows": (10, 20, 0.01, 0.1, 0.1),
}
Floats = NDArray[np.float64]


def planted(design: str, truth: float, key: int = 0) -> tuple[Floats, Floats]:
    """Return sums (repetitions, seeds, rows) and tokens (rows,)."""
    n_seeds, n_rows, seed, row, rest = DESIGNS[design]
    random = np.random.default_rng(key)
    tokens = random.integers(5, 120, n_rows).astype(float)
    differences = (
        truth
        + seed * random.normal(size=(REPETITIONS, n_seeds, 1))
        + row * random.normal(size=(REPETITIONS, 1, n_rows)) / np.sqrt(tokens)
        + rest * random.normal(size=(REPETITIONS, n_seeds, n_rows)) / np.sqrt(tokens)
    )
    return differences * tokens, tokens


@pytest.mark.parametrize("design", DESIGNS)
def test_the_interval_covers_the_truth_in_93_to_97_percent(design: str) -> None:
    covered = []
    for key in range(4):  # 4,000 repetitions: the share is then known to 0.7 points
        mean, error, df = crossed(*planted(design, TRUTH, key))
        covered.append(np.abs(mean - TRUTH) <= t.ppf(1 - ALPHA / 2, df) * error)
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("design", DESIGNS)
def test_no_difference_is_called_one_in_about_5_percent(design: str) -> None:
    mean, error, df = crossed(*planted(design, 0.0))
    assert np.mean(2 * t.sf(np.abs(mean) / error, df) <= ALPHA) <= 0.07


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("times", [1.0, 2.0])
def test_equivalence_is_not_declared_at_or_beyond_the_margin(design: str, times: float) -> None:
    sums, tokens = planted(design, times * MARGIN)
    mean, error, df = crossed(sums, tokens)
    declared = t.sf((MARGIN - np.abs(mean)) / error, df) <= ALPHA
    assert declared.mean() <= (0.05 if times == 2.0 else 0.07)


def test_equivalence_is_declared_where_it_can_be_seen() -> None:
    mean, error, df = crossed(*planted("rows vary most", 0.0))
    assert np.mean(t.sf((0.05 - np.abs(mean)) / error, df) <= ALPHA) > 0.8


def test_the_smallest_effect_is_found_in_80_percent() -> None:
    reference = crossed(*planted("both", 0.0))
    effect = float(np.median([_of(*one).smallest_effect or 0 for one in zip(*reference, strict=True)]))
    mean, error, df = crossed(*planted("both", effect, key=1))
    assert np.mean(2 * t.sf(np.abs(mean) / error, df) <= ALPHA) == pytest.approx(0.8, abs=0.1)


def test_with_seeds_alone_varying_it_is_the_t_test_on_means_of_seeds() -> None:
    sums = np.random.default_rng(0).normal(size=(1, 6, 1)) * np.ones((1, 6, 40))
    mean, error, df = crossed(sums, np.ones(40))
    p = 2 * t.sf(abs(mean[0]) / error[0], df[0])
    assert p == pytest.approx(ttest_1samp(sums[0].mean(axis=1), 0).pvalue, rel=1e-9)


def _of(mean: float, error: float, df: float) -> Estimate:
    return Estimate(float(mean), float(error), float(df), 5, 100, 5000)


def runs(n_seeds: int, shift: float, n_rows: int = 30, spread: float = 0.001) -> list[RowSums]:
    random = np.random.default_rng(0)
    tokens = np.full(n_rows, 20.0)
    base = random.normal(60, 5, n_rows)
    noise = random.normal(0, spread, (n_seeds, n_rows))
    return [RowSums(base + (shift + noise[s]) * tokens, tokens) for s in range(n_seeds)]


def test_one_run_gives_the_difference_and_no_inference() -> None:
    found = estimate(runs(1, 0.1), runs(1, 0.0))
    assert found is not None
    assert found.nats == pytest.approx(0.1)
    assert found.interval is None
    assert found.p_difference is None
    assert found.p_equivalence(1.0) is None
    assert found.smallest_effect is None
    assert outcome(found.nats, found.p_difference, found.p_equivalence(1.0)) == "no inference"


def test_two_runs_are_too_few() -> None:
    found = estimate(runs(2, 0.1), runs(2, 0.0))
    assert found is not None
    assert found.interval is None


def test_identical_runs_are_equivalent_at_any_margin() -> None:
    found = estimate(runs(3, 0.0), runs(3, 0.0))
    assert found is not None
    assert (found.nats, found.standard_error) == (0.0, 0.0)
    assert found.p_difference == 1.0
    assert found.p_equivalence(1e-6) == 0.0


def test_equivalence_is_two_one_sided_t_tests() -> None:
    margin, mean, error, df = 0.01, 0.004, 0.003, 7.0
    above, below = t.sf((mean + margin) / error, df), t.cdf((mean - margin) / error, df)
    assert _of(mean, error, df).p_equivalence(margin) == pytest.approx(max(above, below), rel=1e-9)


def test_other_rows_give_no_estimate() -> None:
    assert estimate(runs(3, 0.1, n_rows=30), runs(3, 0.0, n_rows=29)) is None


def test_holm_is_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_falls_below_the_p_value_nor_exceeds_one() -> None:
    values = np.random.default_rng(0).uniform(size=20).tolist()
    assert all(a >= p and a <= 1 for a, p in zip(holm(values), values, strict=True))


@pytest.mark.parametrize(
    ("nats", "difference", "equivalence", "expected"),
    [
        (-0.1, 0.01, 1.0, "better"),
        (0.1, 0.01, 1.0, "worse"),
        (0.1, 0.2, 0.6, "undecided"),
        (0.001, 0.6, 0.01, "equivalent"),
        (0.001, 0.01, 0.01, "equivalent"),  # told from zero, but too small to matter
    ],
)
def test_what_follows(nats: float, difference: float, equivalence: float, expected: str) -> None:
    assert outcome(nats, difference, equivalence) == expected
