"""The arithmetic of an estimate, on planted measurements."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_suites import DIRECT, QPA, cells_of

from qpabench.costs import pieces
from qpabench.costs.estimate import Cost, costs
from qpabench.costs.kept import Calibration
from qpabench.suite.cell import Cell
from qpabench.training.keys import features_key

ROWS = ("dataset.train_rows=4", "dataset.validation_rows=1", "dataset.test_rows=3")
V, D = 257, 32
#: 1 ms of start and 0.1 ms a token to train, half of it to measure, for all 257 outputs
HEAD = {"outputs": V, "tokens": [10, 20], "train": [2e-3, 3e-3], "eval": [1e-3, 1.5e-3]}
GENERATOR = {"forward": 0.01, "step": 0.05}
PROCESS = {"seconds": 0.25, "bytes": 1000}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_features(cache: Path, cell: Cell, mask: list[list[int]]) -> None:
    folder = cache / "features" / features_key(cell)
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"rows": {"train": len(mask), "test": 3, "validation": 1}}))
    np.save(folder / "train_attention.npy", np.array(mask))


def planted(cell: Cell, circuit: dict[str, Any] | None = None) -> Calibration:
    found: dict[str, Any] = {
        pieces.PROCESS: PROCESS,
        pieces.head(cell): HEAD,
        pieces.generator(cell): GENERATOR,
        pieces.matmul(cell): {"flop_per_second": 1e9},
    }
    if key := pieces.circuit(cell):
        found[key] = circuit
    return Calibration(found)


def cost_of(cell: Cell, circuit: dict[str, Any] | None = None) -> Cost:
    (found,) = costs([cell], planted(cell, circuit))
    return found


def test_training_is_steps_times_head_and_generator(tmp_path: Path, empty_cache: Path) -> None:
    (cell,) = cells_of(tmp_path, settings=(*ROWS, "train.epochs=2", "train.batch_size=3"))
    put_features(empty_cache, cell, [[1] * 32] * 4)
    # 4 rows in batches of 3 are 2 steps an epoch; 4 rows of 31 positions in 2 steps
    assert cost_of(cell).train_seconds == pytest.approx(4 * (1e-3 + 1e-4 * 62 + 0.05))


@pytest.mark.parametrize(("budget", "a_token"), [("10000000", 1e-5), ("1000", 1e-4)])
def test_kept_logits_count_where_they_fit_the_budget(
    budget: str, a_token: float, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPABENCH_KEPT_LOGITS_BYTES", budget)
    (cell,) = cells_of(tmp_path, settings=ROWS)
    put_features(empty_cache, cell, [[1] * 32] * 4)
    quick = HEAD | {"kept": {"train": [1.1e-3, 1.2e-3], "eval": [1e-3, 1.1e-3]}}
    calibration = Calibration({**planted(cell).pieces, pieces.head(cell): quick})
    (found,) = costs([cell], calibration)
    assert found.train_seconds == pytest.approx(4 * (1e-3 + a_token * 31 + 0.05))


@pytest.mark.parametrize("loss", ["masked", "padded"])
def test_logits_kept_of_a_part_count_for_that_part(
    loss: str, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = cells_of(tmp_path, settings=(*ROWS, f"train.loss='{loss}'"))
    put_features(empty_cache, cell, [[1] * 9 + [0] * 23, [1] * 5 + [0] * 27])
    quick = HEAD | {"kept": {"train": [1.1e-3, 1.2e-3], "eval": [1e-3, 1.1e-3]}}
    calibration = Calibration({**planted(cell).pieces, pieces.head(cell): quick})
    found = {}
    for positions in (0, 12 + 3 * 31, 6 * 31):  # none; training text and the 3 test rows; all
        monkeypatch.setenv("QPABENCH_KEPT_LOGITS_BYTES", str(positions * V * 4))
        (found[positions],) = costs([cell], calibration)
    none, some, every = found.values()
    assert some.train_seconds == (every if loss == "masked" else none).train_seconds
    assert every.train_seconds < none.train_seconds
    saved = none.eval_seconds - every.eval_seconds  # of 3 test rows and 1 validation row
    assert none.eval_seconds - some.eval_seconds == pytest.approx(0.75 * saved)


def test_masked_training_counts_rows_and_positions_that_hold_text(tmp_path: Path, empty_cache: Path) -> None:
    (cell,) = cells_of(tmp_path, settings=(*ROWS, "train.loss='masked'"))
    put_features(empty_cache, cell, [[1] * 9 + [0] * 23, [1] * 5 + [0] * 27, [1] + [0] * 31])
    assert cost_of(cell).train_seconds == pytest.approx(2 * (1e-3 + 1e-4 * 6 + 0.05))
    assert not cost_of(cell).at_most


def test_evaluation_scores_every_position_and_draws_for_every_batch(
    tmp_path: Path, empty_cache: Path
) -> None:
    (cell,) = cells_of(tmp_path, QPA, settings=ROWS)
    put_features(empty_cache, cell, [[1] * 32] * 4)
    assert cell.ledger is not None
    size = [cell.ledger.n_qubits, cell.ledger.n_layers]
    found = cost_of(cell, {"forward": [[*size, 0.1]], "step": [[*size, 0.5]]})
    # 3 test rows and 1 validation row, 2 a draw: 3 draws for 4 * 31 positions
    assert found.eval_seconds == pytest.approx(3 * (0.5e-3 + 0.5e-4 * 4 * 31 / 3 + 0.01 + 0.1))
    assert found.train_seconds == pytest.approx(4 * (1e-3 + 1e-4 * 31 + 0.05 + 0.5))
    assert found.circuits == 4 + 3


def test_a_circuit_grows_with_qubits_and_repetitions_as_measured(tmp_path: Path, empty_cache: Path) -> None:
    cell, _ = cells_of(tmp_path, QPA.replace("n_layers = 2", "n_layers = [2, 3]"), settings=ROWS)
    put_features(empty_cache, cell, [[1] * 32] * 4)
    assert cell.ledger is not None
    n = int(cell.ledger.n_qubits or 0)
    # 3 s at (n + 1, 1), twice as much a qubit, as L to the power 1.5
    sizes = [(n + 1, 1), (n + 2, 1), (n + 1, 4), (n + 9, 1)]
    measured = [[q, layers, 3 * 2.0 ** (q - n - 1) * layers**1.5] for q, layers in sizes]
    measured[-1][2] = 1e9  # far away, so not looked at
    found = cost_of(cell, {"forward": measured, "step": measured})
    step = 1.5 * 2**1.5
    assert found.train_seconds == pytest.approx(4 * (1e-3 + 1e-4 * 31 + 0.05 + step))


def test_a_backend_measured_at_one_size_is_not_guessed_at_another(tmp_path: Path, empty_cache: Path) -> None:
    (cell,) = cells_of(tmp_path, QPA, settings=ROWS)
    put_features(empty_cache, cell, [[1] * 32] * 4)
    found = cost_of(cell, {"forward": [[1, 2, 1.0]], "step": [[1, 2, 1.0]]})
    assert found.unknown == "backend native isn't measured at 4 qubits and 2 repetitions"


def test_a_backend_that_refused_is_not_estimated_and_says_why(tmp_path: Path, empty_cache: Path) -> None:
    (cell,) = cells_of(tmp_path, QPA, settings=ROWS)
    put_features(empty_cache, cell, [[1] * 32] * 4)
    assert cost_of(cell, {"failed": "no such chip"}).unknown == "backend native: no such chip"


def test_nothing_is_estimated_before_it_is_measured(tmp_path: Path, empty_cache: Path) -> None:
    (cell,) = cells_of(tmp_path, DIRECT, settings=ROWS)
    put_features(empty_cache, cell, [[1] * 32] * 4)
    (found,) = costs([cell], Calibration())
    assert found.to_json()["seconds"] is None
    assert found.unknown == "this machine: not measured here yet"


def test_rows_that_nobody_counted_are_not_estimated(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, DIRECT)
    assert cost_of(cell).unknown.startswith("how many train rows text has isn't known before it is read")


HUB = """
[suite]
name = "hub"
[defaults]
model = "gpt2"
dataset = {{ name = "wikitext-2", train_rows = 10, validation_rows = 1, test_rows = 5, max_length = 101 }}
"""


def test_features_are_charged_once_at_the_rate_of_the_matrix_product(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(HUB.replace("{{", "{").replace("}}", "}") + DIRECT + "\n")
    cells = cells_from(tmp_path / "hub.toml", "seeds=[0, 1]")
    first, second = costs(cells, planted(cells[0]))
    # 16 rows of 101 tokens through what isn't the output layer; 6 rows of 100 positions scored by it
    backbone = 2 * (124_439_808 - 768 * 50257) * 16 * 101 / 1e9
    assert first.features_seconds == pytest.approx(backbone + (0.5e-3 + 0.5e-4 * 600) * 50257 / V)
    assert second.features_seconds == 0
    assert second.seconds == pytest.approx(first.seconds - first.features_seconds)


def test_memory_is_layer_features_exponentials_adapter_and_optimizer(
    tmp_path: Path, empty_cache: Path
) -> None:
    (cell,) = cells_of(tmp_path, settings=ROWS)
    put_features(empty_cache, cell, [[1] * 32] * 4)
    adapter = 2 * (D + V)
    numbers = D * V + D * (4 * 31 + 4 * 31) + 31 * V + 2 * adapter + 4 * adapter
    assert cost_of(cell).memory_bytes == 1000 + 4 * numbers


def test_a_search_of_angles_is_not_estimated(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, QPA, settings=(*ROWS, "train.theta_optimizer='cobyla'"))
    assert costs([cell], Calibration())[0].unknown == "a search by cobyla ends when it ends"


def cells_from(suite: Path, *settings: str) -> list[Cell]:
    from qpabench.hooks.manager import load_registry
    from qpabench.suite.plan import make_plan

    return [one.cell for one in make_plan(suite, load_registry(), settings=settings).cells]
