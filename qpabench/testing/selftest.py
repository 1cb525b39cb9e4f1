"""A quick self-test of a backend, for ``qpabench doctor``: one small circuit against ``native``."""

from __future__ import annotations

import time
from dataclasses import dataclass

from qpabench.errors import UnavailableError, one_line
from qpabench.hooks.entries import BackendEntry, BackendOptions
from qpabench.testing.bench import ANSATZE, CheckError, distance, make_bench, native, random_angles


@dataclass(frozen=True)
class SelfTest:
    """The outcome.

    Args:
        ok: the backend gave what it should.
        text: one line for a person.
        seconds: loading and running together.
    """

    ok: bool
    text: str
    seconds: float

    def __str__(self) -> str:
        return self.text


def self_test(entry: BackendEntry, options: BackendOptions) -> SelfTest:
    """Load a backend and run one circuit of 4 qubits and 2 repetitions, well within ten seconds.

    Args:
        entry: the backend's entry.
        options: an instance of its options model.

    Returns:
        Whether it agrees with ``native``, by how much, and how long that took; missing packages and errors
        are outcomes, not exceptions.
    """
    started = time.perf_counter()
    try:
        bench = make_bench(entry, options)
        loaded = time.perf_counter()
        circuit = ANSATZE["ryrz"](bench.n_qubits, 2)
        angles = random_angles(circuit, 1)
        found = bench.run(circuit, angles)
        ran = time.perf_counter()
        ideal = native(circuit, angles)
        bench.agree(found, ideal, f"{circuit.n_qubits} qubits")
        ok = True
        text = (
            f"ok: {circuit.n_qubits} qubits, total variation distance to native {distance(found, ideal):.2g}"
            f"{f' from {bench.shots} shots' if bench.shots else ''}, "
            f"loaded in {loaded - started:.2f} s, ran in {ran - loaded:.3f} s"
        )
    except UnavailableError as lacking:
        ok, text = False, f"unavailable: {one_line(lacking)}"
    except CheckError as failure:
        ok, text = False, f"wrong: {failure}"
    except Exception as error:  # a plugin may raise anything; doctor goes on
        ok, text = False, f"failed: {type(error).__name__}: {one_line(error)}"
    return SelfTest(ok, text, time.perf_counter() - started)
