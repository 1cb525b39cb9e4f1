"""Qubits and trainable numbers of the plan against the published ones (Tables 8 and 9)."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qpabench.cli import app

#: chunk size -> (qubits, trainable numbers); LoRA of rank 4 on the output layer, 8 layers of RY
GPT2 = {
    256: (10, 47248),
    512: (9, 55656),
    1024: (8, 72512),
    2048: (7, 106264),
    4096: (6, 173808),
    8192: (5, 308936),
}
GEMMA_2B = {
    1024: (10, 72592),
    4096: (8, 173888),
    8192: (7, 309016),
    16258: (6, 575154),
    32768: (5, 1119944),
    65536: (4, 2201248),
}
#: r (d + V), Tables 8 and 9
DIRECT_PER_RANK = {"gpt2": 51025, "gemma-2b": 258048}
Planned = tuple[str, dict[int, tuple[int, int]], list[dict[str, Any]]]
SUITE = """
[suite]
name = "counts"
[defaults]
dataset = { name = "wikitext-2", path = "nowhere" }
[[matrix]]
model = "MODEL"
target = { name = "lora", rank = 4 }
generator = { name = "qpa", chunk_size = SIZES, n_layers = 8 }
ansatz = ["ry", "ryrz"]
[[matrix]]
model = "MODEL"
target = { name = "lora", rank = [1, 2, 4, 8, 16, 32] }
generator = "direct"
"""


@pytest.fixture(scope="module", params=[("gpt2", GPT2), ("gemma-2b", GEMMA_2B)], ids=["gpt2", "gemma-2b"])
def planned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    model, sizes = request.param
    folder = tmp_path_factory.mktemp("counts")
    suite = folder / "suite.toml"
    suite.write_text(SUITE.replace("MODEL", model).replace("SIZES", str(list(sizes))))
    result = CliRunner().invoke(app, ["plan", str(suite), "--json", "--out", str(folder / "run")])
    assert result.exit_code == 0, result.output
    return model, sizes, json.loads(result.stdout)


def test_qubits_are_the_published_ones(planned: Planned) -> None:
    _, sizes, cells = planned
    found = {cell["chunk_size"]: cell["n_qubits"] for cell in cells if cell["ansatz"] == "ry"}
    assert found == {size: qubits for size, (qubits, _) in sizes.items()}


def test_trainable_numbers_are_the_published_ones(planned: Planned) -> None:
    _, sizes, cells = planned
    found = {cell["chunk_size"]: cell["n_trainable"] for cell in cells if cell["ansatz"] == "ry"}
    assert found == {size: trainable for size, (_, trainable) in sizes.items()}


def test_two_rotations_a_layer_double_the_angles(planned: Planned) -> None:
    _, sizes, cells = planned
    found = {cell["chunk_size"]: cell["n_theta"] for cell in cells if cell["ansatz"] == "ryrz"}
    assert found == {size: 2 * 8 * qubits for size, (qubits, _) in sizes.items()}


def test_direct_lora_trains_rank_times_both_widths(planned: Planned) -> None:
    model, _, cells = planned
    found = [cell["n_trainable"] for cell in cells if cell["generator"] == "direct"]
    assert found == [DIRECT_PER_RANK[model] * rank for rank in (1, 2, 4, 8, 16, 32)]


def test_planning_writes_nothing(tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE.replace("MODEL", "gpt2").replace("SIZES", "[2048]"))
    CliRunner().invoke(app, ["plan", str(suite), "--out", str(tmp_path / "run")])
    assert [path.name for path in tmp_path.iterdir()] == ["suite.toml"]
