"""Runs one cell in its own process; nothing it does can reach another cell."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # optimizers import it: two seconds, here once for all cells
from safetensors.torch import save

from qpabench import compiled
from qpabench.errors import (
    ClaimedError,
    DamagedError,
    QpabenchError,
    StorageError,
    UnavailableError,
    UnsupportedError,
    one_line,
)
from qpabench.hooks.manager import Registry, load_registry
from qpabench.randomness import derive_seed
from qpabench.records.provenance import provenance
from qpabench.records.record import Record, Status
from qpabench.records.store import RunDirectory, storage_error
from qpabench.running import log_keeper
from qpabench.running.executor import Job, threads_for
from qpabench.suite.cell import Cell
from qpabench.suite.variance import cell_of, is_point
from qpabench.training.checkpoint import Checkpoints
from qpabench.training.features import ensure_features, open_features
from qpabench.training.gradient_variance import measure_point
from qpabench.training.kept import with_kept
from qpabench.training.live import features_of
from qpabench.training.loop import run_cell

LOST_PARENT = 3
SECONDS_BETWEEN_MESSAGES = 0.2
KEEPER_SECONDS = 5.0


@dataclass
class Channel:
    """Sends messages to the executor; ends the process when nobody listens any more."""

    connection: Connection
    _last: float = 0.0

    def tell(self, *message: Any) -> None:
        """Send one message."""
        try:
            self.connection.send(message)
        except OSError:
            os._exit(LOST_PARENT)

    def progress(self, what: str, done: int, total: int, loss: float | None = None) -> None:
        """Send progress, at most a few times a second."""
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_MESSAGES or done == total:
            self._last = now
            self.tell("progress", what, done, total, loss)

    def warn(self, text: str) -> None:
        """Send a line that a person should see."""
        self.tell("warning", text)


def settle(threads: int, seed: int) -> None:
    """Set what decides numbers as if no plugin had been loaded; any of them may have changed it.

    The global random streams too: a plugin that draws from them can be repeated then.

    Args:
        threads: of torch.
        seed: of the cell.
    """
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.set_flush_denormal(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = (
        ":4096:8"  # read once, when a GPU is first used: the same sums each time
    )
    random.seed(derive_seed(seed, "global-python"))
    np.random.seed(derive_seed(seed, "global-numpy") % 2**32)
    np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
    torch.manual_seed(derive_seed(seed, "global-torch"))


def depend_on_parent() -> None:
    """End this process with the one that started it, and leave Ctrl-C to that one.

    A runner killed by force tells nobody; a cell that hangs or trains on without messages wouldn't notice.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def end_with_parent() -> None:
        parent.join()
        os._exit(LOST_PARENT)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, name="end-with-parent", daemon=True).start()


def compute_features(connection: Connection, job: Job, jobs: int) -> None:
    """Process entry: compute the features that a job's cell shares with others.

    Sends ``("done",)``, ``("refused", status, reason)`` or ``("stop", reason)``, and warnings.
    """
    depend_on_parent()
    channel = Channel(connection)
    try:
        with _contained(job, "features"):
            channel.tell(*_features(channel, job, jobs))
    except StorageError as error:
        channel.tell("stop", str(error))


def _features(channel: Channel, job: Job, jobs: int) -> tuple[str, ...]:
    try:
        cell = cell_of(job.cell, load_registry())
        settle(threads_for(jobs), cell.seed)
        folder = ensure_features(cell, channel.progress, channel.warn)
        if not is_point(job.cell) and _device(cell).type == "cpu":
            with_kept(open_features(folder), cell, channel.progress, channel.warn)
    except StorageError:
        raise
    except BaseException as error:
        traceback.print_exc(file=sys.__stderr__)
        return ("refused", *verdict(error))
    return ("done",)


def compute_cell(connection: Connection, job: Job, jobs: int) -> None:
    """Process entry: run a cell and write its record.

    Sends ``("writing",)`` and ``("done",)``, ``("busy",)`` when another runner has the cell, or
    ``("stop", reason)`` when a file can't be written: nothing is known of the cell then.
    """
    depend_on_parent()
    channel = Channel(connection)
    directory = RunDirectory(job.run_directory)
    try:
        with directory.claim(job.id), _contained(job, "cell"):
            if _wanted(directory, job):
                _run_and_record(channel, directory, job, jobs)
    except ClaimedError:
        channel.tell("busy")
    except StorageError as error:
        channel.tell("stop", str(error))
    else:
        channel.tell("done")


def _wanted(directory: RunDirectory, job: Job) -> bool:
    """Tell whether a cell is still to be run: not when another runner left a record in the meantime."""
    stamp = directory.stamp(job.id)
    if stamp is None or job.fresh:
        return stamp in (None, job.known)
    try:
        already = directory.read(job.id)
    except DamagedError:
        return True
    return already is None or (stamp == job.known and already.status != "ok")


