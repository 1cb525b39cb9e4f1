"""``[variance]`` in a suite: which points it asks for, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_suites import QPA, write_suite

from qpabench.errors import InputError
from qpabench.hooks.manager import load_registry
from qpabench.suite.plan import make_plan
from qpabench.suite.variance import Point, cell_of

GRID = """
[variance]
draws = 5

[[variance.circuits]]
ansatz = ["ry", "rx"]
n_qubits = [2, 3, 4]
n_layers = 2
"""


def points_in(folder: Path, body: str, **changes: str) -> list[Point]:
    plan = make_plan(write_suite(folder, body), load_registry(), **changes)  # type: ignore[arg-type]
    points = [planned.cell for planned in plan.cells]
    assert all(isinstance(point, Point) for point in points)
    return points  # type: ignore[return-value]


def test_circuits_are_crossed_and_cells_follow(tmp_path: Path) -> None:
    points = points_in(tmp_path, GRID + QPA)
    circuits = [(p.summary()["ansatz"], p.n_qubits, p.n_layers) for p in points if p.cell is None]
    assert circuits == [(name, n, 2) for name in ("ry", "rx") for n in (2, 3, 4)]
    (loss,) = [p for p in points if p.cell is not None]
    assert loss.observables == ("loss",)
    assert loss.summary()["n_theta"] == loss.cell.n_theta


def test_training_seeds_and_repeated_sizes_make_no_other_point(tmp_path: Path) -> None:
    twice = QPA + "train = { learning_rate = [1e-3, 1e-2] }\nseeds = [0, 1]\n"
    assert len(points_in(tmp_path, "[variance]\n" + twice)) == 1
    assert len(points_in(tmp_path, GRID.replace("[2, 3, 4]", "[2, 2, 3]"))) == 2 * 2


@pytest.mark.parametrize("change", [("draws = 5", "draws = 6"), ("draws = 5", "draws = 5\nseed = 1")])
def test_what_changes_the_numbers_changes_the_id(change: tuple[str, str], tmp_path: Path) -> None:
    before = {point.id for point in points_in(tmp_path, GRID)}
    assert before.isdisjoint(point.id for point in points_in(tmp_path, GRID.replace(*change)))


def test_a_profile_replaces_the_table(tmp_path: Path) -> None:
    small = "\n[profiles.small.variance]\n[[profiles.small.variance.circuits]]\n"
    small += 'ansatz = "ry"\nn_qubits = 2\nn_layers = 1\ndraws = 9\n'
    (point,) = points_in(tmp_path, GRID + small, profile="small")
    assert (point.n_qubits, point.draws) == (2, 9)


def test_the_cell_comes_back_out_of_a_record(tmp_path: Path) -> None:
    (point,) = points_in(tmp_path, "[variance]\n" + QPA)
    assert point.cell is not None
    assert cell_of(point.to_json(), load_registry()).id == point.cell.id


def test_a_generator_without_angles_is_unsupported(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "[variance]\n" + QPA.replace("qpa", "frozen"))
    (planned,) = make_plan(suite, load_registry()).cells
    assert planned.status == "unsupported"
    assert "trains no angles" in planned.reason


def test_only_selects_points(tmp_path: Path) -> None:
    points = points_in(tmp_path, GRID, only="ansatz=rx and n_qubits>=3")
    assert [(p.summary()["ansatz"], p.n_qubits) for p in points] == [("rx", 3), ("rx", 4)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("draws = 5", "draws = 1"), "variance.draws: found 1, expected a whole number from 2"),
        (("draws = 5", "draw = 5"), "did you mean 'draws'"),
        (("n_layers = 2", ""), "n_layers: missing"),
        (("n_layers = 2", "n_layers = []"), "empty axis"),
        (("n_qubits = [2, 3, 4]", "n_qubits = 40"), "found 40, expected a whole number from 1 to 20"),
        (("n_qubits = [2, 3, 4]", "n_qubits = true"), "found True"),
        (('["ry", "rx"]', '"rry"'), "rry"),
        (('["ry", "rx"]', "[1]"), "expected a name or a list of names"),
        (("n_layers = 2", 'n_layers = 2\nobservable = "lokal"'), "did you mean 'local'"),
        (("n_layers = 2", 'n_layers = 2\n[[figures]]\nx = "n_qubits"\ny = "n_theta"'), "a suite of its own"),
        (("[[variance.circuits]]", "[variance.circuits]"), "expected tables [[variance.circuits]]"),
    ],
)
def test_bad_input_is_one_clear_line(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    assert change[0] in GRID
    with pytest.raises(InputError) as refused:
        points_in(tmp_path, GRID.replace(*change))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_too_many_points_are_refused_with_their_count(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, GRID)
    with pytest.raises(InputError, match="cross to 6 points, expected at most 5"):
        make_plan(suite, load_registry(), max_cells=5)
