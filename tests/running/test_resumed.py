"""Cells whose process is killed halfway go on from their checkpoints."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done
from conftest import Bench

from qpabench.records.record import Record
from qpabench.records.store import RunDirectory
from qpabench.reports.groups import alone

SUITE = (
    '[[matrix]]\ntarget = { name = "lora", rank = 2, dropout = 0.3 }\n'
    'generator = { name = "trouble", how = "dies-midway" }\nseeds = [0, 1]\n'
    "[limits]\ncheckpoint_minutes = 1e-9\n"
)
Resumed = tuple[Bench, Done, list[Record]]


def checkpoints(bench: Bench, out: str) -> list[Path]:
    return [RunDirectory(bench.folder / out).checkpoint_path(record.id) for record in bench.records(out)]


@pytest.fixture(scope="module")
def resumed(bench_at: Callable[[str], Bench]) -> Resumed:
    """Two cells killed in their sixth pass, the second one's checkpoint cut short, then run again.

    Beside it in ``whole``, the same cells run with ``--fresh``: undisturbed.
    """
    bench = bench_at(SUITE)
    bench.run(QPABENCH_TEST_DEATH="1")
    killed = bench.records()
    assert [path.exists() for path in checkpoints(bench, "run")] == [True, True]
    shutil.copytree(bench.folder / "run", bench.folder / "whole")
    assert bench.run("--fresh", out="whole").code == 0
    cut = checkpoints(bench, "run")[1]
    cut.write_bytes(cut.read_bytes()[:-100])
    return bench, bench.run("--retry-failed"), killed


def test_a_killed_cell_is_a_row(resumed: Resumed) -> None:
    assert [record.status for record in resumed[2]] == ["out-of-memory"] * 2


def test_they_end_as_if_undisturbed(resumed: Resumed) -> None:
    assert resumed[1].code == 0
    assert resumed[0].outcome() == resumed[0].outcome("whole")
    assert resumed[0].series() == resumed[0].series("whole")


def test_their_trained_numbers_are_those_of_undisturbed_ones(resumed: Resumed) -> None:
    for record in resumed[0].records():
        one, other = (
            RunDirectory(resumed[0].folder / out).state_path(record.id).read_bytes()
            for out in ("run", "whole")
        )
        assert one == other


def test_a_record_says_that_it_was_resumed(resumed: Resumed) -> None:
    record = resumed[0].records()[0]
    assert record.timing["resumed_at_steps"] == [5]
    assert not alone(record)


def test_fresh_begins_anew(resumed: Resumed) -> None:
    for record in resumed[0].records("whole"):
        assert "resumed_at_steps" not in record.timing
        assert alone(record)


def test_a_damaged_checkpoint_is_named_and_its_cell_begins_anew(resumed: Resumed) -> None:
    path = checkpoints(resumed[0], "run")[1]
    (line,) = resumed[1].err.splitlines()
    assert line.startswith(f"warning: {path.name}: damaged (")
    assert line.endswith("; the cell began anew, the file is in records/damaged")
    assert (path.parent / "damaged" / path.name).exists()
    assert "resumed_at_steps" not in resumed[0].records()[1].timing


@pytest.mark.parametrize("out", ["run", "whole"])
def test_checkpoints_go_with_their_records(out: str, resumed: Resumed) -> None:
    assert not list((resumed[0].folder / out / "records").glob("*checkpoint*"))
