"""The ``[verdict]`` table: what it resolves to, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from written_suites import write_suite

from qpabench.errors import InputError
from qpabench.hooks.manager import load_registry
from qpabench.suite.plan import Plan, make_plan

BODY = """
[[matrix]]
target = { name = "lora", rank = 2 }
generator = [{ name = ["qpa", "uniform", "frozen"], chunk_size = 64, start = ["zero", "random"] }]
seeds = [0, 1, 2]
[[matrix]]
target = { name = "lora", rank = 2 }
generator = "direct"
train = { learning_rate = [1e-3, 1e-2] }
select = "validation"
"""
VERDICT = """
[verdict]
margin_nats = MARGIN
[[verdict.families]]
name = "the circuit"
cell = "CELL"
against = AGAINST
"""
QPA = "generator=qpa and generator.start=zero"


def plan_of(folder: Path, body: str = BODY, **changes: str) -> Plan:
    text = VERDICT
    usual = {"MARGIN": "0.01", "CELL": QPA, "AGAINST": '["generator=uniform", "generator=direct"]'}
    for key, value in {**usual, **changes}.items():
        text = text.replace(key, value)
    return make_plan(write_suite(folder, body + text), load_registry())


def ids(plan: Plan, **wanted: Any) -> list[str]:
    return [
        planned.cell.id
        for planned in plan.cells
        if all(planned.cell.summary()[key] == value for key, value in wanted.items())
    ]


def test_selections_become_cells(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    (family,) = plan.verdict["families"]
    assert plan.verdict["margin_nats"] == 0.01
    assert len(family["cell"]) == 3
    assert set(family["cell"]) < set(ids(plan, generator="qpa"))
    uniform_zero, uniform_random, direct = family["against"]
    assert {*uniform_zero, *uniform_random} == set(ids(plan, generator="uniform"))
    assert set(direct) == set(ids(plan, generator="direct"))  # both learning rates: one method


def test_a_suite_without_the_table_asks_nothing(tmp_path: Path) -> None:
    assert not make_plan(write_suite(tmp_path, BODY), load_registry()).verdict


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MARGIN": "0"}, r"verdict\.margin_nats: found 0, expected a positive number"),
        ({"MARGIN": "-0.1"}, r"verdict\.margin_nats: found -0\.1"),
        ({"MARGIN": "true"}, r"verdict\.margin_nats: found True"),
        ({"MARGIN": "nan"}, r"verdict\.margin_nats: found nan"),
        ({"CELL": "generator=qpa"}, r"families\[0\]\.cell: .* matches 2 methods, expected one; .*start"),
        ({"CELL": "generator=nothing"}, r"families\[0\]\.cell: 'generator=nothing' matches no cell"),
        ({"CELL": "= qpa"}, r"families\[0\]\.cell: .*cannot read from character 1"),
        ({"CELL": "genrator=qpa"}, r"families\[0\]\.cell: no cell has a field 'genrator'"),
        ({"AGAINST": f'"{QPA}"'}, r"families\[0\]\.against: matches only the method itself"),
        ({"AGAINST": "[]"}, r"families\[0\]\.against: found \[\]"),
        ({"AGAINST": "3"}, r"families\[0\]\.against: found 3"),
        ({"name = ": "nme = "}, r"families\[0\]\.nme: unknown key; did you mean 'name'"),
        ({"margin_nats": "margin"}, r"verdict\.margin: unknown key; did you mean 'margin_nats'"),
    ],
)
def test_wrong_input_is_one_line(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plan_of(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ('protocol = "paper-text"', "protocol"),
        ('model = { name = "tiny-gpt2", seed = 3 }', "model"),
        ("evaluate = { batch_size = 5 }", "evaluate"),
    ],
)
def test_methods_that_measure_something_else_are_refused(tmp_path: Path, other: str, field: str) -> None:
    body = BODY.replace('generator = "direct"', f'generator = "direct"\n{other}')
    with pytest.raises(InputError, match=rf"families\[0\]: {field} differs: found .* expected the same"):
        plan_of(tmp_path, body)
