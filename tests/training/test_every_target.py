"""Each target by each generator, from the base model to a lower loss."""

from pathlib import Path

import pytest
from written_suites import cells_of

from qpabench.training.features import ensure_features, open_features
from qpabench.training.loop import Result, run_cell

TARGETS = {
    "lora": '{ name = "lora", rank = 2 }',
    "dora": '{ name = "dora", rank = 2 }',
    "prefix": '{ name = "prefix", length = 32 }',
    "ffa": '{ name = "ffa", activation = "gelu" }',
}
GENERATORS = {
    "direct": '{ name = "direct", init = "target" }',
    "qpa": '{ name = "qpa", chunk_size = 64, n_layers = 2, basis_order = "fixed", start = "zero" }',
}
#: float32 sums in another order
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))


def result_of(folder: Path, target: str, generator: str, *settings: str) -> Result:
    body = f"\n[[matrix]]\ntarget = {target}\ngenerator = {generator}\n"
    cell = cells_of(folder, body, settings)[0]
    return run_cell(cell, open_features(ensure_features(cell)))


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("target", TARGETS)
def test_untrained_is_the_base(tmp_path: Path, target: str, generator: str) -> None:
    found = result_of(tmp_path, TARGETS[target], GENERATORS[generator], "train.epochs=0").metrics
    assert found["perplexity_padded"] == pytest.approx(found["base_perplexity_padded"], rel=TOLERANCE)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("target", TARGETS)
def test_training_lowers_the_perplexity(tmp_path: Path, target: str, generator: str) -> None:
    settings = ("train.epochs=3", "train.learning_rate=3e-3")
    found = result_of(tmp_path, TARGETS[target], GENERATORS[generator], *settings).metrics
    assert found["perplexity_padded"] < found["base_perplexity_padded"]


@pytest.mark.parametrize("generator", GENERATORS)
def test_the_literal_prefix_trains_to_nothing(tmp_path: Path, generator: str) -> None:
    target = '{ name = "prefix", length = 32, reading = "literal" }'
    found = result_of(tmp_path, target, GENERATORS[generator], "train.learning_rate=0.1").metrics
    assert found["perplexity_padded"] == pytest.approx(found["base_perplexity_padded"], rel=TOLERANCE)
    assert found["n_generated"] == 32 * 32
