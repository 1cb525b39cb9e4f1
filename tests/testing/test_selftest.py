"""The self-test says in one line whether a backend works."""

from __future__ import annotations

import planted_backends as planted
from test_conformance import LackingOptions

from qpabench import BackendEntry, BackendOptions
from qpabench.hooks.builtin import qpabench_backends
from qpabench.testing.selftest import self_test

[NATIVE] = qpabench_backends()


def test_a_right_backend_is_ok_within_ten_seconds() -> None:
    found = self_test(NATIVE, BackendOptions())
    assert found.ok
    assert str(found).startswith("ok: 4 qubits")
    assert found.seconds < 10


def test_a_wrong_backend_is_called_wrong() -> None:
    found = self_test(planted.entry(planted.Reversed), BackendOptions())
    assert not found.ok
    assert found.text.startswith("wrong: 4 qubits")


def test_an_error_is_an_outcome() -> None:
    found = self_test(planted.entry(planted.Raises), BackendOptions())
    assert not found.ok
    assert "ZeroDivisionError" in found.text


def test_a_missing_package_is_an_outcome() -> None:
    entry = BackendEntry(name="lacking", summary="", load="nowhere:Nothing", options=LackingOptions)
    found = self_test(entry, LackingOptions())
    assert found.text == "unavailable: sdk is not installed; python -m pip install sdk"
