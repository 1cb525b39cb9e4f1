"""A trained cell as an adapter that loads without qpabench or any quantum package.

What PEFT knows (LoRA, DoRA) becomes a PEFT checkpoint; anything else becomes safetensors with a loader of a
few lines in the model card. The base model is never changed or merged into, so a tied head stays tied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from qpabench.errors import InputError, QpabenchError, RecordError, one_line
from qpabench.export_card import Numbers, model_card
from qpabench.hooks.entries import DatasetOptions, GeneratorOptions, LayerShape, ModelOptions
from qpabench.hooks.manager import Registry
from qpabench.records.record import Record
from qpabench.records.store import RunDirectory, write_atomically
from qpabench.suite.cell import Cell, cell_from_json
from qpabench.targets.layers import AdaptedLayers
from qpabench.targets.target import Target
from qpabench.training.build import Built, build
from qpabench.training.evaluate import measure
from qpabench.training.features import Features
from qpabench.training.live import LiveFeatures, features_of

Progress = Callable[[str, int, int], None]
PEFT_FILE, PLAIN_FILE = "adapter_model.safetensors", "adapter.safetensors"


@dataclass(frozen=True)
class Exported:
    """What an export gave.

    Args:
        record: of the cell.
        paths: the files written.
        metrics: measured again with the exported numbers; None where the cell's numbers are those.
    """

    record: Record
    paths: tuple[Path, ...]
    metrics: Mapping[str, float] | None


@dataclass(frozen=True)
class Layer:
    """One adapted layer: its name in the model, its target, frozen weight and exported tensors."""

    name: str
    target: Target
    weight: Tensor
    tensors: Mapping[str, Tensor]
    transposed: bool = False


def export(
    root: Path, wanted: str, to: Path, registry: Registry, progress: Progress | None = None
) -> Exported:
    """Write one cell's adapter.

    Args:
        root: a run directory.
        wanted: a cell's id, a unique beginning of it, or a unique label.
        to: the folder to write; new or empty.
        registry: where the cell's components are.
        progress: called with (what, done, total).

    Raises:
        InputError: no run directory, no or several such cells, files in the folder.
        RecordError: the cell didn't end ok, or its trained numbers are absent or damaged.
        UnavailableError: the base model can't be had here.
    """
    directory = RunDirectory(root)
    record = find_record(directory, wanted)
    if record.status != "ok":
        raise RecordError(
            f"cell {record.id} ended {record.status} ({one_line(record.reason, 200)}); expected ok; "
            "run it again with --retry-failed"
        )
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"--to {one_line(to, 200)}: found something there, expected a new or empty folder")
    state = _state(directory, record.id)
    cell = cell_from_json(record.cell, registry)
    assert isinstance(cell.generator.options, GeneratorOptions)
    still = cell.generator.options.held_still()
    redrawn = still != cell.generator.options
    features = features_of(cell, progress)
    built = _rebuilt(replace(cell, generator=replace(cell.generator, options=still)), features, state)
    with torch.no_grad():
        tensors, again = built.generator(), built.generator()
        sampled = any(not torch.equal(tensors[name], again[name]) for name in tensors)
        metrics = None
        if redrawn or sampled:
            metrics, _ = measure(features, built.target, lambda: tensors, cell.evaluate, redraws=False)
        layers = _layers(features, built.target, tensors)
        files = _files(cell, record, layers, features, Numbers(metrics, redrawn=redrawn, sampled=sampled))
    for name, content in files.items():
        write_atomically(to / name, content)
    return Exported(record, tuple(to / name for name in files), metrics)


def find_record(directory: RunDirectory, wanted: str) -> Record:
    """Return the one record of a run that an id, the beginning of one, or a label names.

    Raises:
        InputError: none or several.
        RecordError: it can't be read.
    """
    ids = list(dict.fromkeys(directory.manifest()["cells"]))
    found = [cell_id for cell_id in ids if wanted and cell_id.startswith(wanted)]
    if not found:
        found = [cell_id for cell_id in ids if _label(directory, cell_id) == wanted]
    shown = one_line(repr(wanted), 100)
    if not found:
        raise InputError(
            f"cell {shown}: none of the {len(ids)} cells of {one_line(directory.root, 100)} has such an id "
            "or label; results.csv lists both"
        )
    if len(found) > 1:
        raise InputError(
            f"cell {shown}: found {len(found)} ({', '.join(found[:4])}), expected one; give an id"
        )
    record = directory.read(found[0], thorough=True)
    if record is None:
        raise RecordError(f"cell {found[0]} has no record yet; run the suite first")
    return record


def _label(directory: RunDirectory, cell_id: str) -> str | None:
    try:
        record = directory.read(cell_id)
    except QpabenchError:
        return None
    return None if record is None else record.label


def _state(directory: RunDirectory, cell_id: str) -> dict[str, Tensor]:
    path = directory.state_path(cell_id)
    content = directory.state(cell_id)
    if content is None:
        raise RecordError(f"{path}: the trained numbers are not there; run the cell again with --fresh")
    try:
        return load(content)
    except SafetensorError as error:
        raise RecordError(
            f"{path}: cannot read ({one_line(error, 100)}); run the cell again with --fresh"
        ) from error


def _rebuilt(cell: Cell, features: Features, state: Mapping[str, Tensor]) -> Built:
    assert isinstance(cell.dataset.options, DatasetOptions)
    d_out, d_in = features.weight.shape
    layer = LayerShape(d_in, d_out, cell.dataset.options.max_length)
    built = build(cell, layer, features.layers(), features.weight.device)
    try:
        built.generator.load_state_dict(state)
    except RuntimeError as error:
        raise RecordError(
            f"the trained numbers of cell {cell.id} don't fit its generator ({one_line(error, 200)}); "
            "run the cell again with --fresh"
        ) from error
    built.generator.eval()
    built.target.prepare(features.weight)
    return built


def _layers(features: Features, target: Target, tensors: Mapping[str, Tensor]) -> list[Layer]:
    head = str(features.meta["head_name"])
    if not isinstance(features, LiveFeatures):
        return [Layer(head, target, features.weight, tensors)]
    assert isinstance(target, AdaptedLayers)
    layers = []
    for name, own in target.targets.items():
        inside = features.wrapped.get(name)
        weight = features.weight if inside is None else inside.weight
        real = head if inside is None else name
        transposed = inside is not None and not isinstance(inside.base, torch.nn.Linear)
        layers.append(Layer(real, own, weight.float(), target.tensors_of(name, tensors), transposed))
    return layers


def _files(
    cell: Cell, record: Record, layers: list[Layer], features: Features, numbers: Numbers
) -> dict[str, bytes]:
    assert isinstance(cell.model.options, ModelOptions)
    base = cell.model.options.source() or cell.model.name
    names = [layer.name for layer in layers]
    config = layers[0].target.peft_config()
    files: dict[str, bytes] = {}
    if config is None:
        plain = {f"{layer.name}/{key}": value for layer in layers for key, value in layer.tensors.items()}
        files[PLAIN_FILE] = _saved(plain)
    else:
        whole = {
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": any(layer.transposed for layer in layers),
            "inference_mode": True,
            "target_modules": names,
            "task_type": "CAUSAL_LM",
            **config,
        }
        files["adapter_config.json"] = (json.dumps(whole, indent=2, sort_keys=True) + "\n").encode()
        files[PEFT_FILE] = _saved(
            {
                f"base_model.model.{layer.name}.{key}": value
                for layer in layers
                for key, value in layer.target.peft_tensors(layer.weight, layer.tensors).items()
            }
        )
    card = model_card(
        record,
        base=base,
        loading=cell.model.options.loading(),
        layers=names,
        shapes={key: tuple(value.shape) for key, value in layers[0].tensors.items()},
        loader=None if config is not None else layers[0].target.loader,
        tied=bool(features.meta["tied"]),
        numbers=numbers,
    )
    files["README.md"] = card.encode()
    return files


def _saved(tensors: Mapping[str, Tensor]) -> bytes:
    whole: dict[str, Any] = {key: value.detach().float().cpu().contiguous() for key, value in tensors.items()}
    content: bytes = save(whole, metadata={"format": "pt"})
    return content
