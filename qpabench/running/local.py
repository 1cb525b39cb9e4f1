"""Runs cells on this machine: each in a process forked from a server that has torch imported already."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from qpabench.errors import ClaimedError, StorageError, one_line
from qpabench.records.record import Record, Status
from qpabench.records.store import RunDirectory
from qpabench.running.executor import Events, Executor, Job

POLL_SECONDS = 0.2
BUSY_SECONDS = 2.0  # how long a cell held by another runner is left alone
WRITING_SECONDS = 60.0  # how long a cell that is writing its record may take when the run is stopped
KILLED = -9


@dataclass
class _Running:
    job: Job
    process: Any
    connection: Connection
    is_features: bool
    started: float
    outcome: tuple[Any, ...] | None = None
    writing: bool = False
    stopped_for: tuple[Status, str] | None = None


@dataclass
class _State:
    waiting: list[Job]
    ready: set[str] = field(default_factory=set)  # features that are there
    running: list[_Running] = field(default_factory=list)
    held: dict[str, float] = field(default_factory=dict)  # cells another runner has, until when


class LocalExecutor(Executor):
    """Processes on this machine, isolated from each other and from the runner."""

    def run(self, jobs: Sequence[Job], events: Events) -> None:
        """Run every job; see ``Executor``.

        Raises:
            StorageError: a file can't be written; cells that were at work are left for the next run.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["qpabench.running.preloaded"])
        _start_server()
        state = _State(list(jobs))
        try:
            while state.waiting or state.running:
                self._start(context, state, events)
                self._listen(state, events)
                self._enforce_limits(state)
                self._reap(state, events)
        finally:
            for running in state.running:
                self._receive(running, events)
                if running.writing:  # measured already
                    running.process.join(WRITING_SECONDS)
                running.process.kill()
                running.process.join()

    def _start(self, context: Any, state: _State, events: Events) -> None:
        now = time.monotonic()
        busy = {running.job.features for running in state.running if running.is_features}
        for job in list(state.waiting):
            if len(state.running) >= self.jobs:
                return
            if job.features in busy or state.held.get(job.id, 0) > now:
                continue
            is_features = bool(job.features) and job.features not in state.ready
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_enter, args=(is_features, theirs, job, self.jobs), daemon=True)
            process.start()
            theirs.close()
            state.running.append(_Running(job, process, mine, is_features, now))
            if is_features:
                busy.add(job.features)
            else:
                state.waiting.remove(job)
            events.started(job, "features" if is_features else "cell")

    def _listen(self, state: _State, events: Events) -> None:
        handles = [running.connection for running in state.running] + [
            running.process.sentinel for running in state.running
        ]
        if not handles:
            time.sleep(POLL_SECONDS)
            return
        wait(handles, timeout=POLL_SECONDS)
        for running in state.running:
            self._receive(running, events)

    def _receive(self, running: _Running, events: Events) -> None:
        try:
            while running.outcome is None and running.connection.poll():
                message = running.connection.recv()
                if message[0] == "progress":
                    events.progress(running.job, *message[1:])
                elif message[0] == "warning":
                    events.warn(*message[1:])
                elif message[0] == "writing":
                    running.writing = True
                else:
                    running.outcome = message
        except (EOFError, OSError):
            return

    def _enforce_limits(self, state: _State) -> None:
        for running in state.running:
            seconds = time.monotonic() - running.started
            timeout, memory = self.limits.timeout_seconds, self.limits.memory_bytes
            if running.outcome is not None or running.stopped_for is not None or running.writing:
                continue
            if timeout is not None and seconds > timeout and not running.is_features:
                self._stop(
                    running, "timeout", f"ran longer than {timeout:g} seconds; raise limits.timeout_seconds"
                )
            elif memory is not None and _resident_bytes(running.process.pid) > memory:
                reason = f"held more than {memory:g} bytes; raise limits.memory_bytes or make it smaller"
                self._stop(running, "out-of-memory", reason)

    def _stop(self, running: _Running, status: Status, reason: str) -> None:
        running.stopped_for = (status, reason)
        running.process.kill()

    def _reap(self, state: _State, events: Events) -> None:
        for running in list(state.running):
            if running.process.is_alive() and running.outcome is None:
                continue
            running.process.join()
            self._receive(running, events)
            running.connection.close()
            state.running.remove(running)
            if running.outcome is not None and running.outcome[0] == "stop":
                raise StorageError(running.outcome[1])
            if running.is_features:
                self._features_ended(running, state, events)
            elif running.outcome == ("busy",):
                self._hold(running.job, state)
            elif running.outcome is None:
                self._fail(running.job, *_cause(running), state, events)
            else:
                events.finished(running.job)

    def _features_ended(self, running: _Running, state: _State, events: Events) -> None:
        if running.outcome == ("done",):
            state.ready.add(running.job.features)
            return
        status, reason = running.outcome[1:] if running.outcome is not None else _cause(running)
        for job in [job for job in state.waiting if job.features == running.job.features]:
            state.waiting.remove(job)
            self._fail(job, status, reason, state, events)

    def _fail(self, job: Job, status: Status, reason: str, state: _State, events: Events) -> None:
        """Record why a cell has no result, unless it has one by now, its own or another runner's."""
        directory = RunDirectory(job.run_directory)
        try:
            with directory.claim(job.id):
                if directory.stamp(job.id) in (None, job.known):
                    directory.write(Record(job.cell, status, reason))
        except ClaimedError:
            self._hold(job, state)
        else:
            events.finished(job)

    def _hold(self, job: Job, state: _State) -> None:
        """Leave a cell to the runner that has it, and look again later."""
        state.held[job.id] = time.monotonic() + BUSY_SECONDS
        state.waiting.append(job)


def _start_server() -> None:
    """Start the process that workers are forked from, deaf to Ctrl-C from its first moment.

    It would say so by a traceback, in the middle of its imports. Blocked signals stay so in what it starts;
    here a Ctrl-C is only put off.
    """
    resource_tracker.ensure_running()  # would be started with the server, and let interrupts in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enter(is_features: bool, connection: Connection, job: Job, jobs: int) -> None:
    """Process entry; the runner itself never imports torch, which takes seconds."""
    from qpabench.running import worker

    compute = worker.compute_features if is_features else worker.compute_cell
    compute(connection, job, jobs)


def _cause(running: _Running) -> tuple[Status, str]:
    if running.stopped_for is not None:
        return running.stopped_for
    code = running.process.exitcode
    if code == KILLED:
        return "out-of-memory", "the process was killed (signal 9), as a system short of memory does"
    what = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return "failed", one_line(
        f"the process ended with {what} before it had a result; see logs/{running.job.id}.log"
    )


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
