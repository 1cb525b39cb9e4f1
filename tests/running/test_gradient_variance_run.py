"""A suite with ``[variance]`` is run, resumed and reported as any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import in_process
from written_suites import QPA, write_suite

BODY = """
[variance]
draws = 3
tokens = 4

[[variance.circuits]]
ansatz = "ry"
n_qubits = 2
n_layers = 1
"""


def test_points_are_run_once_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite, out = write_suite(tmp_path, BODY + QPA), tmp_path / "run"
    command = ["run", str(suite), "--out", str(out)]
    done = in_process(command, capsys)
    assert done.code == 0, done.out + done.err
    assert "2 ok; report:" in done.out
    assert "gradient-variance.md" in done.out
    records = [json.loads(path.read_text()) for path in (out / "records").glob("*.json")]
    metrics = {name for record in records for name in record["metrics"]}
    wanted = {f"gradient_variance_{name}" for name in ("local", "global", "loss")}
    assert wanted <= metrics
    assert (out / "gradient-variance.md").exists()
    again = in_process(command, capsys)
    assert "2 cells, 0 to run" in again.out
