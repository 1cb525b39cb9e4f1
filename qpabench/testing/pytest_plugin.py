"""The conformance kit as tests: a plugin author's whole test file is

    from my_plugin import qpabench_backends
    from qpabench.testing.pytest_plugin import conformance_test

    [entry] = qpabench_backends()
    test_exact = conformance_test(entry)
    test_shots = conformance_test(entry, shots=8192)

Each check is one test, named after it; they are skipped, with the command that installs what is missing,
where the backend's package is absent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from qpabench.hooks.entries import BackendEntry, BackendOptions
from qpabench.testing.bench import Bench, CheckError, make_bench
from qpabench.testing.conformance import checks_for


def conformance_test(entry: BackendEntry, **options: Any) -> Callable[..., None]:
    """Make a test function, parametrised by the checks that apply; assign it to a name starting with test.

    Args:
        entry: the backend's entry.
        options: of the backend, as in a suite: ``shots=8192``, ``device="lightning.qubit"``.

    Returns:
        A test function for pytest.
    """
    chosen = entry.options(**options)
    assert isinstance(chosen, BackendOptions)
    found = checks_for(entry, chosen)

    @cache
    def bench() -> Bench:
        return make_bench(entry, chosen)

    @pytest.mark.parametrize("check", found)
    def test(check: str) -> None:
        lacking = chosen.missing()
        if lacking:
            pytest.skip(lacking)
        try:
            found[check](bench())
        except CheckError as failure:
            pytest.fail(f"{entry.name}: {check}: {failure}", pytrace=False)

    return test
