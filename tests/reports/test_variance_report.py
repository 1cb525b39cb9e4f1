"""``gradient-variance.md`` of planted draws: the sentence says what was planted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qpabench.records.record import Record
from qpabench.records.store import RunDirectory
from qpabench.reports.report import write_report

QUBITS = (2, 4, 6, 8, 10, 12)
PAGE = "gradient-variance.md"


def plant(
    root: Path, variance: Callable[[int], float], *, shape: float = 2.0, protocol: str | None = None
) -> Path:
    """Write a run whose gradients have the given variance over qubits, one ansatz, L = 8."""
    directory, random = RunDirectory(root), np.random.default_rng(3)
    name = "local" if protocol is None else "loss"
    ids = []
    for n in QUBITS:
        cell_id = hashlib.sha256(f"{n}".encode()).hexdigest()[:16]
        cell = {
            "id": cell_id,
            "label": f"N = {n}",
            "ansatz": "ry",
            "protocol": protocol,
            "options": {"generator": {"chunk_size": 4096 // n}} if protocol else {},
            "gradients": {"observables": [name], "draws": 40, "cell": "0" * 16 if protocol else None},
        }
        squares = variance(n) * random.gamma(shape, 1 / shape, 40)
        metrics = {f"gradient_variance_{name}": squares.mean(), "n_qubits": n, "n_layers": 8}
        directory.write(Record(cell, "ok", "", metrics), {f"square_{name}": squares})
        ids.append(cell_id)
    directory.write_manifest({"suite": "planted", "title": "Planted", "cells": ids, "variance": True})
    return root


def page_of(root: Path) -> str:
    write_report(root)
    return (root / PAGE).read_text(encoding="utf-8")


def sentence_of(root: Path) -> str:
    return next(line for line in page_of(root).splitlines() if line.startswith("- **"))


def test_an_exponential_is_named_with_its_base_and_its_interval(tmp_path: Path) -> None:
    sentence = sentence_of(plant(tmp_path, lambda n: 2.0 ** (-2 * n)))
    assert "Local observable" in sentence
    assert "over qubits at L = 8" in sentence
    assert "exponential in N for ry (falls as 2^−2.0" in sentence
    assert "per qubit, AIC " in sentence


def test_a_power_is_named_with_its_exponent(tmp_path: Path) -> None:
    sentence = sentence_of(plant(tmp_path, lambda n: float(n) ** -3))
    assert "a power of N for ry (falls as N^−" in sentence


def test_draws_too_noisy_to_tell_are_said_to_be(tmp_path: Path) -> None:
    sentence = sentence_of(plant(tmp_path, lambda n: 2.0 ** (-0.1 * n), shape=0.03))
    assert "undecided" in sentence or "no trend" in sentence
    assert "falls as" not in sentence
    assert "by the median over draws" in sentence


def test_a_loss_is_named_by_its_protocol_whatever_its_chunk_size(tmp_path: Path) -> None:
    assert "Loss, paper-text, over qubits" in sentence_of(
        plant(tmp_path, lambda n: 2.0**-n, protocol="paper-text")
    )


def test_zero_gradients_are_left_out_and_named(tmp_path: Path) -> None:
    sentence = sentence_of(plant(tmp_path, lambda n: 0.0 if n == 12 else 2.0**-n))
    assert "Zero but for rounding, and left out of the fits: ry at N = 12." in sentence


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    root = plant(tmp_path, lambda n: 2.0**-n)
    first = {path: path.read_bytes() for path in write_report(root)}
    assert {path: path.read_bytes() for path in write_report(root)} == first
    assert {path.name for path in first} >= {PAGE, "variance-over-qubits.svg", "variance-over-qubits.png"}


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_draws_that_cannot_be_read_are_a_problem_by_name(damage: str, tmp_path: Path) -> None:
    root = plant(tmp_path, lambda n: 2.0**-n)
    series = sorted((root / "records").glob("*.npz"))[0]
    if damage == "gone":
        series.unlink()
    else:
        series.write_bytes(b"not an archive")
    assert "## Problems" in page_of(root)
