"""A run directory under test: run, disturbed, resumed, held against one that nothing disturbed."""

from __future__ import annotations

import csv
import itertools
import math
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from commands import PYTHON, Done, environment
from fake_plugins import install
from fault_table import Row
from written_suites import DEFAULTS, QPA, write_suite

from qpabench.errors import RecordError
from qpabench.records.record import MACHINE_METRICS
from qpabench.records.store import RunDirectory

WAIT_SECONDS = 300
MOST_RESUMES = 3
SEED = 2025
#: a generator that notes each cell that is run; and a clock that is off
PLUGIN = """
import os
import qpabench
from qpabench.generators.options import DirectOptions


class CountedOptions(DirectOptions):
    number: int = 0


@qpabench.hookimpl
def qpabench_generators():
    yield qpabench.GeneratorEntry(
        name="counted", summary="notes each cell", load="counting_plugin:make", options=CountedOptions
    )


def make(options, context):
    from qpabench.generators.direct import DirectGenerator

    if "QPABENCH_TEST_EXECUTIONS" in os.environ:
        note = os.open(os.environ["QPABENCH_TEST_EXECUTIONS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(note, f"{options.number}\\n".encode())
        os.close(note)
    return DirectGenerator(options, context)
"""
CLOCK = """
import os, time
if "QPABENCH_TEST_CLOCK" in os.environ:
    right, seconds = time.time, float(os.environ["QPABENCH_TEST_CLOCK"])
    time.time = lambda: right() + seconds
"""
SUITE = (
    '[[matrix]]\ntarget = { name = "lora", rank = 2, dropout = 0.1 }\n'
    'generator = { name = "counted", number = [0, 1, 2, 3] }\n'
    + QPA
    + "seeds = [0, 1, 2, 3]\n[limits]\ncheckpoint_minutes = 1e-3\n"
)
#: its hash is kept in the cache, which is so for big files alone
BIG_TEXT = "A line that makes the file big and is not used .\n" * 30_000


