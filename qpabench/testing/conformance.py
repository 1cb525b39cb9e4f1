"""The conformance kit: what any circuit backend must do, as named checks with readable reasons."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from qpabench.errors import one_line
from qpabench.hooks.entries import BackendEntry, BackendOptions
from qpabench.testing import checks
from qpabench.testing.bench import ANSATZE, Bench, CheckError, make_bench

Check = Callable[[Bench], None]


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Args:
        name: of the check.
        passed: whether it passed.
        reason: what was found and what was expected; "ok" when it passed.
        seconds: how long it took.
    """

    name: str
    passed: bool
    reason: str
    seconds: float


def checks_for(entry: BackendEntry, options: BackendOptions) -> dict[str, Check]:
    """Return the checks that apply to a backend with these options, by name, without loading it.

    Args:
        entry: the backend's entry.
        options: an instance of its options model.

    Returns:
        Checks in the order in which they run.
    """
    sampled = options.shots is not None or options.shots_per_state is not None or not entry.exact
    found: dict[str, Check] = {
        "distribution": checks.distribution,
        "bit-order": checks.bit_order,
        **{f"agreement-{name}": partial(checks.agreement, ansatz=name) for name in ANSATZE},
        "batch": checks.batch,
    }
    bench_without_backend = Bench(entry, options, backend=None, sampled=sampled)  # type: ignore[arg-type]
    if bench_without_backend.own_gradient():
        found["gradient"] = checks.own_gradient
    found["estimators"] = checks.estimators
    found["repeatable"] = checks.repeatable
    if sampled:
        found["seeds-differ"] = checks.seeds_differ
    found["special-angles"] = checks.special_angles
    found["one-qubit"] = checks.one_qubit
    found["twelve-qubits"] = checks.twelve_qubits
    found["qubit-limit"] = checks.qubit_limit
    if entry.noise:
        found["noise"] = checks.noise
    return found


def run_checks(entry: BackendEntry, options: BackendOptions) -> list[CheckResult]:
    """Run every check that applies to a backend.

    Args:
        entry: the backend's entry.
        options: an instance of its options model; shots in them make it a sampling backend.

    Returns:
        One result a check, in order; "load" alone if the backend can't be made.

    Raises:
        UnavailableError: what the backend needs is missing; the message says how to get it.
    """
    lacking = options.missing()
    if lacking:
        make_bench(entry, options)
    holder: list[Bench] = []
    loaded = _timed("load", lambda: holder.append(make_bench(entry, options)))
    if not loaded.passed:
        return [loaded]
    bench = holder[0]
    return [
        loaded,
        *(_timed(name, partial(check, bench)) for name, check in checks_for(entry, options).items()),
    ]


def _timed(name: str, work: Callable[[], None]) -> CheckResult:
    started = time.perf_counter()
    try:
        work()
    except CheckError as failure:
        passed, reason = False, str(failure)
    except Exception as error:  # a plugin may raise anything; the kit reports it
        passed, reason = False, f"raised {type(error).__name__}: {one_line(error)}"
    else:
        passed, reason = True, "ok"
    return CheckResult(name, passed, reason, time.perf_counter() - started)
