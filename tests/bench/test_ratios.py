"""The gate: what it calls a slow-down, and what it doesn't."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ratios import NOISE_OF_FEW, Ratio, complaints, duration, noise_of, ratio, read_baselines, write_baseline

QUIET = [1.0, 1.01, 0.99, 1.0, 1.0]


def ratio_of(value: float, better: str = "low", noise: float = 0.0) -> Ratio:
    return Ratio("step", value, noise, better)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "before", "better", "noise", "slower"),
    [
        (1.0, 1.0, "low", 0.0, False),
        (1.2, 1.0, "low", 0.0, False),  # within the tolerance
        (1.3, 1.0, "low", 0.0, True),
        (1.3, 1.0, "low", 0.1, False),  # within tolerance and noise together
        (0.5, 1.0, "low", 0.0, False),  # faster
        (50.0, 90.0, "high", 0.0, True),
        (90.0, 50.0, "high", 0.0, False),
    ],
)
def test_a_slow_down_is_one_beyond_tolerance_and_noise(
    now: float, before: float, better: str, noise: float, slower: bool
) -> None:
    found = complaints([ratio_of(now, better, noise)], {"step": {"value": before, "better": better}})
    assert bool(found) == slower


def test_a_vanished_benchmark_is_named() -> None:
    [complaint] = complaints([], {"step": {"value": 1.0, "better": "low"}})
    assert complaint.startswith("step: vanished")


def test_a_new_benchmark_is_no_slow_down() -> None:
    assert complaints([ratio_of(9.0)], {}) == []


def test_what_slows_both_rivals_down_changes_neither_ratio_nor_noise() -> None:
    slow = [5 * seconds for seconds in QUIET]
    found = ratio("step", slow, slow, "low")
    assert (found.value, found.noise) == (1.0, 0.0)


def test_noise_grows_with_the_spread_of_the_rounds() -> None:
    quiet, loud = noise_of(QUIET, [1.0] * 5), noise_of([1.0, 2.0, 0.5, 1.5, 0.7], [1.0] * 5)
    assert quiet < 0.05 < loud
    assert noise_of([1.0], [1.0]) == NOISE_OF_FEW


def test_each_kind_of_processor_has_its_own_baseline(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert read_baselines(path) == {}
    write_baseline(path, "one", [ratio_of(1.5)])
    write_baseline(path, "other", [ratio_of(9.0)])
    write_baseline(path, "one", [ratio_of(2.0)])
    assert read_baselines(path) == {
        "one": {"step": {"value": 2.0, "better": "low"}},
        "other": {"step": {"value": 9.0, "better": "low"}},
    }


@pytest.mark.parametrize(("seconds", "text"), [(2e-6, "2 µs"), (0.0123, "12.3 ms"), (4.56, "4.56 s")])
def test_times_have_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("disabled", ["0", "1"])
def test_told_not_to_check_types_the_tests_leave_the_package_as_it_is(disabled: str) -> None:
    """A wrapper that checks nothing would still be measured."""
    code = "import conftest, qpabench.training.head as head; print(hasattr(head.fast_loss, '__wrapped__'))"
    env = os.environ | {"JAXTYPING_DISABLE": disabled}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], env=env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(disabled == "0")
