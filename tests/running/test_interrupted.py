"""A runner that is killed or interrupted in the middle of a suite, and run again."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from commands import PYTHON, Done
from conftest import SUITE, Bench

WAIT_SECONDS = 90
Run = tuple[Bench, Done]


def stopped_by(how: signal.Signals, bench: Bench, marks: Path) -> tuple[Done, int]:
    """Start the suite, stop it while its second cell hangs; return how it ended, and that cell's process."""
    mark = marks / "pid"
    process = started(bench, {"QPABENCH_TEST_WAIT": str(mark)})
    until = time.monotonic() + WAIT_SECONDS
    while not (mark.exists() and mark.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to every process of the run
    else:
        process.send_signal(how)
    out, err = process.communicate(timeout=WAIT_SECONDS)
    return Done(process.returncode, out, err), int(mark.read_text())


def started(bench: Bench, variables: dict[str, str]) -> subprocess.Popen[str]:
    """Start the suite in a group of its own, as a terminal does."""
    return subprocess.Popen(
        [*PYTHON, "run", "suite.toml", "--out", "run"],
        cwd=bench.folder,
        env=bench.env | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ends(pid: int) -> bool:
    """Tell whether a process ends within the time."""
    try:
        psutil.Process(pid).wait(timeout=WAIT_SECONDS)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


Stopped = tuple[Bench, Done, int, list[str]]


@pytest.fixture(scope="module")
def killed(bench_at: Callable[[str], Bench], tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    bench = bench_at(SUITE)
    done, pid = stopped_by(signal.SIGKILL, bench, tmp_path_factory.mktemp("marks"))
    return bench, done, pid, [record.status for record in bench.records()]


@pytest.fixture(scope="module")
def interrupted(bench_at: Callable[[str], Bench], tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    bench = bench_at(SUITE)
    done, pid = stopped_by(signal.SIGINT, bench, tmp_path_factory.mktemp("marks"))
    return bench, done, pid, [record.status for record in bench.records()]


def test_a_killed_runner_leaves_what_was_measured(killed: Stopped) -> None:
    assert killed[3] == ["ok", "unavailable"]


def test_a_killed_runner_leaves_no_process(killed: Stopped) -> None:
    assert ends(killed[2])


def test_after_a_kill_the_suite_ends_as_if_undisturbed(killed: Stopped, undisturbed: Run) -> None:
    ends(killed[2])
    done = killed[0].run()
    assert done.code == 0, done
    assert "5 cells, 3 to run" in done.out
    assert killed[0].outcome() == undisturbed[0].outcome()
    assert killed[0].series() == undisturbed[0].series()


def test_an_interrupt_exits_with_130(interrupted: Stopped) -> None:
    assert interrupted[1].code == 130


def test_an_interrupt_is_one_line_that_says_how_to_resume(interrupted: Stopped) -> None:
    (line,) = interrupted[1].err.splitlines()
    assert line.startswith("interrupted; what was measured is in run; resume with: ")
    assert line.endswith("run suite.toml --out run")


def test_an_interrupt_leaves_what_was_measured_and_nothing_else(interrupted: Stopped) -> None:
    assert interrupted[3] == ["ok", "unavailable"]


def test_an_interrupt_leaves_no_process(interrupted: Stopped) -> None:
    assert ends(interrupted[2])


@pytest.mark.slow
def test_after_an_interrupt_the_suite_ends_as_if_undisturbed(interrupted: Stopped, undisturbed: Run) -> None:
    assert interrupted[0].run().code == 0
    assert interrupted[0].outcome() == undisturbed[0].outcome()


def test_an_interrupt_while_workers_are_being_prepared_is_that_one_line_too(
    bench_at: Callable[[str], Bench],
) -> None:
    process = started(bench_at(SUITE), {})
    server: list[psutil.Process] = []
    while not server:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
        server = [
            child
            for child in psutil.Process(process.pid).children()
            if "forkserver" in "".join(child.cmdline())
        ]
    time.sleep(0.5)  # it imports torch now
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 130
    assert len(err.splitlines()) == 1, err
    assert err.startswith("interrupted; what was measured is in run; resume with:")
