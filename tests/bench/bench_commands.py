"""Planning, reporting, starting: beside a loop or a bare interpreter, and within their limits."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ratios import Ratio, duration, noise_of, ratio, take_turns, timed

from qpabench.hooks.manager import load_registry
from qpabench.records.record import Record
from qpabench.records.store import RunDirectory
from qpabench.reports.report import write_report
from qpabench.running.executor import Job
from qpabench.running.local import LocalExecutor
from qpabench.suite.plan import make_plan
from qpabench.training.keys import features_key

SUITE = """
[suite]
name = "many"
[defaults]
model = "tiny-gpt2"
dataset = {{ name = "text", train = "{text}", test = "{text}", max_length = 32 }}
seeds = [{seeds}]
train = {{ epochs = 2, learning_rate = 1e-3 }}
[[matrix]]
target = {{ name = "lora", rank = [1, 2, 4, 8, 16] }}
generator = {{ name = "qpa", chunk_size = [64, 128, 256, 512], n_layers = [1, 2, 4, 8, 16] }}
"""


def write_suite(folder: Path, n_seeds: int) -> Path:
    """Write a suite of 100 cells a seed."""
    (folder / "text.txt").write_text("one line\nanother line\n" * 4, encoding="utf-8")
    suite = folder / "suite.toml"
    seeds = ", ".join(str(seed) for seed in range(n_seeds))
    suite.write_text(SUITE.format(text=(folder / "text.txt").as_posix(), seeds=seeds), encoding="utf-8")
    return suite


def calibration() -> Any:
    """A loop of some milliseconds: what a second of an interpreter is worth here."""
    return timed(lambda: sum(number * number for number in range(200_000)))


def within(name: str, seconds: dict[str, list[float]], limit: float, measured: list[Ratio]) -> None:
    """Add two rows: seconds over their limit, and over the loop, which is what the gate watches."""
    median = statistics.median(seconds["work"])
    noise = noise_of(seconds["work"], seconds["loop"])
    measured.append(
        Ratio(
            f"{name} / {limit:g} s",
            median / limit,
            noise,
            "low",
            1,
            duration(median),
            gated=False,
        )
    )
    measured.append(ratio(f"{name} / loop of 200,000", seconds["work"], seconds["loop"], "low"))


def test_plan(benchmark: Any, measured: list[Ratio], tmp_path: Path) -> None:
    suite, registry = write_suite(tmp_path, 100), load_registry()
    assert len(make_plan(suite, registry).cells) == 10_000
    rivals = {"work": timed(lambda: make_plan(suite, registry)), "loop": calibration()}
    within("plan of 10,000 cells", take_turns(benchmark, rivals, rounds=5), 1, measured)


def test_report(benchmark: Any, measured: list[Ratio], tmp_path: Path) -> None:
    cells = [planned.cell for planned in make_plan(write_suite(tmp_path, 50), load_registry()).cells]
    directory = RunDirectory(tmp_path / "run")
    directory.records.mkdir(parents=True)
    random = np.random.default_rng(0)
    base = random.normal(3, 1, 200)
    for cell in cells:
        perplexity = float(random.uniform(20, 40))
        metrics = {
            "perplexity_masked": perplexity,
            "perplexity_padded": perplexity / 8,
            "base_perplexity_masked": 40.0,
            "base_perplexity_padded": 5.0,
            "n_trainable": float(cell.n_trainable or 0),
            "step_seconds_median": 0.02,
            "train_seconds": 6.0,
        }
        timing = {"alone": True, "phases": {"circuit": 1.0, "head": 4.0, "evaluation": 1.0}}
        record = Record(cell.to_json(), "ok", "", metrics, timing, {"versions": {}, "hardware": {}})
        (directory.records / f"{cell.id}.json").write_text(record.to_json(), encoding="utf-8")
        np.savez(
            directory.records / f"{cell.id}.npz",
            train_loss=random.normal(3, 1, 100),
            test_nll=base + random.normal(0, 0.1, 200),
            test_row=np.repeat(np.arange(10), 20),
            base_test_nll=base,
        )
    manifest = {"schema_version": 1, "suite": "many", "title": "Many", "version": 1, "command": "none"}
    directory.write_manifest(manifest | {"cells": [cell.id for cell in cells]})
    rivals = {"work": timed(lambda: write_report(tmp_path / "run")), "loop": calibration()}
    within("report of 5,000 records", take_turns(benchmark, rivals, rounds=2, warm_up=False), 15, measured)


def test_start_up(benchmark: Any, measured: list[Ratio]) -> None:
    command = shutil.which("qpabench", path=str(Path(sys.executable).parent))
    assert command is not None

    def started(*arguments: str) -> Any:
        return timed(lambda: subprocess.run(arguments, capture_output=True, check=True), time.perf_counter)

    rivals = {
        "bare": started(sys.executable, "-c", "pass"),
        "--help": started(command, "--help"),
        "list": started(command, "list"),
    }
    seconds = take_turns(benchmark, rivals, rounds=7)
    for name in ("--help", "list"):
        measured.append(ratio(f"qpabench {name} / bare interpreter", seconds[name], seconds["bare"], "low"))


class Watch:
    """Notes when a cell is done and when the next one trains."""

    def __init__(self) -> None:
        self.ended: float | None = None
        self.waits: list[float] = []

    def started(self, job: Job, what: str) -> None: ...

    def progress(self, job: Job, what: str, done: int, total: int, loss: float | None) -> None:
        if what == "training" and self.ended is not None:
            self.waits.append(time.perf_counter() - self.ended)
            self.ended = None

    def finished(self, job: Job) -> None:
        self.ended = time.perf_counter()


def test_next_cell(benchmark: Any, measured: list[Ratio], tmp_path: Path) -> None:
    """From the end of one cell to the first step of the next, in a process of its own."""
    cells = [planned.cell for planned in make_plan(write_suite(tmp_path, 1), load_registry()).cells[:8]]
    jobs = [
        Job(json.loads(json.dumps(cell.to_json())), features_key(cell), tmp_path / "run") for cell in cells
    ]
    watch = Watch()
    benchmark.pedantic(lambda: LocalExecutor().run(jobs, watch), rounds=1, iterations=1)
    ended = [RunDirectory(tmp_path / "run").read(cell.id) for cell in cells]
    assert all(record is not None and record.status == "ok" for record in ended), ended
    median = statistics.median(watch.waits)
    noise = noise_of(watch.waits, [median] * len(watch.waits))
    name = "next cell trains after / 0.5 s"
    measured.append(Ratio(name, median / 0.5, noise, "low", 1, duration(median), gated=False))
