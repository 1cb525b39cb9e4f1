"""Numbers read as people write them."""

from __future__ import annotations

import pytest

from qpabench.reports import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (38.98, "38.98"),
        (4.31, "4.310"),
        (32454.6, "32,450"),
        (9.99996, "10.00"),
        (999.96, "1,000"),
        (0, "0"),
        (1.3e-7, "1.300e−07"),
        (-0.5, "−0.5000"),
        (2.5e12, "2.500e+12"),
    ],
)
def test_four_significant_digits(value: float, text: str) -> None:
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-5, "20.0 µs"), (0.0154, "15.4 ms"), (6.0, "6.00 s"), (300.0, "5.00 min"), (9000.0, "2.50 h")],
)
def test_seconds_have_a_readable_unit(value: float, text: str) -> None:
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(512, "512 B"), (2**30, "1.00 GiB"), (1.5 * 2**20, "1.50 MiB")])
def test_bytes_have_binary_units(value: float, text: str) -> None:
    assert numbers.size(value) == text


def test_counts_have_thousands_separators() -> None:
    assert numbers.count(106264) == "106,264"


def test_difference_has_a_sign() -> None:
    assert (numbers.nats(0.0123), numbers.nats(-0.0123)) == ("+0.0123", "−0.0123")


def test_small_nats_are_not_rounded_to_nothing() -> None:
    assert (numbers.nats(-0.00002), numbers.nats(0.0)) == ("−0.000020", "+0.0000")
