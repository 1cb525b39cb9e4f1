"""Planted records: numbers chosen by hand so that a test knows what a report must say. No model made them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpabench.records.record import Record
from qpabench.records.store import RunDirectory

BASE_MASKED = 40.0
BASE_PADDED = 30000.0
N_ROWS = 12
TOKENS_A_ROW = 20


def planted_id(label: str, seed: int = 0) -> str:
    return hashlib.sha256(f"{label}/{seed}".encode()).hexdigest()[:16]


def planted_cell(label: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    generator = changes.get("generator", "direct")
    circuit = generator != "direct"
    cell: dict[str, Any] = {
        "id": planted_id(label, seed),
        "label": label,
        "model": "planted-model",
        "dataset": "planted-text",
        "protocol": "released-code",
        "target": "lora",
        "generator": generator,
        "backend": "native" if circuit else None,
        "ansatz": "ry" if circuit else None,
        "n_qubits": 7 if circuit else None,
        "n_layers": 8 if circuit else None,
        "n_chunks": 98 if circuit else None,
        "chunk_size": 2048 if circuit else None,
        "n_generated": 199680,
        "n_trainable": 106264 if circuit else 199680,
        "n_theta": 56 if circuit else 0,
        "n_mapping": 106208 if circuit else 199680,
        "circuits_per_step": 1 if circuit else 0,
        "seed": seed,
        "options": {
            "model": {"device": "cpu", "dtype": "float32"},
            "dataset": {"max_length": 256, "train_rows": 96, "test_rows": N_ROWS},
            "target": {"rank": 4},
            "generator": {"start": "random"} if circuit else {},
            "backend": {"shots": None} if circuit else None,
            "train": {"epochs": 3, "learning_rate": 1e-3, "planted_as": label},
            "evaluate": {"batch_size": 2},
        },
        "behaviour_versions": {"target": 1, "generator": 1},
        "data": {"model": "sha256:planted-weights", "dataset": "sha256:planted-text"},
    }
    return cell | changes


def planted_record(
    label: str,
    masked: float = 38.0,
    padded: float = 4.0,
    *,
    seed: int = 0,
    metrics: Mapping[str, float] | None = None,
    alone: bool = True,
    without: tuple[str, ...] = (),
    timing: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Record:
    cell = planted_cell(label, seed, **changes)
    measured = {
        "perplexity_masked": masked,
        "perplexity_padded": padded,
        "base_perplexity_masked": BASE_MASKED,
        "base_perplexity_padded": BASE_PADDED,
        "step_seconds_median": 0.02,
        "train_seconds": 6.0,
        "peak_memory_bytes": 2.0**30,
        "padding_share_test": 0.72,
        "tokens_test": N_ROWS * TOKENS_A_ROW,
        "n_trainable": cell["n_trainable"],
    } | dict(metrics or {})
    phases = {
        "features": 3.0,
        "circuit": 0.4,
        "mapping": 0.3,
        "head": 2.5,
        "optimizer": 0.2,
        "evaluation": 1.5,
    }
    return Record(
        cell=cell,
        status="ok",
        metrics={name: value for name, value in measured.items() if name not in without},
        timing={"started_at": "2025-01-01T00:00:00+00:00", "alone": alone, "phases": phases}
        | dict(timing or {}),
        provenance={
            "versions": {"qpabench": "0.1.0", "torch": "2.6.0"},
            "commit": "0123abc",
            "hardware": {"cpu": "planted processor", "cores": 2},
            "threads": 2,
        },
    )


def planted_failure(
    label: str, status: Any = "failed", reason: str = "loss is not finite", **changes: Any
) -> Record:
    return Record(cell=planted_cell(label, **changes), status=status, reason=reason)


def planted_series(
    masked: float, *, spread: float = 0.05, steps: int = 120, key: int = 0
) -> dict[str, NDArray[Any]]:
    """Per-token NLL with exactly these mean values, and a falling training loss."""
    noise = np.random.default_rng(key)
    rows = np.repeat(np.arange(N_ROWS, dtype=np.int32), TOKENS_A_ROW)
    base = np.random.default_rng(99).normal(0, 1.0, rows.size)
    base += np.log(BASE_MASKED) - base.mean()
    change = noise.normal(0, spread, rows.size)
    nll = base + np.log(masked / BASE_MASKED) + change - change.mean()
    loss = 2 + 3 * np.exp(-np.arange(steps) / 40) + noise.normal(0, 0.3, steps)
    return {"train_loss": loss, "test_nll": nll, "test_row": rows, "base_test_nll": base}


def planted_run(
    root: Path, *records: Record, series: bool = True, cells: list[str] | None = None, **manifest: Any
) -> Path:
    directory = RunDirectory(root)
    for number, record in enumerate(records):
        masked = record.metrics.get("perplexity_masked")
        directory.write(record, planted_series(masked, key=number) if series and masked else None)
    directory.write_manifest(
        {
            "suite": "planted",
            "title": "Planted numbers",
            "version": 1,
            "schema_version": 1,
            "command": "qpabench run planted.toml",
            "cells": cells if cells is not None else [record.id for record in records],
        }
        | manifest
    )
    return root
