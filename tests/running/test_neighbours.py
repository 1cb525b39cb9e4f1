"""Neighbours that change what a process shares, when loaded and when run: nobody else's numbers move."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done
from conftest import Bench
from fake_plugins import install
from troublesome import RUDE
from written_suites import QPA

#: one cell that draws from the global random streams, one that doesn't
GOOD = (
    '[[matrix]]\ntarget = { name = "lora", rank = 2, dropout = 0.3 }\n'
    'generator = { name = "trouble", how = "dies-midway" }\n' + QPA
)
MEDDLER = (
    '[[matrix]]\ntarget = { name = "lora", rank = 2 }\ngenerator = { name = "trouble", how = "meddles" }\n'
)
Beside = tuple[Bench, Bench, Done]


@pytest.fixture(scope="module")
def beside(bench_at: Callable[[str], Bench], tmp_path_factory: pytest.TempPathFactory) -> Beside:
    """The good cells run alone, and after a meddler's cell with its plugin loaded in every process."""
    alone, bench = bench_at(GOOD), bench_at(MEDDLER + GOOD)
    assert alone.run().code == 0
    site = tmp_path_factory.mktemp("rude")
    install(site, "rude-plugin", RUDE)
    return alone, bench, bench.run(PYTHONPATH=os.pathsep.join([str(site), bench.env["PYTHONPATH"]]))


def test_other_cells_keep_their_numbers(beside: Beside) -> None:
    alone, bench, done = beside
    found, series = bench.outcome(), bench.series()
    for cell_id, outcome in alone.outcome().items():
        assert outcome[0] == "ok"
        assert found[cell_id] == outcome, done
        assert series[cell_id] == alone.series()[cell_id]


def test_other_cells_have_their_threads(beside: Beside) -> None:
    threads = {record.provenance["threads"] for bench in beside[:2] for record in bench.records()}
    assert len(threads) == 1


def test_the_meddler_is_a_row_of_its_own(beside: Beside) -> None:
    first = beside[1].records()[0]
    assert first.status == "failed"
    assert first.reason.startswith("RuntimeError: ")  # of torch, whose default type it changed


def test_the_meddlers_trace_is_in_its_log(beside: Beside) -> None:
    bench = beside[1]
    log: Path = bench.folder / "run" / "logs" / f"{bench.records()[0].id}.log"
    assert "Traceback" in log.read_text()


def test_the_run_ends_where_it_was_asked_to(beside: Beside) -> None:
    assert (beside[1].folder / "run" / "report.md").exists()
    assert beside[2].code == 1
    assert "2 ok" in beside[2].out
