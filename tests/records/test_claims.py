"""A cell belongs to one process at a time, and its damaged files are set aside by nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from qpabench.errors import ClaimedError, DamagedError
from qpabench.records.record import Record
from qpabench.records.store import RunDirectory

ID = "00112233445566aa"


def _record() -> Record:
    return Record(cell={"id": ID, "label": "planted"}, status="ok")


def _written(root: Path) -> RunDirectory:
    directory = RunDirectory(root)
    directory.write(_record(), {"train_loss": np.zeros(3)}, b"weights")
    return directory


@pytest.mark.parametrize(("end", "damage"), [("npz", "missing"), ("npz", "other"), ("safetensors", "other")])
def test_record_whose_files_are_damaged_is_set_aside_with_them(tmp_path: Path, end: str, damage: str) -> None:
    directory = _written(tmp_path)
    path = directory.records / f"{ID}.{end}"
    path.unlink() if damage == "missing" else path.write_bytes(b"other")
    with pytest.raises(DamagedError, match=rf"{ID}\.{end}.*set aside"):
        directory.read(ID, thorough=True)
    assert directory.read(ID) is None
    assert (directory.records / "damaged" / f"{ID}.json").exists()


def test_record_with_whole_files_is_read(tmp_path: Path) -> None:
    assert _written(tmp_path).read(ID, thorough=True) is not None


def test_record_that_someone_is_writing_is_not_set_aside(tmp_path: Path) -> None:
    directory = _written(tmp_path)
    (directory.records / f"{ID}.npz").write_bytes(b"other")
    with _claimed_elsewhere(directory), pytest.raises(DamagedError, match="not set aside"):
        directory.read(ID, thorough=True)
    assert (directory.records / f"{ID}.json").exists()


def test_claimed_cell_is_refused_to_others(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with _claimed_elsewhere(directory), pytest.raises(ClaimedError), directory.claim(ID):
        pass


def test_claim_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with _claimed_elsewhere(directory):
        pass
    with directory.claim(ID):
        pass


@contextmanager
def _claimed_elsewhere(directory: RunDirectory) -> Iterator[None]:
    """Hold a cell's claim in another process; it is killed at the end."""
    code = (
        "import sys, time; from pathlib import Path; from qpabench.records.store import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).claim(sys.argv[2]): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(directory.root), ID]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.kill()


def test_left_over_temporary_files_are_swept(tmp_path: Path) -> None:
    directory = _written(tmp_path)
    old, new = directory.records / ".a.json.x.tmp", directory.records / ".b.json.y.tmp"
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (1e9, 1e9))
    directory.sweep()
    assert (old.exists(), new.exists()) == (False, True)