@dataclass
class Subject:
    """A suite with a run directory and a cache of its own."""

    folder: Path
    env: dict[str, str]

    @property
    def root(self) -> Path:
        """The run directory."""
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        """The cache."""
        return Path(self.env["QPABENCH_CACHE"])

    def start(
        self, *arguments: str, variables: Mapping[str, str] | None = None, launcher: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start ``qpabench run`` in a group of its own; a launcher becomes it in the end."""
        return subprocess.Popen(
            [*launcher, *PYTHON, "run", "suite.toml", "--out", "run", *arguments],
            cwd=self.folder,
            env=self.env | dict(variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **options: Any) -> Done:
        """Run ``qpabench run`` to its end."""
        return ended(self.start(*arguments, **options))

    def finish(self, *arguments: str) -> Done:
        """Run until all is well, as a person would; return how the first run ended."""
        first = done = self.run(*arguments)
        for _ in range(MOST_RESUMES):
            if done.code == 0:
                break
            done = self.run("--retry-failed")
        assert done.code == 0, done
        return first

    def ids(self) -> list[str]:
        """Return the planned cells."""
        return list(RunDirectory(self.root).manifest()["cells"])

    def outcome(self, cell_id: str) -> tuple[Any, ...]:
        """Return status, metrics and series of a cell, all but times.

        Raises:
            RecordError: its record, or what lies beside it, can't be read.
        """
        directory = RunDirectory(self.root)
        record = directory.read(cell_id, thorough=True)
        if record is None:
            raise RecordError("no record")
        metrics = {name: value for name, value in record.metrics.items() if name not in MACHINE_METRICS}
        series = {
            name: np.asarray(values).tolist()
            for name, values in directory.series(cell_id).items()
            if name != "step_seconds"
        }
        return record.status, metrics, series

    def workers(self, process: subprocess.Popen[str]) -> dict[int, str]:
        """Return the processes that compute now, and the names of their logs."""
        found = {}
        try:
            for child in psutil.Process(process.pid).children(recursive=True):
                command = child.cmdline()  # each worker has a process that keeps its log
                if any(part.endswith("log_keeper.py") for part in command):
                    found[child.ppid()] = Path(command[-1]).stem
        except (psutil.Error, OSError):
            pass
        return found


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for a process; return how it ended."""
    out, err = process.communicate(timeout=WAIT_SECONDS)
    return Done(process.returncode, out, err)


@dataclass
class Faults:
    """The undisturbed run, and where rows go.

    Args:
        folder: everything is below it.
        env: of every run.
        scale: times the usual number of injections.
        rows: the table.
        expected: of the undisturbed run, by cell.
        seconds: that the undisturbed run took.
        seconds_with_features: that it took with features in the cache.
        undisturbed: its directory and cache.
    """

    folder: Path
    env: dict[str, str]
    scale: float
    rows: list[Row]
    expected: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_with_features: float = 0.0
    undisturbed: Subject = field(init=False)
    _numbers: Any = field(default_factory=itertools.count)

    def times(self, usual: int) -> int:
        """Return how often to inject."""
        return max(1, math.ceil(usual * self.scale))

    def random(self, what: str) -> random.Random:
        """Return a stream of its own for a fault."""
        return random.Random(f"{SEED} {what}")

    def subject(self, like: Subject | None = None) -> Subject:
        """Make a fresh directory, or a copy of one with its cache."""
        folder = self.folder / f"subject-{next(self._numbers)}"
        if like is None:
            folder.mkdir()
            write_suite(
                folder, SUITE, DEFAULTS.replace("{folder}/", "").replace("max_", "train_rows = 6, max_")
            )
            with (folder / "train.txt").open("a", encoding="utf-8") as file:
                file.write(BIG_TEXT)
        else:
            shutil.copytree(like.folder, folder)
        return Subject(folder, self.env | {"QPABENCH_CACHE": str(folder / "cache")})

    def with_features(self) -> Subject:
        """Make a fresh directory, but with features in its cache: a run of it comes to cells at once."""
        subject = self.subject()
        shutil.copytree(self.undisturbed.cache, subject.cache)
        return subject

    def alternating(self, number: int) -> tuple[Subject, float]:
        """Make a directory, two of three with features; return it and the seconds of its run."""
        if number % 3:
            return self.with_features(), self.seconds_with_features
        return self.subject(), self.seconds

    def judge(self, subject: Subject) -> tuple[int, int]:
        """Return how many cells are lost and how many wrong."""
        lost = wrong = 0
        planned = Counter(subject.ids())
        with (subject.root / "results.csv").open(newline="", encoding="utf-8") as file:
            reported = Counter(row["id"] for row in csv.DictReader(file))
        for cell_id, expected in self.expected.items():
            try:
                found = subject.outcome(cell_id)
            except RecordError:
                lost += 1
                continue
            lost += planned[cell_id] != 1 or reported[cell_id] != 1
            wrong += found != expected
        return lost, wrong

    def count(self, fault: str, injected: int, judged: Iterable[tuple[int, int]], aside: int = 0) -> None:
        """Add a row, and fail if anything was lost or wrong or nothing was injected."""
        pairs = list(judged)
        row = Row(fault, injected, sum(lost for lost, _ in pairs), sum(wrong for _, wrong in pairs), aside)
        self.rows.append(row)
        assert injected
        assert (row.lost, row.wrong) == (0, 0), row

    def impossible(self, fault: str, why: str) -> None:
        """Add a row for what this machine can't do."""
        self.rows.append(Row(fault, 0, note=f"not possible here: {why}"))


def side_by_side(work: Callable[[int], Any], number: int) -> list[Any]:
    """Do work for 0 to ``number - 1``, two at a time; return the results in order."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(work, range(number)))


def make_faults(folder: Path, scale: float, rows: list[Row]) -> Faults:
    """Run the suite undisturbed."""
    site = folder / "site"
    install(site, "counting-plugin", PLUGIN)
    (site / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    # the compiled loops take a second to load, at each of hundreds of starts
    env = environment(folder / "none", site) | {"QPABENCH_COMPILED": "0"}
    faults = Faults(folder, env, scale, rows)
    subject = faults.subject()
    faults.seconds = seconds_of_run(subject)
    faults.undisturbed = subject
    faults.seconds_with_features = seconds_of_run(faults.with_features())
    faults.expected = {cell_id: subject.outcome(cell_id) for cell_id in subject.ids()}
    assert {status for status, _, _ in faults.expected.values()} == {"ok"}
    return faults


def seconds_of_run(subject: Subject) -> float:
    """Run undisturbed; return how long it took."""
    started = time.monotonic()
    done = subject.run()
    assert done.code == 0, done
    return time.monotonic() - started


def is_root() -> bool:
    """Tell whether mounts may be tried."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
