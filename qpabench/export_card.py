"""The model card of an exported adapter: its numbers, how they were measured, how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qpabench.errors import one_line
from qpabench.records.record import Record

PERPLEXITIES = {
    "perplexity_masked": "masked perplexity (text positions only)",
    "perplexity_padded": "padded perplexity (padding scored too: the paper's)",
    "perplexity_strided": "strided perplexity (contiguous text)",
    "perplexity_word": "perplexity per word",
    "bits_per_byte": "bits per byte",
}


@dataclass(frozen=True)
class Numbers:
    """Metrics measured again with the exported numbers, and why.

    Args:
        metrics: None where the record's own are those of the exported numbers.
        redrawn: the cell draws its basis strings anew in every pass.
        sampled: its circuit's probabilities differ from pass to pass (shots, noise).
    """

    metrics: Mapping[str, float] | None
    redrawn: bool
    sampled: bool


def model_card(
    record: Record,
    *,
    base: str,
    loading: str,
    layers: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    loader: str | None,
    tied: bool,
    numbers: Numbers,
) -> str:
    """Return the card as Markdown.

    Args:
        record: of the cell.
        base: where transformers finds the base model, or its name in the suite.
        loading: code that loads the base model as ``base``.
        layers: the adapted layers.
        shapes: of one layer's tensors.
        loader: None for a PEFT checkpoint; else the target's ``adapt`` function.
        tied: whether the head shares its weight with the input embedding.
        numbers: what was measured again.
    """
    cell = record.cell
    front = [
        "---",
        f"base_model: {json.dumps(base)}",
        f"library_name: {'peft' if loader is None else 'transformers'}",
    ]
    front += ["tags:", "- qpabench", f"- {cell['target']}", "---"]
    parts = [
        "\n".join(front),
        f"# {cell['target']} by {cell['generator']} on {_code(base)}",
        f"Trained and measured by qpabench as the cell {_code(record.label)}, id `{record.id}`.",
        _measured(record, numbers),
        _settings(record),
        "## Loading",
        _peft_loader(loading) if loader is None else _plain_loader(loading, layers, shapes, loader),
    ]
    if tied:
        parts.append(
            "The base model's output layer shares its weight with the input embedding. The adapter stands "
            "beside that weight and leaves it alone; whoever merges it must untie and copy the weight first."
        )
    return "\n\n".join(parts) + "\n"


def _measured(record: Record, numbers: Numbers) -> str:
    again = numbers.metrics
    header = ["test rows", "trained cell", *(["this export"] if again is not None else []), "untrained base"]
    lines = [_row(header), _row(["---", *["---:"] * (len(header) - 1)])]
    for name, title in PERPLEXITIES.items():
        if name not in record.metrics:
            continue
        values = [record.metrics.get(name), *([again.get(name)] if again is not None else [])]
        values.append(record.metrics.get(f"base_{name}"))
        lines.append(_row([title, *("" if value is None else f"{value:.6g}" for value in values)]))
    text = "## Numbers\n\n" + "\n".join(lines)
    if numbers.redrawn:
        text += (
            "\n\nThe cell draws its basis strings anew at random in every forward pass, in testing too. An "
            "adapter is one set of numbers: it was exported with the basis strings in index order and "
            "measured again."
        )
    if numbers.sampled:
        text += (
            "\n\nThe probabilities of the cell's circuit differ from pass to pass (shots or noise). The "
            "adapter holds those of one pass and was measured again."
        )
    return text


def _settings(record: Record) -> str:
    cell = record.cell
    trained, generated = (int(record.metrics[name]) for name in ("n_trainable", "n_generated"))
    lines = [
        "## How it was made",
        "",
        f"- protocol {_code(cell['protocol'])}, seed {cell['seed']}",
        f"- base model {_code(cell['model'])} ({_code(cell['data']['model'])})",
        f"- dataset {_code(cell['dataset'])} ({_code(cell['data']['dataset'])})",
        f"- {trained:,} trained numbers give the {generated:,} of the target",
    ]
    for part in ("target", "generator", "train", "evaluate"):
        lines.append(f"- {part}: {_code(json.dumps(cell['options'][part], sort_keys=True))}")
    return "\n".join(lines)


def _peft_loader(loading: str) -> str:
    return _python(
        f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM

{loading}model = PeftModel.from_pretrained(base, "path/of/this/folder")
"""
    )


def _plain_loader(
    loading: str, layers: Sequence[str], shapes: Mapping[str, tuple[int, ...]], loader: str
) -> str:
    layout = "\n".join(f"- `<layer>/{name}`: float32 {list(shape)}" for name, shape in shapes.items())
    named = ", ".join(f"`{name}`" for name in layers)
    text = f"`adapter.safetensors` holds, for each adapted layer ({named}):\n\n{layout}\n\n"
    if not loader:
        return text + "The target that made it gives no loader."
    return (
        text
        + "They change what enters the frozen layer. Positions count from the first token passed: give whole "
        + "rows, without a key-value cache.\n\n"
        + _python(
            f"""\
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


{loader}

def attach(model, folder):
    saved = load_file(f"{{folder}}/adapter.safetensors")
    for layer in {{key.rpartition("/")[0] for key in saved}}:
        own = {{key.rpartition("/")[2]: saved[key] for key in saved if key.startswith(layer + "/")}}
        own = {{key: value.to(model.device) for key, value in own.items()}}
        hook = lambda module, args, own=own: (adapt(args[0], own),)
        model.get_submodule(layer).register_forward_pre_hook(hook)
    return model


{loading}model = attach(base, "path/of/this/folder")
"""
        )
    )


def _python(code: str) -> str:
    return f"```python\n{code}```"


def _code(text: object) -> str:
    return f"`{one_line(text, 2000).replace('`', chr(39))}`"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
