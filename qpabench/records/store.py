"""A run directory: whole records or none, and the manifest that says which belong to the suite.

```
DIR/run.json             title, suite, selection, the planned cell ids in order
DIR/records/<id>.json    one a cell
DIR/records/<id>.npz     its series (training loss, NLL per token), no pickle
DIR/records/<id>.safetensors   what was trained
DIR/records/<id>.checkpoint.safetensors   where a cell that was stopped goes on
DIR/records/damaged/     records that are not what was written, set aside with what lies beside them
DIR/locks/<id>.lock      held by the process that is at work on the cell; empty
```
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from qpabench.errors import (
    ClaimedError,
    DamagedError,
    InputError,
    NewerFormatError,
    RecordError,
    StorageError,
    cause,
    one_line,
)
from qpabench.records.manifest import problem
from qpabench.records.record import Record, from_json, strict_json

Series = Mapping[str, NDArray[Any]]
SERIES, STATE = "npz", "safetensors"
MANIFEST_VERSION = 1
#: a small archive can unpack to any size
MOST_SERIES_BYTES = 2**30
RESUMABLE = ("timeout", "out-of-memory", "unavailable")  # a cell goes on once what stopped it is mended
#: temporary files older than this belong to nobody any more
LEFT_OVER_SECONDS = 3600.0


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or as before.

    Args:
        path: the file.
        content: all of it.

    Raises:
        StorageError: the disk is full, or the folder can't be written to.
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
        _keep_name(path.parent)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
        raise storage_error(path, "write", error) from error


def storage_error(path: Path, what: str, error: OSError) -> StorageError:
    """Return the error for a file that can't be read or written here."""
    advice = "allow reading" if what == "read" else "free space or allow writing"
    return StorageError(f"{path}: cannot {what} ({cause(error)}); {advice}, then run again")


def _keep_name(folder: Path) -> None:
    """Have a renamed file outlast a power cut, where the system can do so."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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

    @contextmanager
    def claim(self, cell_id: str) -> Iterator[None]:
        """Hold a cell, so that no other runner works on it; a dead holder's claim ends with its process.

        Raises:
            ClaimedError: another process holds it.
            StorageError: the lock can't be made.
        """
        path = self.root / "locks" / f"{cell_id}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0, is_singleton=True)  # one who holds it may claim it again
            lock.acquire()
        except Timeout as error:
            raise ClaimedError(f"another runner is at work on cell {cell_id}") from error
        except OSError as error:
            raise storage_error(path, "write", error) from error
        try:
            yield
        finally:
            lock.release()

    def stamp(self, cell_id: str) -> str | None:
        """Return what changes whenever a cell's record is written; None where there is none."""
        try:
            stat = (self.records / f"{cell_id}.json").stat()
        except OSError:
            return None
        return f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}"

    def read(self, cell_id: str, *, thorough: bool = False) -> Record | None:
        """Return a cell's record, or None when there is none.

        Args:
            cell_id: of a cell.
            thorough: look also at what lies beside the record.

        Raises:
            DamagedError: it isn't what was written; it has been set aside, unless someone is at work on it.
            NewerFormatError: a newer qpabench wrote it.
            StorageError: it may not be read.
        """
        try:
            return self._read(cell_id, thorough)
        except DamagedError as error:
            seen = error
        try:
            with self.claim(cell_id):  # or it is just being written
                try:
                    return self._read(cell_id, thorough)
                except DamagedError as error:
                    raise DamagedError(f"{error}; {self._set_all_aside(cell_id)}") from error
        except (ClaimedError, StorageError) as error:
            raise DamagedError(f"{seen}; not set aside ({error})") from error

    def _read(self, cell_id: str, thorough: bool) -> Record | None:
        path = self.records / f"{cell_id}.json"
        try:
            record = from_json(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise storage_error(path, "read", error) from error
        except (OSError, UnicodeDecodeError) as error:
            raise DamagedError(f"{path}: cannot read ({error})") from error
        except DamagedError as error:
            raise DamagedError(f"{path}: {error}") from error
        except NewerFormatError as error:
            raise NewerFormatError(f"{path}: {error}") from error
        if record.id != cell_id:
            raise DamagedError(f"{path}: found the record of cell {one_line(record.id, 60)!r}")
        self._files[cell_id] = record.files
        if thorough:
            for ending in (SERIES, STATE):
                self._compare(self.records / f"{cell_id}.{ending}", (record.files or {}).get(ending))
        return record

    def _compare(self, path: Path, about: Mapping[str, Any] | None) -> None:
        """Raise ``DamagedError`` where a file isn't what its record was written with.

        Weights that were removed, to save space for instance, are missed only by whoever wants them.
        """
        if about is None or (path.suffix == f".{STATE}" and not path.exists()):
            return
        try:
            with path.open("rb") as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == about["sha256"]
        except FileNotFoundError as error:
            raise DamagedError(f"{path}: is not there, though its record names it") from error
        except PermissionError as error:
            raise storage_error(path, "read", error) from error
        except OSError as error:
            raise DamagedError(f"{path}: cannot read ({error})") from error
        if not same:
            found = path.stat().st_size
            if found != about["bytes"]:
                raise DamagedError(f"{path}: found {found} bytes, expected {about['bytes']}")
            raise DamagedError(f"{path}: isn't the file its record was written with")

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
            raise RecordError(f"{path}: cannot read ({cause(error)}); {advice}") from error
        if files is not None and _told_apart_by(content)["sha256"] != files[ending]["sha256"]:
            raise RecordError(f"{path}: isn't the file its record was written with; {advice}")
        return content

    def sweep(self) -> None:
        """Remove what writers that were killed left behind long ago."""
        for folder in (self.root, self.records, self.root / "figures"):
            for left in folder.glob(".*.tmp"):
                with suppress(OSError):
                    if time.time() - left.stat().st_mtime > LEFT_OVER_SECONDS:
                        left.unlink()

    def set_aside(self, path: Path) -> None:
        """Move a file that can't be used to ``records/damaged``.

        Raises:
            StorageError: it can't be moved.
        """
        aside = self.records / "damaged" / path.name
        try:
            aside.parent.mkdir(exist_ok=True)
            os.replace(path, aside)  # noqa: PTH105
        except OSError as error:
            raise StorageError(f"{path}: damaged, and cannot be set aside ({cause(error)})") from error

    def _set_all_aside(self, cell_id: str) -> str:
        """Set a record aside, and after it what lies beside it; return what was done."""
        try:
            for path in (self.records / f"{cell_id}.{ending}" for ending in ("json", SERIES, STATE)):
                if path.exists():
                    self.set_aside(path)
        except StorageError as error:
            return str(error)
        return "set aside in records/damaged, its cell runs again"


def _told_apart_by(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
