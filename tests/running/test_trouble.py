"""Cells that raise, exit, die, hang or eat memory: each its own row, all others well."""

from collections.abc import Callable

import pytest
from commands import Done
from conftest import Bench
from written_suites import DIRECT

from qpabench.records.record import Record

#: how a cell misbehaves -> (its status, what its reason says)
TROUBLE = {
    "raises": ("failed", "ValueError: no luck"),
    "exits": ("failed", "SystemExit: 4"),
    "leaves": ("failed", "exit code 5 before it had a result; see logs/"),
    "dies": ("out-of-memory", "killed (signal 9)"),
    "aborts": ("failed", "signal 11 before it had a result"),
    "hangs": ("timeout", "ran longer than 12 seconds; raise limits.timeout_seconds"),
    "eats": ("out-of-memory", "held more than 1.2e+09 bytes; raise limits.memory_bytes"),
    "starves": ("out-of-memory", "MemoryError: none left"),
    "is-nan": ("failed", "loss is nan at step 1 of 8; expected a finite number"),
    "is-short": ("failed", "generator gave lora_B of shape None, expected (257, 2)"),
    "is-narrow": ("failed", "generator gave lora_B of shape (1, 2), expected (257, 2)"),
    "shouts": ("ok", ""),
}
SUITE = (
    "[[matrix]]\n"
    'target = { name = "lora", rank = 2 }\n'
    f'generator = {{ name = "trouble", how = {list(TROUBLE)} }}\n'
    + DIRECT
    + "[limits]\ntimeout_seconds = 12\nmemory_bytes = 1_200_000_000\n"
)
Run = tuple[Bench, Done]


@pytest.fixture(scope="module")
def troubled(bench_at: Callable[[str], Bench], tmp_path_factory: pytest.TempPathFactory) -> Run:
    bench = bench_at(SUITE)
    events = tmp_path_factory.mktemp("events") / "events"
    return bench, bench.run(QPABENCH_TEST_EVENTS=str(events))


def record(run: Run, how: str) -> Record:
    (found,) = [r for r in run[0].records() if r.cell["options"]["generator"].get("how") == how]
    return found


@pytest.mark.parametrize("how", TROUBLE)
def test_a_cell_ends_as_its_own_status(how: str, troubled: Run) -> None:
    status, reason = TROUBLE[how]
    found = record(troubled, how)
    assert found.status == status, found.reason
    assert reason in found.reason


@pytest.mark.parametrize("how", TROUBLE)
def test_a_reason_is_one_printable_line(how: str, troubled: Run) -> None:
    assert record(troubled, how).reason.isprintable()


def test_a_cell_after_all_of_them_is_well(troubled: Run) -> None:
    assert troubled[0].records()[-1].status == "ok"


def test_a_failed_run_exits_with_one(troubled: Run) -> None:
    assert troubled[1].code == 1


def test_every_failure_is_a_line_of_the_terminal(troubled: Run) -> None:
    lines = [line for line in troubled[1].err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == sum(status != "ok" for status, _ in TROUBLE.values())


def test_nothing_a_cell_prints_reaches_the_terminal(troubled: Run) -> None:
    assert "loud" not in troubled[1].out + troubled[1].err
    assert "Traceback" not in troubled[1].err


def test_what_a_cell_prints_is_in_its_log(troubled: Run) -> None:
    log = troubled[0].folder / "run" / "logs" / f"{record(troubled, 'raises').id}.log"
    assert "Traceback" in log.read_text()


def test_the_log_of_a_cell_that_prints_megabytes_is_bounded(troubled: Run) -> None:
    log = (troubled[0].folder / "run" / "logs" / f"{record(troubled, 'shouts').id}.log").read_text()
    assert "loud" in log
    assert " bytes cut]" in log
    assert len(log) < 10**6


def test_failures_are_rows_of_the_report(troubled: Run) -> None:
    report = (troubled[0].folder / "run" / "report.md").read_text()
    assert "no luck" in report
    assert "ran longer than 12 seconds" in report


def test_plugins_hear_of_every_cell(troubled: Run) -> None:
    """Their events raise on a timeout, which is a warning and stops nothing."""
    (warning,) = [line for line in troubled[1].err.splitlines() if line.startswith("warning: ")]
    assert "qpabench_cell_finished raised RuntimeError('a tracker" in warning


def test_failed_cells_are_left_alone_when_run_again(troubled: Run) -> None:
    done = troubled[0].run("--only", "generator.how=raises")
    assert "1 cells, 0 to run" in done.out
    assert done.code == 1


def test_failed_cells_run_again_when_asked(troubled: Run) -> None:
    before = record(troubled, "raises").timing["finished_at"]
    done = troubled[0].run("--only", "generator.how=raises", "--retry-failed")
    assert "1 cells, 1 to run" in done.out
    assert record(troubled, "raises").timing["finished_at"] > before
