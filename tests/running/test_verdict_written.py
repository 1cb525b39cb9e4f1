"""A suite that asks for a verdict, from its file to the answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Bench

BODY = """
[[matrix]]
target = { name = "lora", rank = 2 }
generator = { name = ["qpa", "uniform"], chunk_size = 64, start = "zero" }
seeds = [0, 1, 2]
select = "validation"
train = { learning_rate = [1e-3, 1e-2] }

[verdict]
margin_nats = 0.05

[[verdict.families]]
name = "Does the circuit matter"
cell = "generator=qpa"
against = "generator=uniform"
"""


@pytest.fixture(scope="module")
def bench(bench_at: Callable[[str], Bench]) -> Bench:
    made = bench_at(BODY)
    suite = made.folder / "suite.toml"
    text = suite.read_text().replace('test = "test.txt"', 'test = "test.txt", validation = "validation.txt"')
    suite.write_text(text)
    (made.folder / "test.txt").write_text("".join(f"Row {n} of the test text .\n" for n in range(8)))
    done = made.run()
    assert done.code == 0, done
    return made


def test_the_verdict_is_written_and_linked(bench: Bench) -> None:
    run = bench.folder / "run"
    assert "[verdict.md](verdict.md)" in (run / "report.md").read_text()
    assert (run / "figures" / "forest.svg").stat().st_size > 0


def test_the_answer_names_seeds_rows_and_interval(bench: Bench) -> None:
    text = (bench.folder / "run" / "verdict.md").read_text()
    assert "**Does the circuit matter:** qpa is" in text
    assert re.search(r"95 % interval [+−]\d\.\d{4,6} to [+−]\d\.\d{4,6}, 3 seeds, 8 test rows", text)
    assert "learning rate chosen among 2 on the validation rows" in text


def test_its_records_are_there(bench: Bench) -> None:
    run = bench.folder / "run"
    links = re.findall(r"\((records/[0-9a-f]{16}\.json)\)", (run / "verdict.md").read_text())
    assert len(set(links)) == 6  # the chosen rate of either method, three seeds
    assert all(Path(run / link).is_file() for link in links)
