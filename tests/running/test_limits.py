"""Limits of a cell, and cells that are there already, without a whole run around them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from qpabench.records.record import Record
from qpabench.records.store import RunDirectory
from qpabench.running import worker
from qpabench.running.executor import Job, Limits
from qpabench.running.local import LocalExecutor, _Running, _State

CELL = {"id": "0123456789abcdef"}


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[_Running]:
    """A process that began its cell ten seconds ago."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    connection, other = Pipe()
    other.close()
    yield _Running(Job(CELL, "features", tmp_path), process, connection, False, time.monotonic() - 10)
    connection.close()
    process.kill()
    process.wait(10)


def enforce(running: _Running, **limits: float) -> tuple[str, str] | None:
    LocalExecutor(limits=Limits(**limits))._enforce_limits(_State([], running=[running]))
    return running.stopped_for


def test_a_cell_past_its_timeout_is_stopped(sleeping: _Running) -> None:
    stopped = enforce(sleeping, timeout_seconds=5)
    assert stopped is not None
    assert stopped[0] == "timeout"
    assert sleeping.process.wait(10) == -9


def test_a_cell_past_its_memory_is_stopped(sleeping: _Running) -> None:
    stopped = enforce(sleeping, memory_bytes=1000)
    assert stopped is not None
    assert stopped[0] == "out-of-memory"
    assert sleeping.process.wait(10) == -9


def test_a_cell_within_its_limits_goes_on(sleeping: _Running) -> None:
    assert enforce(sleeping, timeout_seconds=60, memory_bytes=1e12) is None
    assert sleeping.process.poll() is None


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a worker would run; its output stays where it is."""
    found: list[Any] = []
    monkeypatch.setattr(worker, "_contained", lambda job, what: nullcontext())
    monkeypatch.setattr(worker, "_run_and_record", lambda *given: found.append(given))
    return found


def work(root: Path, *, fresh: bool = False) -> Any:
    mine, theirs = Pipe(duplex=False)
    known = RunDirectory(root).stamp(CELL["id"])
    worker.compute_cell(theirs, Job(CELL, "features", root, fresh=fresh, known=known), 1)
    theirs.close()
    return mine.recv()


def test_a_worker_leaves_a_finished_cell_alone(tmp_path: Path, ran: list[Any]) -> None:
    RunDirectory(tmp_path).write(Record(CELL, "ok"))
    assert work(tmp_path) == ("done",)
    assert not ran


@pytest.mark.parametrize("fresh", [False, True])
def test_a_worker_runs_a_cell_that_failed_or_is_wanted_anew(
    tmp_path: Path, ran: list[Any], fresh: bool
) -> None:
    RunDirectory(tmp_path).write(Record(CELL, "ok" if fresh else "failed", "" if fresh else "why"))
    assert work(tmp_path, fresh=fresh) == ("done",)
    assert len(ran) == 1
