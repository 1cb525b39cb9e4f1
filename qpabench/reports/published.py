"""What the paper prints, beside what was measured, and whether the two may be compared."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from qpabench.errors import QpabenchError
from qpabench.hooks.entries import (
    AnsatzEntry,
    GeneratorOptions,
    LayerShape,
    Ledger,
    ModelOptions,
    TargetOptions,
)
from qpabench.hooks.manager import Registry, load_registry
from qpabench.reports.groups import Context, Group

#: L and the ansatz of every published count
N_LAYERS = 8
ANSATZ = "ry"
METRICS = ("perplexity_padded", "train_seconds", "step_seconds")
#: under what name a record has it
MEASURED_AS = {"step_seconds": "step_seconds_median"}


@dataclass(frozen=True)
class Published:
    """One row of one table, for one model.

    Args:
        where, row, column: table or section, and its row and column, as printed.
        values: counts, perplexities and seconds, as printed.
        cell: model, target, generator and what else names the cell.
        suites: whose figure or table it belongs to.
    """

    where: str
    row: str
    column: str
    values: Mapping[str, float]
    cell: Mapping[str, Any]
    suites: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """The measured cell nearest to a published one.

    Args:
        group: its runs.
        apart: why the two can't be compared; empty when they can.
    """

    group: Group
    apart: tuple[str, ...]


@cache
def published() -> tuple[Published, ...]:
    """Return every printed number, in the order of the data file."""
    names = ("where", "row", "column", "cell", "suites")
    return tuple(
        Published(
            where=value["where"],
            row=value["row"],
            column=value["column"],
            values={k: float(v) for k, v in value.items() if k not in names},
            cell=value["cell"],
            suites=tuple(value["suites"]),
        )
        for value in _data()["value"]
    )


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(files("qpabench.reports").joinpath("published.toml").read_text(encoding="utf-8"))


@cache
def _registry() -> Registry:
    return load_registry()


def counted(value: Published) -> tuple[int, float] | None:
    """Count a published cell's trainable numbers anew.

    Returns:
        The count, and its share of the layer's d * V; None where the cell is a mean over several, or a
        plugin stands in the way.
    """
    found = _ledger(value)
    if found is None:
        return None
    ledger, shape = found
    ansatz = _registry().find("ansatz", ANSATZ).entry
    assert isinstance(ansatz, AnsatzEntry)
    n_theta = math.prod(ansatz.angles_shape(ledger.n_qubits, N_LAYERS)) if ledger.n_qubits else 0
    n_trainable = ledger.n_free + ledger.n_mapping + n_theta
    return n_trainable, n_trainable / math.prod(shape)


def ledger_of(value: Published) -> dict[str, float | None]:
    """Return a published cell's ``n_trainable`` and ``n_qubits``, counted anew; nothing of a mean."""
    found, anew = _ledger(value), counted(value)
    return {} if found is None or anew is None else {"n_trainable": anew[0], "n_qubits": found[0].n_qubits}


def family_of(model: str) -> str | None:
    """Return the published family that a model belongs to, None for any other or unknown one."""
    try:
        options = _registry().find("model", model).entry.options
    except QpabenchError:
        return None
    assert issubclass(options, ModelOptions)
    return options.family


def _ledger(value: Published) -> tuple[Ledger, tuple[int, int]] | None:
    cell = value.cell
    if cell["target"] == "lora" and "rank" not in cell:
        return None
    try:
        model = _registry().find("model", cell["model"]).entry.options()
        target = _registry().find("target", cell["target"]).entry.options(**_own(cell, ("rank",)))
        generator = (
            _registry().find("generator", cell["generator"]).entry.options(**_own(cell, ("chunk_size",)))
        )
        _registry().find("ansatz", ANSATZ)
    except QpabenchError:
        return None
    assert isinstance(model, ModelOptions)
    assert isinstance(target, TargetOptions)
    assert isinstance(generator, GeneratorOptions)
    shape = model.shape()
    assert shape is not None
    layer = LayerShape(*shape, n_positions=_data()["conditions"]["max_length"])
    return generator.ledger(target.specs(layer)), shape


def count_agrees(value: Published) -> str:
    """Say whether the count comes out: ``yes``, ``rounded`` (elsewhere the paper cuts), ``no``, or ""."""
    found = counted(value)
    if found is None:
        return ""
    if "n_trainable" in value.values:
        return "yes" if found[0] == value.values["n_trainable"] else "no"
    printed = value.values.get("parameters_percent")
    if printed is None:
        return ""
    percent = 100 * found[1]
    if math.isclose(math.floor(percent * 100 + 1e-9) / 100, printed):
        return "yes"
    return "rounded" if math.isclose(round(percent, 2), printed) else "no"


def nearest_measured(value: Published, contexts: Iterable[Context]) -> Measured | None:
    """Return the measured cell with the fewest differences from a published one.

    Args:
        value: what was published.
        contexts: of a run.

    Returns:
        The cell; None where no cell has the same target, generator, rank and chunk size.
    """
    found = [
        Measured(group, apart(value, group))
        for context in contexts
        for group in context.groups
        if _same(value, group)
    ]
    return min(found, key=lambda one: (len(one.apart), one.group.label)) if found else None


def apart(value: Published, group: Group) -> tuple[str, ...]:
    """Say in which conditions a measured cell differs from the published one."""
    conditions, cell = _data()["conditions"], group.cell
    options = cell.get("options") or {}
    dataset, train = options.get("dataset") or {}, options.get("train") or {}
    said: list[str] = []
    if cell.get("model") != value.cell["model"]:
        said.append(f"model {cell.get('model')}, not {value.cell['model']}")
    if cell.get("dataset") != conditions["dataset"]:
        said.append(f"text {cell.get('dataset')}, not {conditions['dataset']}")
    if dataset.get("max_length") != conditions["max_length"]:
        said.append(f"rows of {dataset.get('max_length')} tokens, not {conditions['max_length']}")
    for split in ("train", "test"):
        if dataset.get(f"{split}_rows") is not None:
            said.append(f"{dataset[f'{split}_rows']} {split} rows, not all")
    if cell.get("protocol") != conditions["protocol"]:
        said.append(f"protocol {cell.get('protocol')}, not {conditions['protocol']}")
    if train.get("loss") != conditions["loss"]:
        said.append(f"{train.get('loss')} loss, not {conditions['loss']}")
    if train.get("preset") != "paper":
        said.append("training settings of our own, not Tables 4 to 7")
    return tuple(said)


def _same(value: Published, group: Group) -> bool:
    cell, wanted = group.cell, value.cell
    options = cell.get("options") or {}
    target, generator = options.get("target") or {}, options.get("generator") or {}
    backend = options.get("backend") or {}
    plain = (
        generator.get("start", "random") == "random"
        and backend.get("shots") is None
        and backend.get("shots_per_state") is None
        and "device" not in backend
        and cell.get("ansatz") in (None, ANSATZ)
        and generator.get("n_layers", N_LAYERS) == N_LAYERS
    )
    return (
        plain
        and cell.get("target") == wanted["target"]
        and cell.get("generator") == wanted["generator"]
        and ("rank" not in wanted or target.get("rank") == wanted["rank"])
        and ("chunk_size" not in wanted or generator.get("chunk_size") == wanted["chunk_size"])
        # a mean over several cells has no cell of its own
        and (wanted["target"] != "lora" or "rank" in wanted)
    )


def _own(cell: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: cell[name] for name in names if name in cell}
