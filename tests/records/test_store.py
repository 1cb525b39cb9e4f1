"""A run directory holds whole records or none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qpabench.errors import InputError, RecordError, StorageError
from qpabench.records import store
from qpabench.records.lookup import finished_lookup
from qpabench.records.record import Record, Status
from qpabench.records.store import RunDirectory, write_atomically

ID = "00112233445566aa"


def _record(**metrics: float) -> Record:
    return Record(cell={"id": ID, "label": "planted"}, status="ok", metrics=metrics)


def test_record_is_read_as_written(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record(perplexity_masked=38.5))
    assert RunDirectory(tmp_path).read(ID) == _record(perplexity_masked=38.5)


def test_absent_record_is_none(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).read(ID) is None


def test_series_is_read_as_written(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record(), {"train_loss": np.array([3.0, 2.0, 1.0])})
    np.testing.assert_array_equal(directory.series(ID)["train_loss"], [3.0, 2.0, 1.0])


def test_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, b"before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"


def test_interrupted_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError):
        write_atomically(tmp_path / "record.json", b"after")
    assert list(tmp_path.iterdir()) == []


def test_damaged_record_is_set_aside(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record())
    path = directory.records / f"{ID}.json"
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(RecordError, match="not JSON"):
        directory.read(ID)
    assert (directory.records / "damaged" / f"{ID}.json").exists()


def test_cell_with_damaged_record_counts_as_not_run(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.records.mkdir()
    (directory.records / f"{ID}.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match="set aside"):
        directory.read(ID)
    assert directory.read(ID) is None


def test_record_of_another_cell_is_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record())
    (directory.records / f"{ID}.json").rename(directory.records / f"{ID[::-1]}.json")
    with pytest.raises(RecordError, match=f"record of cell '{ID}'"):
        directory.read(ID[::-1])


def test_record_of_a_newer_format_stays_where_it_is(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.records.mkdir()
    path = directory.records / f"{ID}.json"
    path.write_text('{"schema_version": 99}', encoding="utf-8")
    with pytest.raises(RecordError, match="upgrade qpabench"):
        directory.read(ID)
    assert path.exists()


def test_damaged_series_names_its_file(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record(), {"train_loss": np.zeros(3)})
    (directory.records / f"{ID}.npz").write_bytes(b"no archive")
    with pytest.raises(RecordError, match=rf"{ID}\.npz"):
        directory.series(ID)


def test_pickled_series_is_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.records.mkdir()
    np.savez(directory.records / f"{ID}.npz", train_loss=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RecordError, match="cannot read"):
        directory.series(ID)


def test_series_of_another_run_is_named(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record(), {"train_loss": np.zeros(3)})
    np.savez_compressed(directory.records / f"{ID}.npz", train_loss=np.ones(3))
    with pytest.raises(RecordError, match=rf"{ID}\.npz: isn't the file its record was written with"):
        RunDirectory(tmp_path).series(ID)


def test_series_that_is_gone_is_named(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record(), {"train_loss": np.zeros(3)})
    (directory.records / f"{ID}.npz").unlink()
    with pytest.raises(RecordError, match=rf"{ID}\.npz: is not there, though its record names it"):
        directory.series(ID)


def test_series_of_an_earlier_run_of_the_cell_is_not_taken_for_its_own(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record(), {"train_loss": np.zeros(3)})
    directory.write(_record())
    assert RunDirectory(tmp_path).series(ID) == {}


def test_weights_of_another_run_are_named(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record(), state=b"trained")
    directory.state_path(ID).write_bytes(b"edited!")
    with pytest.raises(RecordError, match=rf"{ID}\.safetensors: isn't the file its record was written with"):
        RunDirectory(tmp_path).state(ID)


def test_series_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_SERIES_BYTES", 1000)
    directory = RunDirectory(tmp_path)
    directory.write(_record(), {"train_loss": np.zeros(10_000)})  # packed, it is far smaller
    with pytest.raises(RecordError, match="expected at most 1000"):
        directory.series(ID)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_cell_whose_file_was_cut_short_runs_again(tmp_path: Path, ending: str) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record(), {"train_loss": np.zeros(3)}, b"trained")
    path = directory.records / f"{ID}.{ending}"
    path.write_bytes(path.read_bytes()[:-2])
    notes: list[str] = []
    assert finished_lookup(RunDirectory(tmp_path), notes)(ID) is None
    assert (len(notes), path.name in notes[0]) == (1, True)
    assert {p.name for p in (directory.records / "damaged").iterdir()} >= {f"{ID}.json", path.name}


def test_cell_whose_weights_were_removed_stays_finished(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record(), state=b"trained")
    directory.state_path(ID).unlink()
    assert finished_lookup(RunDirectory(tmp_path), [])(ID) == ("ok", "")


def test_damage_is_told_from_a_newer_format_whatever_the_path_says(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "upgrade qpabench")
    directory.write(_record())
    path = directory.records / f"{ID}.json"
    path.write_text("upgrade", encoding="utf-8")
    assert finished_lookup(directory, [])(ID) is None
    assert not path.exists()


def test_folder_without_manifest_is_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no run\.json; expected a directory made by"):
        RunDirectory(tmp_path).manifest()


def test_manifest_of_a_newer_format_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 2, "suite": "x", "cells": []}', encoding="utf-8")
    with pytest.raises(InputError, match=r"schema_version 2.*upgrade qpabench"):
        RunDirectory(tmp_path).manifest()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("title", 3),
        ("version", -1),
        ("select", {"validation": 3}),
        ("verdict", {"margin_nats": "a\x1b", "families": []}),
        ("verdict", {"margin_nats": 0, "families": []}),
        ("verdict", {"margin_nats": 0.1, "families": [{"name": "q", "cell": [3], "against": []}]}),
        ("members", [{"name": "../x", "cells": []}]),
        ("figures", [{"x": 1, "y": []}]),
    ],
)
def test_manifest_with_a_wrong_type_is_refused_in_one_line(tmp_path: Path, key: str, value: Any) -> None:
    RunDirectory(tmp_path).write_manifest({"suite": "x", "cells": [ID], key: value})
    with pytest.raises(InputError, match=rf"run\.json: {key}.*: found .*; run the suite again") as refused:
        RunDirectory(tmp_path).manifest()
    assert str(refused.value).isprintable()


def test_manifest_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(InputError, match="cannot read"):
        RunDirectory(tmp_path).manifest()


@pytest.mark.parametrize("cells", ['["../../etc"]', '"0123"', "[1]", "{}", "null"])
def test_manifest_with_odd_cell_ids_is_refused(tmp_path: Path, cells: str) -> None:
    (tmp_path / "run.json").write_text(f'{{"suite": "x", "cells": {cells}}}', encoding="utf-8")
    with pytest.raises(InputError, match=r"no list of cell ids|cells\.0: found .*; run the suite again"):
        RunDirectory(tmp_path).manifest()


def test_read_all_names_damaged_files_and_keeps_the_rest(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(_record())
    (directory.records / f"{'f' * 16}.json").write_text("{", encoding="utf-8")
    directory.write_manifest({"suite": "x", "title": "x", "cells": [ID, "f" * 16, "e" * 16]})
    records, damaged = directory.read_all()
    assert ([r.id for r in records], len(damaged)) == ([ID], 1)


@pytest.mark.parametrize(
    ("status", "kept"), [("ok", False), ("failed", False), ("timeout", True), ("out-of-memory", True)]
)
def test_a_checkpoint_stays_where_a_limit_can_be_raised(status: Status, kept: bool, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    path = directory.checkpoint_path(ID)
    write_atomically(path, b"halfway")
    half_written = path.with_name(f".{path.name}.x.tmp")
    half_written.write_bytes(b"half")
    directory.write(Record({"id": ID}, status))
    assert path.exists() == half_written.exists() == kept
