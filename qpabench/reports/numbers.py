"""Numbers as text: significant digits, thousands separators, units."""

from __future__ import annotations

import math

from qpabench.reports.metrics import Kind

MINUS = "−"


def significant(value: float, digits: int = 4) -> str:
    """Write a number with that many significant digits, without an exponent where that stays readable."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    exponent = math.floor(math.log10(abs(value)))
    rounded = round(value, digits - 1 - exponent)
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent >= 9 or exponent < -4:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}".replace("-", MINUS)


def count(value: float) -> str:
    """Write a whole number with thousands separators."""
    return f"{round(value):,}" if float(value).is_integer() else significant(value)


def seconds(value: float) -> str:
    """Write a duration in the unit in which it reads best."""
    for limit, factor, unit in (
        (1e-3, 1e6, "µs"),
        (1.0, 1e3, "ms"),
        (120.0, 1.0, "s"),
        (7200.0, 1 / 60, "min"),
    ):
        if abs(value) < limit:
            return f"{significant(value * factor, 3)} {unit}"
    return f"{significant(value / 3600, 3)} h"


def size(value: float) -> str:
    """Write a number of bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{significant(value, 3)} {unit}"
        value /= 1024
    return f"{significant(value, 3)} TiB"


def nats(value: float) -> str:
    """Write a difference of NLL with its sign, in nats."""
    digits = 4 if value == 0 or abs(value) >= 1e-3 else 6
    return f"{value:+.{digits}f}".replace("-", MINUS)


def percent(value: float, digits: int = 1) -> str:
    """Write a share as a percentage."""
    return f"{100 * value:.{digits}f} %".replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign."""
    return ("+" if value > 0 else "") + significant(value, digits)


def signed_percent(value: float) -> str:
    """Write a relative difference with its sign."""
    digits = 1 if abs(value) >= 1e-3 else 3
    return ("+" if value > 0 else "") + percent(value, digits)


def of_kind(kind: Kind, value: float) -> str:
    """Write a metric's value."""
    match kind:
        case "seconds":
            return seconds(value)
        case "bytes":
            return size(value)
        case "parameters" | "count":
            return count(value)
        case "share":
            return percent(value)
        case _:
            return significant(value)
