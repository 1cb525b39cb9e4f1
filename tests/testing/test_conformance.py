"""The kit passes what is right and names what is wrong."""

from __future__ import annotations

import planted_backends as planted
import pytest

from qpabench import BackendEntry, BackendOptions, UnavailableError
from qpabench.hooks.builtin import qpabench_backends
from qpabench.testing.conformance import CheckResult, run_checks
from qpabench.testing.pytest_plugin import conformance_test

[NATIVE] = qpabench_backends()
test_native = conformance_test(NATIVE)
test_native_shots = conformance_test(NATIVE, shots=8192)
test_native_shots_per_state = conformance_test(NATIVE, shots_per_state=20)


def failures(entry: BackendEntry, shots: int | None = None) -> dict[str, CheckResult]:
    results = run_checks(entry, BackendOptions(shots=shots))
    return {result.name: result for result in results if not result.passed}


@pytest.mark.parametrize(
    ("entry", "shots", "check", "said"),
    [
        (planted.entry(planted.Reversed), None, "bit-order", "gave state 001, expected 100: qubit 0"),
        (planted.entry(planted.Lossy), None, "distribution", "sum to 0.900000, expected 1"),
        (planted.entry(planted.IgnoresSeed), 100, "seeds-differ", "is the seed ignored?"),
        (planted.entry(planted.GlobalRandomness), 100, "repeatable", "two runs with seed 5 differ"),
        (planted.entry(planted.WrongGradient, gradient=True), None, "gradient", "the derivative by angle"),
        (planted.entry(planted.NoGradient, gradient=True), None, "gradient", "carry no gradient"),
        (planted.entry(planted.NanAtPi), None, "special-angles", "isn't finite"),
        (planted.entry(planted.SwappedRows), None, "batch", "batch row 0"),
        (planted.entry(planted.NoGradient, noise=True), None, "noise", "no noise can be seen"),
        (planted.entry(planted.Raises), None, "distribution", "raised ZeroDivisionError: planted"),
        (planted.entry(planted.NoGradient, max_qubits=0), None, "qubit-limit", "expected at least 1"),
    ],
    ids=lambda value: value.name if isinstance(value, BackendEntry) else None,
)
def test_a_planted_fault_is_found_and_named(
    entry: BackendEntry, shots: int | None, check: str, said: str
) -> None:
    found = failures(entry, shots)
    assert check in found
    assert said in found[check].reason


def test_a_wrong_gradient_fails_nothing_but_the_gradient() -> None:
    assert set(failures(planted.entry(planted.WrongGradient, gradient=True))) == {"gradient"}


def test_an_ignored_seed_fails_nothing_but_the_seed() -> None:
    assert set(failures(planted.entry(planted.IgnoresSeed), 100)) == {"seeds-differ"}


def test_a_backend_that_cannot_be_loaded_is_one_failed_check() -> None:
    entry = BackendEntry(name="gone", summary="", load="no_such_module:Backend")
    [result] = run_checks(entry, BackendOptions())
    assert (result.name, result.passed) == ("load", False)
    assert "no_such_module" in result.reason


class LackingOptions(BackendOptions):
    """Needs what isn't there."""

    def missing(self) -> str | None:
        """Say so."""
        return "sdk is not installed; python -m pip install sdk"


def test_a_missing_package_is_unavailable_with_its_command() -> None:
    entry = BackendEntry(name="lacking", summary="", load="nowhere:Nothing", options=LackingOptions)
    with pytest.raises(UnavailableError, match="pip install sdk"):
        run_checks(entry, LackingOptions())
