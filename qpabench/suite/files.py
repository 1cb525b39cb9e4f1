"""TOML files, read within bounds."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qpabench.errors import InputError, one_line

LARGEST_FILE_BYTES = 4 * 2**20
DEEPEST = 40


def parse_file(path: Path, source: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: the file.
        source: its name, for messages.

    Raises:
        InputError: it can't be read, isn't TOML, or is larger or deeper than a suite needs to be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)  # not all: a device has no end
        if len(data) > LARGEST_FILE_BYTES:
            raise InputError(f"{source}: found more than {LARGEST_FILE_BYTES} bytes, expected a suite file")
        text = data.decode("utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such file; expected a suite in TOML") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(
            f"{source}: cannot read ({one_line(error)}); expected a suite in TOML (UTF-8)"
        ) from error
    try:
        content = tomllib.loads(text)
        bounded(source, content)
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise InputError(f"{source}: not TOML: {one_line(error)}; expected key = value") from error
    except RecursionError as error:
        raise InputError(f"{source}: tables nested too deeply; expected at most {DEEPEST} levels") from error
    return content


def bounded(source: str, value: object, depth: int = 0) -> None:
    """Refuse values nested too deeply and numbers beyond 64 bits.

    Raises:
        InputError: it is one of these.
    """
    if depth > DEEPEST:
        raise InputError(f"{source}: tables nested too deeply; expected at most {DEEPEST} levels")
    children: Sequence[object] = ()
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, list):
        children = value
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InputError(f"{source}: found a number beyond 64 bits, expected one within")
    for child in children:
        bounded(source, child, depth + 1)
