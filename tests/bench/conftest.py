"""Options, the collection of ratios, the table at the end, and the gate."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from bench_table import table, write_report
from jaxtyping import config as checks
from ratios import Clock, Ratio, complaints, read_baselines, write_baseline
from subjects import cells_in

from qpabench.records.provenance import hardware, source_line
from qpabench.suite.cell import Cell

GPU_BENCHMARKS = "bench_gpu.py"
BASELINE = Path(__file__).with_name("baseline.json")
RATIOS = pytest.StashKey[list[Ratio]]()
SOURCE = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("qpabench")
    group.addoption("--gate", action="store_true", help="fail on a slow-down and on a vanished benchmark")
    group.addoption("--new-baseline", action="store_true", help="keep this run's ratios as the baseline")
    group.addoption(
        "--wall", action="store_true", help="all threads and time that passes, on an idle machine"
    )
    group.addoption("--device", default="cpu", metavar="cuda", help="time steps on a GPU instead")
    group.addoption("--bench-report", type=Path, metavar="DIR", help="write bench.md and its figures there")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS] = []
    config.stash[SOURCE] = source_line()  # before a baseline or a report changes a file
    if config.getoption("--benchmark-only", default=False):
        if not checks.jaxtyping_disable:
            raise pytest.UsageError(
                "types are checked in every call; set JAXTYPING_DISABLE=1, as `tox run -e bench` does"
            )
        Clock.device = torch.device(config.getoption("--device", default="cpu"))
        Clock.wall = config.getoption("--wall", default=False) or Clock.on_gpu()
        if not Clock.wall:
            torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what isn't measured on the device."""
    there = [item for item in items if (item.path.name == GPU_BENCHMARKS) is Clock.on_gpu()]
    left = [item for item in items if item not in there and item.path.name.startswith("bench_")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    """See ``cells_in``."""
    return cells_in(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> list[Ratio]:
    """What every benchmark adds its ratios to."""
    return request.config.stash[RATIOS]


def processor() -> str:
    """Return the name that baselines of this machine go by."""
    return Clock.gpu() if Clock.on_gpu() else str(hardware().get("cpu", "unknown processor"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    found = config.stash[RATIOS]
    if not found and not config.getoption("--gate", default=False):
        return
    baselines = read_baselines(BASELINE)
    own = baselines.get(processor())
    if own is None or config.getoption("--new-baseline", default=False):
        if exitstatus == 0:
            write_baseline(BASELINE, processor(), found)
        own = own or {}
    if config.getoption("--gate", default=False) and complaints(found, own):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash[RATIOS]
    if not found:
        return
    baseline = read_baselines(BASELINE).get(processor(), {})
    load = os.getloadavg()
    terminalreporter.section("ratios")
    terminalreporter.write_line(table(found, baseline))
    terminalreporter.write_line(
        f"load average {load[0]:.1f} {load[1]:.1f} {load[2]:.1f}, {os.cpu_count()} cores, {processor()}"
    )
    for complaint in complaints(found, baseline):
        terminalreporter.write_line(f"slower: {complaint}", red=True)
    folder = config.getoption("--bench-report", default=None)
    if folder is not None:
        terminalreporter.write_line(
            f"wrote {write_report(folder, found, baseline, load, config.stash[SOURCE])}"
        )
