"""A run directory: whole records or none, and the manifest that says which belong to the suite.

```
DIR/run.json             title, suite, selection, the planned cell ids in order
DIR/records/<id>.json    one a cell
DIR/records/<id>.npz     its series (training loss, NLL per token), no pickle
DIR/records/<id>.safetensors   what was trained
DIR/records/<id>.checkpoint.safetensors   where a cell that was stopped goes on
DIR/records/damaged/     files that could not be read, set aside
```
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpabench.errors import InputError, NewerFormatError, RecordError, one_line
from qpabench.records.manifest import problem
from qpabench.records.record import Record, from_json, strict_json

Series = Mapping[str, NDArray[Any]]
SERIES, STATE = "npz", "safetensors"
MANIFEST_VERSION = 1
#: a small archive can unpack to any size
MOST_SERIES_BYTES = 2**30
RESUMABLE = ("timeout", "out-of-memory", "unavailable")  # a cell goes on once what stopped it is mended


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or as before.

    Args:
        path: the file.
        content: all of it.

    Raises:
        RecordError: the disk is full, or the folder can't be written to.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)  # noqa: PTH105 - same file system by construction
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise RecordError(
            f"{path}: cannot write ({error.strerror}); free space or allow writing, then run again"
        ) from error


class RunDirectory:
    """Reads and writes one run directory.

    Args:
        root: the directory; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = root / "records"
        self._files: dict[str, Mapping[str, Mapping[str, Any]] | None] = {}

    def write(self, record: Record, series: Series | None = None, state: bytes | None = None) -> None:
        """Write a record, its series and state first, so that a record never lacks them.

        Its checkpoint goes, unless what stopped it can be mended: a limit raised, weights fetched.

        Args:
            record: the record.
            series: arrays by name.
            state: what was trained, as safetensors.
        """
        beside: dict[str, bytes] = {}
        if state is not None:
            beside[STATE] = state
        if series:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **series)  # type: ignore[arg-type]
            beside[SERIES] = buffer.getvalue()
        for ending, content in beside.items():
            write_atomically(self.records / f"{record.id}.{ending}", content)
        files = {ending: _told_apart_by(content) for ending, content in beside.items()}
        self._files[record.id] = files
        write_atomically(self.records / f"{record.id}.json", replace(record, files=files).to_json().encode())
        if record.status not in RESUMABLE:
            self.remove_checkpoint(record.id)

    def state_path(self, cell_id: str) -> Path:
        """Return where a cell's trained numbers are."""
        return self.records / f"{cell_id}.{STATE}"

    def state(self, cell_id: str) -> bytes | None:
        """Return what was trained, as safetensors; None when it isn't there.

        Raises:
            RecordError: it isn't what the record was written with.
        """
        return self._beside(cell_id, STATE)

    def checkpoint_path(self, cell_id: str) -> Path:
        """Return where a cell that runs keeps how far it is."""
        return self.records / f"{cell_id}.checkpoint.safetensors"

    def remove_checkpoint(self, cell_id: str) -> None:
        """Remove a cell's checkpoint, and what was left of one when its process was killed."""
        path = self.checkpoint_path(cell_id)
        with suppress(OSError):
            for file in [path, *self.records.glob(f".{path.name}.*.tmp")]:
                file.unlink(missing_ok=True)

    def read(self, cell_id: str) -> Record | None:
        """Return a cell's record, or None when there is none (a damaged one is set aside first)."""
        path = self.records / f"{cell_id}.json"
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            self.set_aside(path)
            raise RecordError(f"{path}: cannot read ({error}); set aside in records/damaged") from error
        try:
            record = from_json(text)
            if record.id != cell_id:
                raise RecordError(
                    f"found the record of cell {one_line(record.id, 60)!r}; delete it to run the cell again"
                )
        except NewerFormatError as error:
            raise NewerFormatError(f"{path}: {error}") from error
        except RecordError as error:
            self.set_aside(path)
            raise RecordError(f"{path}: {error}") from error
        self._files[cell_id] = record.files
        return record

    def set_aside_if_cut_short(self, record: Record) -> None:
        """Set a record and its file aside where that file has another size than it was written with.

        A file that was removed, to save space for instance, is missed only by whoever wants it.

        Raises:
            RecordError: it was set aside; the message names the file.
        """
        for ending, about in (record.files or {}).items():
            path = self.records / f"{record.id}.{ending}"
            if ending in (SERIES, STATE) and path.exists() and path.stat().st_size != about["bytes"]:
                found = path.stat().st_size
                for damaged in (path, self.records / f"{record.id}.json"):
                    self.set_aside(damaged)
                raise RecordError(
                    f"{path}: found {found} bytes, expected {about['bytes']}; set aside in records/damaged"
                )

    def read_all(self) -> tuple[list[Record], list[str]]:
        """Return the records of the planned cells in plan order, and a line for each damaged file."""
        records, damaged = [], []
        for cell_id in self.manifest()["cells"]:
            try:
                record = self.read(cell_id)
            except RecordError as error:
                damaged.append(str(error))
                continue
            if record is not None:
                records.append(record)
        return records, damaged

    def series(self, cell_id: str) -> dict[str, NDArray[Any]]:
        """Return a cell's series, empty when it has none.

        Raises:
            RecordError: the file is damaged.
        """
        content = self._beside(cell_id, SERIES)
        if content is None:
            return {}
        path = self.records / f"{cell_id}.{SERIES}"
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                size = sum(member.file_size for member in packed.infolist())
            if size > MOST_SERIES_BYTES:
                raise ValueError(f"{size} bytes, expected at most {MOST_SERIES_BYTES}")
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:
            raise RecordError(
                f"{path}: cannot read ({one_line(error)}); delete it and its record to run the cell again"
            ) from error

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write ``run.json``; it has at least ``suite``, ``title`` and ``cells``."""
        text = json.dumps(dict(manifest), indent=2, sort_keys=True) + "\n"
        write_atomically(self.root / "run.json", text.encode())

    def manifest(self) -> dict[str, Any]:
        """Return ``run.json``.

        Raises:
            InputError: the directory isn't a run directory.
        """
        path = self.root / "run.json"
        try:
            manifest = strict_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(
                f"{self.root}: found no run.json; expected a directory made by `qpabench run`"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: cannot read ({one_line(error)}); run the suite again to restore it"
            ) from error
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        if isinstance(version, int) and version > MANIFEST_VERSION:
            raise InputError(
                f"{path}: found schema_version {one_line(version, 40)}, this qpabench reads up to "
                f"{MANIFEST_VERSION}; upgrade qpabench"
            )
        if not isinstance(manifest, dict) or not isinstance(manifest.get("cells"), list):
            raise InputError(f"{path}: found no list of cell ids; run the suite again to restore it")
        if found := problem(manifest):
            raise InputError(f"{path}: {found}; run the suite again to restore it")
        return dict(manifest)

    def _beside(self, cell_id: str, ending: str) -> bytes | None:
        """Return a file beside a record, held against the record's hash of it."""
        if cell_id not in self._files:
            record = self.read(cell_id)
            self._files[cell_id] = None if record is None else record.files
        files = self._files[cell_id]
        if files is not None and ending not in files:
            return None  # an earlier run of the cell may have left one
        path = self.records / f"{cell_id}.{ending}"
        advice = "run the cell again with --fresh"
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            if files is None or ending == STATE:
                return None
            raise RecordError(f"{path}: is not there, though its record names it; {advice}") from error
        except OSError as error:
            raise RecordError(f"{path}: cannot read ({error.strerror}); {advice}") from error
        if files is not None and _told_apart_by(content)["sha256"] != files[ending]["sha256"]:
            raise RecordError(f"{path}: isn't the file its record was written with; {advice}")
        return content

    def set_aside(self, path: Path) -> None:
        """Move a file that can't be used to ``records/damaged``."""
        aside = self.records / "damaged" / path.name
        try:
            aside.parent.mkdir(exist_ok=True)
            os.replace(path, aside)  # noqa: PTH105
        except OSError as error:
            raise RecordError(f"{path}: damaged, and cannot be set aside ({error.strerror})") from error


def _told_apart_by(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
