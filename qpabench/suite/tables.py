"""Reads a table of a suite file whose keys are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qpabench.errors import InputError, nearest, one_line


def known_table(source: str, key: str, value: object, known: Sequence[str]) -> Mapping[str, Any]:
    """Return a table, none of whose keys is unknown.

    Args:
        source: the suite file, for messages.
        key: where the table stands.
        value: what stands there.
        known: keys.

    Raises:
        InputError: not a table, or an unknown key.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{source}: {key}: found {type(value).__name__}, expected a table")
    for name in value:
        if name not in known:
            raise InputError(f"{source}: {key}.{one_line(name, 60)}: unknown key; {nearest(name, known)}")
    return value


def shown(value: object) -> str:
    """Return how a message names what was found."""
    return "nothing" if value is None else one_line(repr(value), 60)
