"""Every perplexity against short scripts that use transformers (or torch) alone."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from written_suites import TEST, cells_of, write_texts

from qpabench.cache import cache_dir
from qpabench.models.options import TinyGpt2Options
from qpabench.models.tiny import load
from qpabench.suite.cell import Cell
from qpabench.training.features import ensure_features, open_features
from qpabench.training.loop import run_cell

LENGTH, CONTEXT, STRIDE, BATCH = 32, 24, 10, 3
#: float32 sums in another order
TOLERANCE = 1e-5
UNTRAINED = """
[[matrix]]
target = { name = "lora", rank = 2 }
generator = { name = "direct", init = "target" }
train = { epochs = 0 }
evaluate = { strided = true, context = 24, stride = 10, batch_size = 3 }
"""


def measured(cell: Cell) -> dict[str, float]:
    return run_cell(cell, open_features(ensure_features(cell))).metrics


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("texts")
    write_texts(found)
    # more bytes than characters, and a seventh row: the last batch of three is not full
    (found / "seven.txt").write_text(TEST + "Größe in µm .\n", encoding="utf-8")
    return found


def untrained(folder: Path, *settings: str) -> Cell:
    (cell,) = cells_of(folder, UNTRAINED, (f"dataset.test={folder.as_posix()}/seven.txt", *settings))
    return cell


@pytest.fixture(scope="module")
def metrics(folder: Path, training_cache: Path) -> dict[str, float]:
    """Of a LoRA that changes nothing, and of the base beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QPABENCH_CACHE", str(training_cache))
        return measured(untrained(folder))


