"""``qpabench plugin check NAME``: the conformance kit on a backend found by its name."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from qpabench.errors import InputError, nearest, one_line
from qpabench.hooks.entries import BackendEntry, BackendOptions
from qpabench.hooks.manager import load_registry
from qpabench.testing.conformance import CheckResult, run_checks

DEFAULT_SHOTS = 8192  # for backends that can only sample


def check_backend(name: str, settings: Sequence[str] = ()) -> list[CheckResult]:
    """Run the kit on a backend.

    Args:
        name: of an installed backend.
        settings: ``OPTION=VALUE`` texts, the value in TOML.

    Returns:
        One result a check.

    Raises:
        InputError: the name or an option is wrong.
        UnavailableError: what the backend needs is missing.
    """
    entry = load_registry().find("backend", name).entry
    assert isinstance(entry, BackendEntry)
    values = dict(_setting(text, entry) for text in settings)
    if not entry.exact and not {"shots", "shots_per_state"} & values.keys():
        values["shots"] = DEFAULT_SHOTS
    try:
        options = entry.options(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"backend {name}: {key}: found {first['input']!r}; {first['msg']}") from error
    assert isinstance(options, BackendOptions)
    return run_checks(entry, options)


def _setting(text: str, entry: BackendEntry) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or key not in entry.options.model_fields:
        raise InputError(
            f"--set {one_line(text, 80)!r}: expected OPTION=VALUE; {nearest(key, entry.options.model_fields)}"
        )
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value.strip()