def _run_and_record(channel: Channel, directory: RunDirectory, job: Job, jobs: int) -> None:
    threads = threads_for(jobs)
    started = _now()
    origin: dict[str, Any] = {}
    checkpoints = Checkpoints(directory, job.id, origin, 60 * job.checkpoint_minutes)
    if job.fresh:
        directory.remove_checkpoint(job.id)
    try:
        registry = load_registry()
        settle(threads, int(job.cell["seed"]))
        if is_point(job.cell):
            origin |= point_origin(job.cell, registry, threads)
            drawn = measure_point(job.cell, registry, channel.progress)
            timing: dict[str, Any] = {"started_at": started, "finished_at": _now(), "alone": jobs == 1}
            timing["phases"] = drawn.phases
            directory.write(Record(job.cell, "ok", "", drawn.metrics, timing, origin), drawn.series)
            return
        cell = cell_of(job.cell, registry)
        origin |= origin_of(cell, threads)
        features_started = time.perf_counter()
        features = features_of(cell, channel.progress, checked=True)
        waited = {"features": time.perf_counter() - features_started}
        origin["head"] = features.head_path
        result = run_cell(
            cell,
            features,
            lambda step, total, loss: channel.progress("training", step, total, loss),
            checkpoints,
        )
    except StorageError:
        raise
    except BaseException as error:
        traceback.print_exc(file=sys.__stderr__)
        status, reason = verdict(error)
        timing = {"started_at": started, "finished_at": _now(), "alone": jobs == 1} | checkpoints.timing()
        channel.tell("writing")
        directory.write(Record(job.cell, status, reason, timing=timing, provenance=origin))
        return
    timing = {
        "started_at": started,
        "finished_at": _now(),
        "alone": jobs == 1,
        "features_seconds_once": features.meta["seconds"],
        "phases": waited | result.phases,
    } | checkpoints.timing()
    origin["circuit"] = result.facts
    origin["data"] = {"rows": features.meta["rows"], "padding_share": features.meta["padding_share"]}
    record = Record(job.cell, "ok", "", result.metrics, timing, origin)
    channel.tell("writing")
    directory.write(record, result.series, save(result.state))


def _device(cell: Cell) -> torch.device:
    return torch.device(cell.model.options.device)  # type: ignore[attr-defined]


def origin_of(cell: Cell, threads: int) -> dict[str, Any]:
    """Return the provenance of a cell."""
    brought_by = {choice.entry.kind: choice.brought_by for choice in cell.choices}
    origin = provenance(brought_by, threads=threads, seed=cell.seed, protocol=cell.protocol)
    origin["loops"] = "compiled" if compiled.in_use() else "torch"
    device = _device(cell)
    if device.type == "cuda" and torch.cuda.is_available():
        about = {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
        origin["hardware"] = origin["hardware"] | about
    return origin


def point_origin(content: Mapping[str, Any], registry: Registry, threads: int) -> dict[str, Any]:
    """Return the provenance of gradients drawn at random."""
    if content["gradients"]["cell"] is not None:
        return origin_of(cell_of(content, registry), threads)
    source = str(registry.find("ansatz", content["ansatz"]).source)
    return provenance({"ansatz": source}, threads=threads, seed=int(content["seed"]), protocol="none")


def verdict(error: BaseException) -> tuple[Status, str]:
    """Return the status and the one-line reason that an error means for a cell."""
    reason = (
        one_line(error) if isinstance(error, QpabenchError) else one_line(f"{type(error).__name__}: {error}")
    )
    if isinstance(error, UnsupportedError):
        return "unsupported", reason
    if isinstance(error, UnavailableError):
        return "unavailable", reason
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return "out-of-memory", reason
    return "failed", reason


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class _contained:  # noqa: N801 - used as a context manager only
    """Sends everything this process prints into a log of its own, of bounded size."""

    def __init__(self, job: Job, what: str) -> None:
        name = job.id if what == "cell" else f"{what}-{job.features}"
        self.path: Path = job.run_directory / "logs" / f"{name}.log"

    def __enter__(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.path, "write", error) from error
        keeper = Path(log_keeper.__file__)
        self.keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(keeper), str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert self.keeper.stdin is not None
        self._send_to(self.keeper.stdin.fileno())
        self.keeper.stdin.close()

    def __exit__(self, *_: object) -> None:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - its end tells the keeper to finish
            self._send_to(nowhere.fileno())
        with suppress(subprocess.TimeoutExpired):  # a process that the cell left behind may print on
            self.keeper.wait(KEEPER_SECONDS)

    def _send_to(self, descriptor: int) -> None:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with suppress(Exception):  # a plugin may have put anything in its place
                stream.flush()  # type: ignore[union-attr]
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