@pytest.fixture(scope="module")
def script(folder: Path) -> dict[str, float]:
    """The same figures, the long way."""
    loaded = load(TinyGpt2Options())
    model, tokenizer = loaded.module, loaded.tokenizer
    lines = (folder / "seven.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    losses, masks = [], []
    with torch.no_grad():
        for line in lines:
            tokens = tokenizer(line)["input_ids"][:LENGTH]
            ids = torch.tensor([tokens + [tokenizer.eos_token_id] * (LENGTH - len(tokens))])
            mask = torch.tensor([[1] * len(tokens) + [0] * (LENGTH - len(tokens))])
            logits = model(input_ids=ids, attention_mask=mask).logits
            losses.append(F.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none"))
            masks.append(mask[0, 1:].bool())
    batches = [losses[start : start + BATCH] for start in range(0, len(losses), BATCH)]
    means = [torch.stack(batch).mean().item() for batch in batches]
    stream = tokenizer("\n".join(lines))["input_ids"]
    total, end = 0.0, 0
    with torch.no_grad():
        for begin in range(0, len(stream), STRIDE):
            stop = min(begin + CONTEXT, len(stream))
            ids = torch.tensor([stream[begin:stop]])
            labels = ids.clone()
            labels[:, : end - begin] = -100
            logits = model(ids).logits[:, :-1].flatten(0, 1)
            total += F.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum").item()
            end = stop
            if stop == len(stream):
                break
    text = "\n".join(lines)
    return {
        "perplexity_padded": math.exp(sum(means) / len(means)),
        "perplexity_masked": math.exp(torch.cat(losses)[torch.cat(masks)].mean().item()),
        "perplexity_strided": math.exp(total / (len(stream) - 1)),
        "perplexity_word": math.exp(total / len(text.split())),
        "bits_per_byte": total / math.log(2) / len(text.encode()),
    }


FIGURES = ("perplexity_padded", "perplexity_masked", "perplexity_strided", "perplexity_word", "bits_per_byte")


@pytest.mark.parametrize("name", FIGURES)
def test_the_base_figure_is_that_of_the_script(
    name: str, metrics: dict[str, float], script: dict[str, float]
) -> None:
    assert metrics[f"base_{name}"] == pytest.approx(script[name], rel=TOLERANCE)


@pytest.mark.parametrize("name", FIGURES)
def test_a_lora_that_changes_nothing_measures_as_the_base(name: str, metrics: dict[str, float]) -> None:
    assert metrics[name] == pytest.approx(metrics[f"base_{name}"], rel=TOLERANCE)


def test_training_leaves_the_base_figures_alone(folder: Path, metrics: dict[str, float]) -> None:
    trained = measured(untrained(folder, "train.epochs=4", "train.learning_rate=0.05"))
    base = {name: value for name, value in metrics.items() if name.startswith("base_")}
    assert len(base) == len(FIGURES)
    assert {name: trained[name] for name in base} == base
    assert trained["perplexity_padded"] < 0.9 * base["base_perplexity_padded"]


@pytest.mark.parametrize("name", ["perplexity_padded", "perplexity_masked"])
def test_validation_is_measured_on_its_own_rows(name: str, folder: Path, script: dict[str, float]) -> None:
    (cell,) = cells_of(folder, UNTRAINED, (f"dataset.validation={folder.as_posix()}/seven.txt",))
    found = measured(cell)
    assert found[f"base_validation_{name}"] == pytest.approx(script[name], rel=TOLERANCE)
    assert found[f"validation_{name}"] == pytest.approx(script[name], rel=TOLERANCE)


def test_the_share_of_padding_is_counted_over_scored_positions(
    metrics: dict[str, float], folder: Path
) -> None:
    lines = (folder / "seven.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    text = sum(max(0, min(len(line.encode()), LENGTH) - 1) for line in lines)  # one byte, one token
    assert metrics["padding_share_test"] == pytest.approx(1 - text / (len(lines) * (LENGTH - 1)))


def peft_model(module: Any, state: dict[str, torch.Tensor]) -> Any:
    head = module.get_output_embeddings()
    update = 2.0 * state["values.lora_B"] @ state["values.lora_A"]
    module.set_output_embeddings(torch.nn.Linear(head.in_features, head.out_features, bias=False))
    with torch.no_grad():
        module.get_output_embeddings().weight.copy_(head.weight + update)
    return module


def test_a_trained_lora_merged_into_the_model_measures_the_same(folder: Path) -> None:
    """The whole chain of features, factors and losses against the changed model run as a whole."""
    body = (
        '[[matrix]]\ntarget = { name = "lora", rank = 2 }\ngenerator = { name = "direct", init = "target" }\n'
    )
    (cell,) = cells_of(folder, body, ("train.learning_rate=0.05", "train.epochs=4", "train.loss=masked"))
    result = run_cell(cell, open_features(ensure_features(cell)))
    loaded = load(TinyGpt2Options())
    model = peft_model(loaded.module, result.state)
    total, count = 0.0, 0
    for line in (folder / "test.txt").read_text(encoding="utf-8").split("\n"):
        tokens = loaded.tokenizer(line)["input_ids"][:LENGTH]
        if len(tokens) > 1:
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0, :-1]
            total += F.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="sum").item()
            count += len(tokens) - 1
    assert math.exp(total / count) == pytest.approx(result.metrics["perplexity_masked"], rel=TOLERANCE)
    assert result.metrics["perplexity_masked"] < 0.9 * result.metrics["base_perplexity_masked"]


#: of the acceptance: the two round differently (rows alone here, in batches with padding there)
SMOLLM2_TOLERANCE = 1e-3
SMOLLM2 = """
[[matrix]]
model = "smollm2-135m"
dataset = { name = "wikipedia-sample", max_length = 64, train_rows = 1, validation_rows = 1, test_rows = 8 }
target = { name = "lora", rank = 1 }
generator = { name = "direct", init = "target" }
train = { epochs = 0 }
"""


@pytest.mark.model
def test_untrained_smollm2_has_the_masked_perplexity_of_transformers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QPABENCH_CACHE")  # the converted weights are kept for all tests
    (cell,) = cells_of(tmp_path, SMOLLM2)
    lacking = [choice.options.missing() for choice in cell.choices if choice.options.missing()]
    if lacking:
        pytest.skip(lacking[0])
    cell.model.entry.component()(cell.model.options)
    (weights,) = (cache_dir() / "smollm2-135m").glob("*-1")
    lines = cell.dataset.entry.component()(cell.dataset.options).test
    fresh = tmp_path / "cache"
    fresh.mkdir()
    (fresh / "smollm2-135m").symlink_to(weights.parent)
    (fresh / "wikipedia-sample").symlink_to(cache_dir() / "wikipedia-sample")
    monkeypatch.setenv("QPABENCH_CACHE", str(fresh))
    found = measured(cell)["base_perplexity_masked"]

    # the script: transformers alone, row by row, nothing padded
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()
    total, count = 0.0, 0
    for line in [lines[index * len(lines) // 8] for index in range(8)]:
        ids = tokenizer(line, return_tensors="pt", truncation=True, max_length=64).input_ids
        if ids.shape[1] > 1:
            with torch.no_grad():
                total += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    assert found == pytest.approx(math.exp(total / count), rel=SMOLLM2_TOLERANCE)
