"""A calibration: measured once, kept for the machine it was measured on."""

import json
import sys
from pathlib import Path

import pytest
from commands import in_process
from written_suites import QPA, cells_of, write_suite

from qpabench.costs import kept, pieces

ROWS = ("dataset.train_rows=4", "dataset.validation_rows=1", "dataset.test_rows=3")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))


def test_what_is_measured_is_kept_and_plan_estimates_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = ["plan", str(write_suite(tmp_path, QPA)), *(f"--set={setting}" for setting in ROWS)]
    before = in_process(suite, capsys)
    assert "time and memory not estimated, 1 cell: this machine: not measured here yet" in before.out
    measured = in_process([*suite, "--calibrate"], capsys)
    assert "time and memory not estimated, 1 cell: how many parameters tiny-gpt2 has" in measured.out
    (cell,) = cells_of(tmp_path, QPA, settings=ROWS)
    found = kept.kept(kept_threads()).pieces
    wanted = {pieces.PROCESS, *(name(cell) for name in (pieces.head, pieces.generator, pieces.matmul))}
    assert set(found) == wanted | {pieces.circuit(cell)}
    assert not [piece for piece in found.values() if "failed" in piece]
    assert found[pieces.generator(cell)]["step"] > found[pieces.generator(cell)]["forward"] > 0


def kept_threads() -> int:
    from qpabench.running.executor import threads_for

    return threads_for(1)


@pytest.mark.parametrize("changed", ["cpu", "threads", "torch"])
def test_another_machine_has_nothing_kept(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept._keep(1, {"pieces": {"process": {"seconds": 1.0}}})
    assert kept.kept(1).pieces == {"process": {"seconds": 1.0}}
    here = kept.machine(1)
    monkeypatch.setattr(kept, "machine", lambda threads: here | {changed: "another"})
    assert kept.kept(1).pieces == {}


@pytest.mark.parametrize("content", ["", "[]", '{"pieces": 3}', "{"])
def test_a_damaged_file_is_as_none(content: str) -> None:
    kept._keep(1, {"pieces": {}})
    kept._path(1).write_text(content)
    assert kept.kept(1).pieces == {}


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "file"))
    kept._keep(1, {"pieces": {}})
    assert kept.kept(1).pieces == {}


def test_the_json_of_a_plan_says_why_there_is_no_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = in_process(["plan", str(write_suite(tmp_path, QPA)), "--json"], capsys)
    (row,) = json.loads(done.out)
    assert row["estimate"]["seconds"] is None
    assert "isn't known before it is read" in row["estimate"]["reason"]


def test_a_plan_does_not_import_torch(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from qpabench.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    )
    arguments = ["plan", str(write_suite(tmp_path, QPA))]
    assert subprocess.run([sys.executable, "-c", code, *arguments], check=False).returncode == 0
