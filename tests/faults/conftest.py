"""Options, the undisturbed run, and the table at the end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fault_table import Row, as_text, write_markdown
from subject import Faults, make_faults

from qpabench.records.provenance import source_line

ROWS = pytest.StashKey[list[Row]]()
STARTED = pytest.StashKey[float]()
SOURCE = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("qpabench")
    group.addoption("--fault-table", type=Path, metavar="FILE", help="write the table as Markdown")
    group.addoption("--fault-scale", type=float, default=1.0, help="times the usual number of injections")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []
    config.stash[STARTED] = time.monotonic()
    config.stash[SOURCE] = source_line()  # before the table changes a file


@pytest.fixture(scope="session")
def faults(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Faults:
    """An undisturbed run, what the others are held against, and where rows go."""
    scale = request.config.getoption("--fault-scale")
    return make_faults(tmp_path_factory.mktemp("faults"), scale, request.config.stash[ROWS])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(as_text(rows))
    path = config.getoption("--fault-table", default=None)
    if path is not None:
        seconds = time.monotonic() - config.stash[STARTED]
        write_markdown(path, rows, seconds, config.getoption("--fault-scale"), config.stash[SOURCE])
        terminalreporter.write_line(f"wrote {path}")
