"""Exported adapters against the cells they came from, loaded as their model card says."""

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from typer.testing import CliRunner
from written_suites import cells_of

from qpabench.cli import app
from qpabench.errors import InputError, RecordError
from qpabench.export import export
from qpabench.hooks.entries import LayerShape
from qpabench.hooks.manager import load_registry
from qpabench.models.options import TinyGpt2Options
from qpabench.models.tiny import load
from qpabench.records.record import Record
from qpabench.records.store import RunDirectory
from qpabench.training.build import build
from qpabench.training.live import features_of
from qpabench.training.loop import run_cell
from qpabench.training.plain_head import plain_logits

#: float32 on both sides; relative to the largest logit
TOLERANCE = 1e-5
TARGETS = {
    "lora": '{ name = "lora", rank = 2 }',
    "dora": '{ name = "dora", rank = 2 }',
    "inner dora": '{ name = "dora", rank = 2, target_modules = ["c_attn", "lm_head"] }',
    "prefix": '{ name = "prefix", length = 20 }',
    "literal prefix": '{ name = "prefix", length = 20, reading = "literal" }',
    "ffa": '{ name = "ffa", activation = "gelu" }',
    "inner ffa": '{ name = "ffa", target_modules = ["c_fc"] }',
}
DIRECT = '{ name = "direct", init = "normal" }'
FIXED = '{ name = "qpa", chunk_size = 64, n_layers = 2, basis_order = "fixed", start = "zero" }'
REDRAWN = '{ name = "qpa", chunk_size = 64, n_layers = 2 }'
Run = Callable[..., tuple[Path, Record, Any]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A function that trains one cell on a model in a folder and keeps its record as a run does."""

    def train(target: str, generator: str = DIRECT, *settings: str) -> tuple[Path, Record, Any]:
        model = load(TinyGpt2Options())
        model.module.save_pretrained(tmp_path / "base")  # type: ignore[operator]
        model.tokenizer.save_pretrained(tmp_path / "base")
        body = f"\n[[matrix]]\ntarget = {target}\ngenerator = {generator}\n"
        named = ("model.name=huggingface", f'model.path="{(tmp_path / "base").as_posix()}"')
        learning = ("train.learning_rate=3e-3", *settings)
        cell = cells_of(tmp_path, body, (*named, *learning))[0]
        result = run_cell(cell, features_of(cell))
        directory = RunDirectory(tmp_path / "run")
        record = Record(cell.to_json(), "ok", metrics=result.metrics)
        directory.write(record, result.series, save(result.state))
        directory.write_manifest({"suite": "example", "title": "", "cells": [cell.id]})
        return tmp_path / "run", record, (cell, result.state)

    return train


def card_code(folder: Path) -> str:
    """The model card's own code, the folder's name filled in."""
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    assert found is not None
    return found[1].replace("path/of/this/folder", folder.as_posix())


def loaded_by_card(folder: Path) -> Any:
    with warnings.catch_warnings():
        # PEFT's advice against merging tied heads (not merged here), its choice of fan_in_fan_out, and its
        # use of an older name
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings", category=UserWarning)
        warnings.filterwarnings("ignore", message="fan_in_fan_out", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        names: dict[str, Any] = {}
        exec(card_code(folder), names)
    return names["model"].eval()


def cell_logits(cell: Any, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of the trained cell on its first test rows, and those rows."""
    features = features_of(cell)
    d_out, d_in = features.weight.shape
    built = build(cell, LayerShape(d_in, d_out, 32), features.layers())
    built.generator.load_state_dict(state)
    built.target.prepare(features.weight)
    test = features.splits["test"]
    assert test.ids is not None
    assert test.attention is not None
    positions = torch.nonzero(test.row < 3).squeeze(1)
    with torch.no_grad():
        factors = features.factors(built.target, test, positions, built.generator(), None)
        logits = plain_logits(factors, features.weight, None, None)
    return logits, test.ids[:3], test.attention[:3]


def difference(folder: Path, cell: Any, state: dict[str, torch.Tensor]) -> float:
    """Largest difference of the loaded adapter's logits from the cell's, relative to the largest."""
    expected, ids, attention = cell_logits(cell, state)
    with torch.no_grad():
        found = loaded_by_card(folder)(input_ids=ids, attention_mask=attention).logits[:, :-1].flatten(0, 1)
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("generator", [DIRECT, FIXED], ids=["direct", "qpa"])
@pytest.mark.parametrize("target", TARGETS)
def test_loaded_adapter_has_the_logits_of_the_cell(
    run: Run, tmp_path: Path, target: str, generator: str
) -> None:
    root, record, trained = run(TARGETS[target], generator)
    done = export(root, record.id, tmp_path / "adapter", load_registry())
    assert difference(tmp_path / "adapter", *trained) < TOLERANCE
    assert done.metrics is None


def test_peft_checkpoint_is_standard(run: Run, tmp_path: Path) -> None:
    root, record, _ = run(TARGETS["dora"])
    export(root, record.id, tmp_path / "adapter", load_registry())
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_dora"]) == (2, 4, True)
    assert config["target_modules"] == ["lm_head"]
    assert sorted(load_file(tmp_path / "adapter" / "adapter_model.safetensors")) == [
        "base_model.model.lm_head.lora_A.weight",
        "base_model.model.lm_head.lora_B.weight",
        "base_model.model.lm_head.lora_magnitude_vector",
    ]


def test_tied_head_and_embedding_are_left_alone(run: Run, tmp_path: Path) -> None:
    root, record, _ = run(TARGETS["lora"])
    export(root, record.id, tmp_path / "adapter", load_registry())
    model = loaded_by_card(tmp_path / "adapter")
    embedding = model.get_input_embeddings().weight
    assert torch.equal(embedding, load(TinyGpt2Options()).module.get_input_embeddings().weight)  # type: ignore[operator]
    assert model.get_output_embeddings().base_layer.weight is embedding


@pytest.mark.parametrize("target", ["lora", "prefix"])
def test_loads_where_qpabench_cannot_be_imported(run: Run, tmp_path: Path, target: str) -> None:
    root, record, trained = run(TARGETS[target])
    folder = tmp_path / "adapter"
    export(root, record.id, folder, load_registry())
    expected, ids, attention = cell_logits(*trained)
    torch.save((ids, attention), tmp_path / "rows.pt")
    blocked = ("qpabench", "torchquantum", "pennylane", "qiskit", "qiskit_aer")
    script = (
        f"import sys\nsys.modules |= dict.fromkeys({blocked!r})\n{card_code(folder)}\nimport torch\n"
        f"ids, attention = torch.load({str(tmp_path / 'rows.pt')!r})\n"
        "with torch.no_grad():\n    logits = model.eval()(input_ids=ids, attention_mask=attention).logits\n"
        f"torch.save(logits, {str(tmp_path / 'logits.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, cwd=tmp_path, capture_output=True)
    found = torch.load(tmp_path / "logits.pt")[:, :-1].flatten(0, 1)
    assert float((found - expected).abs().max() / expected.abs().max()) < TOLERANCE


def test_redrawn_basis_order_is_fixed_and_measured_again(run: Run, tmp_path: Path) -> None:
    root, record, (cell, _) = run(TARGETS["lora"], REDRAWN)
    assert cell.generator.options.basis_order == "redrawn"
    done = export(root, record.id, tmp_path / "adapter", load_registry())
    assert done.metrics is not None
    assert done.metrics["perplexity_padded"] != record.metrics["perplexity_padded"]
    card = (tmp_path / "adapter" / "README.md").read_text()
    for value in (record.metrics["perplexity_padded"], done.metrics["perplexity_padded"]):
        assert f"{value:.6g}" in card
    assert "index order" in card


def test_a_sampled_circuit_is_measured_again(run: Run, tmp_path: Path) -> None:
    shots = ("backend.name=native", "backend.shots=100", "generator.basis_order=fixed", "train.max_steps=1")
    root, record, _ = run(TARGETS["lora"], REDRAWN, *shots)
    assert export(root, record.id, tmp_path / "adapter", load_registry()).metrics is not None


def test_card_shows_the_base_the_protocol_and_the_seed(run: Run, tmp_path: Path) -> None:
    root, record, _ = run(TARGETS["ffa"])
    export(root, record.id, tmp_path / "adapter", load_registry())
    card = (tmp_path / "adapter" / "README.md").read_text()
    for name in (
        "perplexity_masked",
        "perplexity_padded",
        "base_perplexity_masked",
        "base_perplexity_padded",
    ):
        assert f"{record.metrics[name]:.6g}" in card
    assert "protocol `released-code`, seed 0" in card
    assert "`<layer>/up`: float32 [32, 8]" in card


@pytest.mark.parametrize("short", [True, False], ids=["beginning of the id", "label"])
def test_command_takes_a_short_id_or_a_label(run: Run, tmp_path: Path, short: bool) -> None:
    root, record, _ = run(TARGETS["lora"])
    name = record.id[:5] if short else record.label
    result = CliRunner().invoke(app, ["export", str(root), name, "--to", str(tmp_path / "adapter")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_unknown_cell_is_one_line(run: Run, tmp_path: Path) -> None:
    root, _, _ = run(TARGETS["lora"], DIRECT, "train.max_steps=1")
    with pytest.raises(InputError, match="cell 'zzz': none of the 1 cells"):
        export(root, "zzz", tmp_path / "adapter", load_registry())


def test_ambiguous_cell_is_one_line(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_manifest({"suite": "example", "title": "", "cells": ["a" * 16, "a" * 15 + "b"]})
    with pytest.raises(InputError, match=r"cell 'aaa': found 2 .* give an id"):
        export(tmp_path, "aaa", tmp_path / "adapter", load_registry())


def test_cell_that_failed_is_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_manifest({"suite": "example", "title": "", "cells": ["a" * 16]})
    directory.write(Record({"id": "a" * 16, "label": "x"}, "failed", "loss is nan"))
    with pytest.raises(RecordError, match=r"ended failed \(loss is nan\); expected ok"):
        export(tmp_path, "a", tmp_path / "adapter", load_registry())


def test_cell_without_a_record_is_refused(tmp_path: Path) -> None:
    RunDirectory(tmp_path).write_manifest({"suite": "example", "title": "", "cells": ["a" * 16]})
    with pytest.raises(RecordError, match="has no record yet"):
        export(tmp_path, "a", tmp_path / "adapter", load_registry())


@pytest.mark.parametrize("content", [None, b"cut"], ids=["absent", "damaged"])
def test_trained_numbers_absent_or_damaged(run: Run, tmp_path: Path, content: bytes | None) -> None:
    root, record, _ = run(TARGETS["lora"], DIRECT, "train.max_steps=1")
    path = RunDirectory(root).state_path(record.id)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordError, match=r"run the cell again with --fresh|its cell runs again"):
        export(root, record.id, tmp_path / "adapter", load_registry())


def test_folder_with_files_is_refused(run: Run, tmp_path: Path) -> None:
    root, record, _ = run(TARGETS["lora"], DIRECT, "train.max_steps=1")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        export(root, record.id, tmp_path, load_registry())
