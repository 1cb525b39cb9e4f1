"""One cache and one site folder for all runs; every run is a process of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Done, environment, in_subprocess
from fake_plugins import install
from troublesome import PLUGIN
from written_suites import DEFAULTS, DIRECT, QPA, write_suite

from qpabench.records.record import MACHINE_METRICS, Record
from qpabench.records.store import RunDirectory

#: the same in every run that is compared
SUITE = (
    DIRECT
    + '[[matrix]]\ntarget = { name = "lora", rank = 2 }\ngenerator = { name = "trouble", how = "waits" }\n'
    + QPA
    + "seeds = [0, 1]\n"
    + '[[matrix]]\nmodel = "gpt2"\ntarget = { name = "lora", rank = 2 }\ngenerator = "direct"\n'
)


@dataclass
class Bench:
    """Where a suite is, and how it is run."""

    folder: Path
    env: dict[str, str]

    def run(self, *arguments: str, out: str = "run", **variables: str) -> Done:
        """Run ``qpabench run`` on the suite."""
        command = ["run", "suite.toml", "--out", out, *arguments]
        return in_subprocess(command, self.env | variables, self.folder)

    def records(self, out: str = "run") -> list[Record]:
        """Return the records in the order of the plan."""
        records, damaged = RunDirectory(self.folder / out).read_all()
        assert not damaged
        return records

    def outcome(self, out: str = "run") -> dict[str, tuple[str, str, dict[str, float]]]:
        """Return status, reason and machine-independent metrics by cell."""
        return {
            record.id: (
                record.status,
                record.reason,
                {name: value for name, value in record.metrics.items() if name not in MACHINE_METRICS},
            )
            for record in self.records(out)
        }

    def series(self, out: str = "run") -> dict[str, dict[str, Any]]:
        """Return all series but the step times, as nested lists."""
        directory = RunDirectory(self.folder / out)
        return {
            record.id: {
                name: np.asarray(values).tolist()
                for name, values in directory.series(record.id).items()
                if name != "step_seconds"
            }
            for record in self.records(out)
        }

    def manifest(self, out: str = "run") -> dict[str, Any]:
        """Return ``run.json``."""
        return dict(json.loads((self.folder / out / "run.json").read_text()))


@pytest.fixture(scope="session")
def bench_at(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    """Make a bench of its own for a suite; cache and plugins are shared."""
    cache, site = tmp_path_factory.mktemp("run-cache"), tmp_path_factory.mktemp("site")
    install(site, "trouble-plugin", PLUGIN)
    env = environment(cache, site) | {"QPABENCH_STRICT_PLUGINS": "1"}
    env.pop("QPABENCH_TEST_WAIT", None)

    def make(body: str) -> Bench:
        folder = tmp_path_factory.mktemp("bench")
        write_suite(folder, body, DEFAULTS.replace("{folder}/", ""))  # paths are part of a cell's id
        return Bench(folder, env)

    return make


@pytest.fixture(scope="session")
def undisturbed(bench_at: Callable[[str], Bench]) -> tuple[Bench, Done]:
    """A whole run that nothing disturbs: four cells that run and one that can't."""
    bench = bench_at(SUITE)
    return bench, bench.run()
